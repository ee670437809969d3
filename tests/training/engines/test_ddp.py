import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ltrsys.models.config import ModelConfig
from ltrsys.models.network import build_network
from ltrsys.training.checkpoints.checkpoint import Checkpoint, Progress
from ltrsys.training.config import TrainConfig
from ltrsys.training.engines.starting import start_engine
from ltrsys.training.supervision.process_group import process_group
from ltrsys.world import World
from tests.training.objectives import make_objective


@pytest.fixture(scope="module")
def device():
    with process_group(World(), timeout_seconds=60) as device:
        yield device


def make_engine(device, accumulation=1, **config):
    torch.manual_seed(0)
    network = build_network(ModelConfig(backbone="resnet10", stem="small"), 3).to(device)
    config = TrainConfig(**{"engine": "ddp", "precision": "float32"} | config)
    return start_engine(network, config, make_objective(device), accumulation=accumulation, micro_batch_size=2)


def make_batch(seed=0, size=2):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, 3, 8, 8, generator=generator), torch.arange(size) % 3


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.long
def test_weights_and_statistics_stay_float32_in_mixed_precision(device, precision):
    engine, exact = make_engine(device, precision=precision), make_engine(device)
    losses = [one.accumulate(*make_batch(), last=True) for one in (engine, exact)]
    engine.step(1.0)
    assert losses[0] == pytest.approx(losses[1].item(), abs=0.2)
    assert losses[0] != losses[1]
    assert {value.dtype for value in engine.network.state_dict().values() if value.is_floating_point()} == {
        torch.float32
    }


@pytest.mark.parametrize("precision", ["float32", "bf16", "fp16"])
@pytest.mark.long
def test_the_loss_is_given_float32_whatever_the_precision(device, precision, monkeypatch):
    given = []

    def objective(outputs, mixed):
        given.extend((outputs.logits_BC, outputs.features_BD))
        return outputs.logits_BC.square().mean()

    engine = make_engine(device, precision=precision)
    monkeypatch.setattr(engine, "objective", objective)
    engine.accumulate(*make_batch(), last=True)
    assert [(tuple(one.shape), one.dtype) for one in given] == [((2, 3), torch.float32), ((2, 512), torch.float32)]


@pytest.mark.long
def test_fp16_scales_the_loss_and_skips_a_step_whose_gradients_overflow(device):
    engine = make_engine(device, precision="fp16")
    assert engine.scaler_state()["scale"] > 1
    before = engine.network.classifier.weight.detach().clone()
    engine.load_scaler_state(engine.scaler_state() | {"scale": 1e38})
    engine.accumulate(*make_batch(), last=True)
    engine.step(1.0)
    assert torch.equal(engine.network.classifier.weight, before)
    assert engine.scaler_state()["scale"] == pytest.approx(0.5e38)


@pytest.mark.long
def test_the_state_of_loss_scaling_survives_a_checkpoint(device, tmp_path):
    engine = make_engine(device, precision="fp16")
    engine.load_scaler_state(engine.scaler_state() | {"scale": 64.0, "_growth_tracker": 7})
    progress = Progress(dataset="", config={}, micro_batch_size=2, world_size=1, scaler=engine.scaler_state())
    Checkpoint({}, {}, progress).save(tmp_path / "checkpoint.safetensors")
    resumed = make_engine(device, precision="fp16")
    resumed.load_scaler_state(Checkpoint.load(tmp_path / "checkpoint.safetensors").progress.scaler)
    assert resumed.scaler_state() == engine.scaler_state()
    resumed.accumulate(*make_batch(), last=True)
    resumed.step(1.0)  # torch refuses a growth interval that has become a float
    assert resumed.scaler_state()["_growth_tracker"] == 8


def test_accumulated_gradients_are_the_mean_over_the_micro_batches(device):
    whole, parts = make_engine(device), make_engine(device, accumulation=2)
    whole.network.eval()  # BatchNorm would see other groups
    parts.network.eval()
    batches = [make_batch(1), make_batch(2)]
    whole.accumulate(*(torch.cat(both) for both in zip(*batches, strict=True)), last=True)
    for batch in batches:
        parts.accumulate(*batch, last=batch is batches[-1])
    torch.testing.assert_close(
        parts.network.classifier.weight.grad, whole.network.classifier.weight.grad, rtol=1e-4, atol=1e-6
    )


def test_a_learning_rate_of_zero_leaves_the_weights_and_gradients_start_afresh(device):
    engine = make_engine(device)
    before = engine.network.classifier.weight.detach().clone()
    engine.accumulate(*make_batch(), last=True)
    engine.step(0.0)
    assert torch.equal(engine.network.classifier.weight, before)
    assert engine.network.classifier.weight.grad is None


def test_channels_last_reaches_the_weights_and_changes_nothing_else(device):
    plain, last = make_engine(device, channels_last=False), make_engine(device, channels_last=True)
    assert last.network.backbone.layer2[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
    batch = make_batch(size=8)  # BatchNorm over two values would divide rounding by their difference
    losses = [engine.accumulate(*batch, last=True).item() for engine in (plain, last)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_momentum_moves_from_one_engine_to_the_next(device):
    first = make_engine(device)
    assert first.optimizer_state() == {}
    first.accumulate(*make_batch(), last=True)
    first.step(1.0)
    second = make_engine(device)
    second.network.load_state_dict(first.network.state_dict())
    second.load_optimizer_state(first.optimizer_state())
    for engine in (first, second):
        engine.accumulate(*make_batch(3), last=True)
        engine.step(1.0)
    ours, theirs = first.network.state_dict(), second.network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.long
def test_a_compiled_network_hands_over_its_gradients_bucket_by_bucket(device, monkeypatch):
    """A ResNet-10 has 20 MB of them, and DDP's first bucket is 1 MB: more than one graph, so more than one end."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(DistributedDataParallel, "compile", lambda self: nn.Module.compile(self, backend=backend))
    engine = make_engine(device, compile=True)
    loss = engine.accumulate(*make_batch(), last=True)
    plain = make_engine(device).accumulate(*make_batch(), last=True)
    assert loss == pytest.approx(plain.item(), abs=1e-5)
    assert len(graphs) > 1


@pytest.mark.slow
def test_a_compiled_network_trains_as_the_plain_one(device):
    plain, compiled = make_engine(device), make_engine(device, compile=True)
    losses = [engine.accumulate(*make_batch(), last=True).item() for engine in (plain, compiled)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    assert compiled.network.state_dict().keys() == plain.network.state_dict().keys()
