"""What a step does not wait for. On a GPU each of these would drain its queue; here they can be counted."""

import pytest
import torch

from ltrsys.models.config import ModelConfig
from ltrsys.models.network import build_network
from ltrsys.training.config import TrainConfig
from ltrsys.training.engines.starting import start_engine
from ltrsys.training.supervision.requests import Request, Requests
from ltrsys.world import World
from tests.training.objectives import make_objective
from tests.training.steps import alone


@pytest.fixture
def device():
    with alone() as device:
        yield device


@pytest.mark.parametrize("engine", ["ddp", "deepspeed"])
def test_no_engine_synchronises_the_device(device, engine, monkeypatch):
    """DeepSpeed's throughput timer did, four times a step of two micro-batches."""
    from deepspeed.accelerator import get_accelerator

    network = build_network(ModelConfig(backbone="resnet10", stem="small"), 3).to(device)
    config = TrainConfig(engine=engine, precision="float32", channels_last=False)
    engine = start_engine(network, config, make_objective(device), accumulation=2, micro_batch_size=2)
    waited = []
    monkeypatch.setattr(type(get_accelerator()), "synchronize", lambda self, device_index=None: waited.append(1))
    for _ in range(4):
        for last in (False, True):
            engine.accumulate(torch.randn(2, 3, 8, 8), torch.tensor([0, 1]), last=last)
        engine.step(1.0)
    engine.close()
    assert waited == []


def test_the_ranks_agree_without_making_a_tensor(device, monkeypatch):
    """A tensor made of a Python number waits, on a GPU, for all that was queued before it."""
    requests = Requests(World(0, 2), device, minutes=None)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda flag, operation: None)  # the other rank asks nothing
    monkeypatch.setattr(torch, "tensor", lambda *arguments, **named: pytest.fail("a tensor was made of a number"))
    try:
        assert requests.agreed() is Request.NOTHING
        requests.fail()
        assert [requests.agreed(), requests.agreed()] == [Request.NOTHING, Request.FAIL]
        assert requests.agreed_at_once() is Request.FAIL
    finally:
        requests.close()
