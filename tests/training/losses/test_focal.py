import numpy as np
import pytest
import torch

from ltrsys.training.losses.base import Outputs
from tests.training.losses.cases import by_sample, of_label, outputs, probabilities


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_it_is_cross_entropy_times_a_power_of_what_is_missing(gamma):
    made = outputs()
    p = of_label(probabilities(made), made)
    np.testing.assert_allclose(
        by_sample("focal", made, gamma=gamma).detach(), -((1 - p) ** gamma) * np.log(p), rtol=1e-9
    )


def test_gamma_zero_is_cross_entropy_to_the_bit():
    torch.set_default_dtype(torch.float32)
    made = outputs(spread=50)
    assert torch.equal(by_sample("focal", made, gamma=0.0), by_sample("cross_entropy", made))


@pytest.mark.parametrize("lead", [12.0, 17.5, 1e3])
def test_what_is_all_but_certain_has_a_small_loss_and_a_finite_gradient(lead):
    torch.set_default_dtype(torch.float32)
    made = outputs()
    logits = torch.zeros(9, 5)
    logits[torch.arange(9), made.labels_B] = lead
    logits.requires_grad_()
    loss = by_sample("focal", Outputs(logits, made.features_BD, made.labels_B), gamma=0.5)
    missing = 1 / (1 + np.exp(min(lead, 700.0)) / 4)
    np.testing.assert_allclose(loss.detach(), missing**1.5, rtol=0.02, atol=1e-10)
    loss.sum().backward()
    assert logits.grad.isfinite().all()
