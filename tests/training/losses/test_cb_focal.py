import numpy as np
import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from tests.training.losses.cases import COUNTS, by_sample, objective, of_label, outputs, probabilities


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_the_sigmoid_form_is_torchvision_s_of_logits_less_the_log_of_the_other_classes(gamma):
    made = outputs()
    target = torch.nn.functional.one_hot(made.labels_B, 5).double()
    expected = sigmoid_focal_loss(made.logits_BC - np.log(4), target, alpha=-1, gamma=gamma).sum(dim=1)
    torch.testing.assert_close(by_sample("cb_focal", made, per_class="sigmoid", gamma=gamma), expected)


def test_the_sigmoid_form_by_hand():
    """Two classes, so a prior of 0; logits log 3 and 0 for label 0: p = 3/4 and 1/2."""
    made = outputs(counts=np.array([3, 1]), size=1)
    made = type(made)(torch.tensor([[np.log(3), 0.0]]), made.features_BD, torch.tensor([0]))
    loss = by_sample("cb_focal", made, np.array([3, 1]), per_class="sigmoid", gamma=2.0)
    assert float(loss) == pytest.approx(-(0.25**2) * np.log(0.75) - 0.5**2 * np.log(0.5), rel=1e-12)


def test_all_of_it_is_focal_loss_weighted_by_effective_numbers():
    made, beta = outputs(), 0.9
    p = of_label(probabilities(made), made)
    weights = np.array([(1 - beta) / (1 - beta**count) if count else 0.0 for count in COUNTS])
    weights *= 4 / weights.sum()  # a mean of 1 over the four classes that have images
    expected = np.mean(weights[made.labels_B.numpy()] * -(1 - p) * np.log(p))
    assert float(objective("cb_focal", beta=beta)(made).detach()) == pytest.approx(expected, rel=1e-9)
