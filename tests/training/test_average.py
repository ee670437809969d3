"""The moving average of a network by itself; `tests/first_stage/test_fine_tuning.py` has it in a training."""

import math

import pytest
import torch

from ltrsys.models.config import ModelConfig
from ltrsys.models.network import build_network
from ltrsys.training.average import AverageNotFinite, average_of
from ltrsys.training.config import TrainConfig

DECAY = 0.5


@pytest.fixture
def network():
    torch.manual_seed(0)
    return build_network(ModelConfig(backbone="resnet10", stem="small"), 3)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.long
def test_weights_and_statistics_are_averaged_and_counters_copied(network, channels_last):
    average = average_of(network, TrainConfig(ema_decay=DECAY, channels_last=channels_last), 0)
    expected = {name: value.clone() for name, value in network.state_dict().items()}
    if channels_last:
        network.to(memory_format=torch.channels_last)
    for step in range(1, 6):
        network.train()(torch.randn(4, 3, 8, 8))  # which moves the statistics
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += torch.randn_like(parameter)
        average.update(network, step)
        decay = min(DECAY, 1 - step ** (-2 / 3))
        for name, value in network.state_dict().items():
            mean = decay * expected[name] + (1 - decay) * value
            expected[name] = mean if value.is_floating_point() else value.clone()
    assert decay == DECAY  # reached after the third step
    torch.testing.assert_close(average.state(), expected)
    assert not average.network.training
    assert not any(parameter.requires_grad for parameter in average.network.parameters())


def test_there_is_none_unless_it_is_asked_for(network):
    assert average_of(network, TrainConfig(), 0) is None


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_stays_and_is_named(network, value):
    average = average_of(network, TrainConfig(ema_decay=DECAY), 3)
    average.check(1)
    with torch.no_grad():
        network.classifier.bias[1] = value
        average.update(network, 1)
        network.classifier.bias[1] = 0
        average.update(network, 2)
    with pytest.raises(AverageNotFinite, match=r"step 2: .* not finite on rank 3, `classifier\.bias` among them"):
        average.check(2)
