import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.training.losses.cases import by_sample, objective, of_label, outputs, probabilities


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_it_is_minus_the_log_of_the_probability_of_the_smoothed_label(smoothing):
    made = outputs()
    log_p = np.log(probabilities(made))
    expected = -(1 - smoothing) * of_label(log_p, made) - smoothing * log_p.mean(axis=1)
    np.testing.assert_allclose(by_sample("cross_entropy", made, smoothing=smoothing).detach(), expected, rtol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_its_mean_has_the_bits_of_torch_s(smoothing):
    """Runs that were begun before losses were by sample go on to the same bits."""
    torch.set_default_dtype(torch.float32)
    ours, theirs = outputs(1, size=48), outputs(1, size=48)
    value = objective("cross_entropy", smoothing=smoothing)(ours)
    expected = functional.cross_entropy(theirs.logits_BC, theirs.labels_B, label_smoothing=smoothing)
    assert torch.equal(value, expected)
    value.backward()
    expected.backward()
    assert torch.equal(ours.logits_BC.grad, theirs.logits_BC.grad)
