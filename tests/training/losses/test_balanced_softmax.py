import numpy as np
import torch

from tests.training.losses.cases import COUNTS, by_sample, of_label, outputs


def test_it_is_a_softmax_in_which_a_class_counts_as_often_as_it_has_images():
    """A class of none counts as one of one image, so that it is learned to be predicted never."""
    made = outputs()
    powers = np.array([50, 20, 8, 1, 1]) * np.exp(made.logits_BC.detach().numpy())
    expected = -np.log(of_label(powers, made) / powers.sum(axis=1))
    np.testing.assert_allclose(by_sample("balanced_softmax", made).detach(), expected, rtol=1e-12)
    by_sample("balanced_softmax", made).sum().backward()
    assert (made.logits_BC.grad[:, 4] > 0).all()


def test_equally_many_images_are_cross_entropy():
    made = outputs()
    found = by_sample("balanced_softmax", made, np.full(5, 7))
    torch.testing.assert_close(found, by_sample("cross_entropy", made))


def test_it_is_logit_adjustment_with_tau_one():
    made = outputs(1)
    torch.testing.assert_close(
        by_sample("balanced_softmax", made, COUNTS), by_sample("logit_adjusted", made, COUNTS, tau=1.0)
    )
