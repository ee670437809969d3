import pytest
import torch

from ltrsys.config.reading import load_config
from ltrsys.errors import UsageError
from ltrsys.training.schedules.step import Step


def test_it_is_torch_s_own_stepped_after_every_epoch():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.2)
    schedule = Step(every=3, gamma=0.2)
    for step in range(10 * 4):
        expected = optimizer.param_groups[0]["lr"]
        assert schedule.factor(step, steps_per_epoch=4, epochs=10) == pytest.approx(expected, rel=1e-12)
        optimizer.step()
        if step % 4 == 3:
            theirs.step()


def test_a_tenth_after_ten_epochs_is_what_is_given_if_nothing_is_said():
    factors = [Step().factor(step, steps_per_epoch=7, epochs=30) for step in (0, 69, 70, 139, 140, 209)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.long
def test_a_config_names_it_and_its_keys_are_checked(write_config):
    path = write_config(train__schedule={"kind": "step", "every": 1})
    assert load_config(path).train.schedule == Step(every=1)
    with pytest.raises(UsageError, match=r"train\.schedule\.gamma.*less than or equal to 1"):
        load_config(path, ["train.schedule.gamma=10.0"])
