import torch

from ltrsys.data.loading.loader import LOOK_AHEAD_STEPS
from ltrsys.training.supervision.requests import LAG_STEPS, Request, Requests
from ltrsys.world import World
from tests.training.steps import alone


def test_images_are_read_far_enough_ahead_to_agree_on_an_end(monkeypatch):
    """A rank knows of bad data `LOOK_AHEAD_STEPS` before the step that has it, also where a checkpoint intervenes."""
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda flag, operation: None)  # the other rank asks nothing
    with alone() as device:
        requests = Requests(World(0, 2), device, minutes=None)
        try:
            requests.fail()
            requests.agreed()
            requests.granted()  # a checkpoint discards what has just been asked
            steps = 1
            while requests.agreed() is not Request.FAIL:
                steps += 1
        finally:
            requests.close()
    assert steps == 1 + LAG_STEPS < LOOK_AHEAD_STEPS
