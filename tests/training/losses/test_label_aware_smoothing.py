import numpy as np
import torch

from ltrsys.training.losses.label_aware_smoothing import LabelAwareSmoothing
from tests.training.losses.cases import COUNTS, by_sample, outputs, probabilities


def test_it_is_cross_entropy_with_targets_that_are_smoothed_by_class():
    made = outputs()
    smoothing = 0.05 + 0.35 * np.sin(np.pi / 2 * (np.array([50, 20, 8, 1, 1]) - 1) / 49)
    eps = smoothing[made.labels_B.numpy()][:, None]
    targets = np.where(np.eye(5)[made.labels_B.numpy()] == 1, 1 - eps, eps / 4)
    expected = -(targets * np.log(probabilities(made))).sum(axis=1)
    found = by_sample("label_aware_smoothing", made, head=0.4, tail=0.05)
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-12)


def test_smoothing_falls_from_head_to_tail_and_stays_near_the_head_at_first():
    smoothing = LabelAwareSmoothing().smoothing(np.array([101, 51, 1, 0]))
    np.testing.assert_allclose(smoothing, [0.3, 0.3 * np.sqrt(0.5), 0.0, 0.0])


def test_equally_many_images_are_smoothed_as_the_tail():
    made = outputs()
    found = by_sample("label_aware_smoothing", made, np.full(5, 7))
    torch.testing.assert_close(found, by_sample("cross_entropy", made))
    assert by_sample("label_aware_smoothing", made, COUNTS, head=0.0).equal(
        by_sample("label_aware_smoothing", made, COUNTS, head=0.0, tail=0.0)
    )
