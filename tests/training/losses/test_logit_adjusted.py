import numpy as np
import pytest
import torch

from tests.training.losses.cases import by_sample, of_label, outputs, probabilities


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_it_is_cross_entropy_of_logits_plus_the_log_of_the_frequencies(tau):
    made = outputs()
    frequencies = np.array([50, 20, 8, 1, 1]) / 80
    expected = -np.log(of_label(probabilities(made, tau * np.log(frequencies)), made))
    np.testing.assert_allclose(by_sample("logit_adjusted", made, tau=tau).detach(), expected, rtol=1e-12)


def test_tau_zero_is_cross_entropy():
    made = outputs()
    assert torch.equal(by_sample("logit_adjusted", made, tau=0.0), by_sample("cross_entropy", made))
