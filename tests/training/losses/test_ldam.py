import numpy as np
import torch

from ltrsys.training.losses.ldam import LDAM
from tests.training.losses.cases import COUNTS, by_sample, of_label, outputs


def test_it_is_cross_entropy_of_the_scaled_cosines_less_the_margin_of_the_label():
    made, scale = outputs(), 30.0
    cosines = torch.tanh(made.logits_BC.detach())
    scaled = type(made)(scale * cosines, made.features_BD, made.labels_B)
    margins = np.array([0.5 * (1 / count) ** 0.25 for count in (50, 20, 8, 1, 1)])
    shifted = cosines.numpy().copy()
    shifted[np.arange(9), made.labels_B.numpy()] -= margins[made.labels_B.numpy()]
    powers = np.exp(scale * shifted)
    expected = -np.log(of_label(powers, made) / powers.sum(axis=1))
    np.testing.assert_allclose(by_sample("ldam", scaled), expected, rtol=1e-9)


def test_the_rarest_class_has_the_whole_margin_and_sixteen_times_the_images_half_of_it():
    np.testing.assert_allclose(LDAM().margins(np.array([160, 10, 0])), [0.25, 0.5, 0.5])


def test_equally_many_images_have_one_margin():
    assert set(LDAM(margin=0.3).margins(np.full(4, 7))) == {0.3}


def test_no_margin_is_cross_entropy():
    made = outputs()
    torch.testing.assert_close(by_sample("ldam", made, margin=0.0), by_sample("cross_entropy", made))
    assert LDAM(margin=0.0).margins(COUNTS).max() == 0
