"""The bound of each product holds: with a part of it left out, answers are wrong."""

import pytest
import torch

from ltrsys.kernels import ncm_search, reference, tau_sweep
from ltrsys.kernels.cpu import bounded_products
from ltrsys.kernels.cpu import ncm_search as module
from tests.kernels.cpu.conftest import TAUS, on_processor, random, with_near_ties


def rounded_away():
    """A feature and 66 classes: bfloat16 takes from the feature just what makes class 64 better than class 65.

    Half of the feature's numbers are a little over 1, and become 1. Class 64 counts these in and the others out, and
    so scores 1.98; in bfloat16 nothing is left. Class 65 counts them out and scores 0.02, which becomes 2.
    """
    half = 512
    feature = torch.cat([torch.full((half,), 1 + 0.99 * 2.0**-8), torch.ones(half)])
    plus_minus = torch.cat([torch.ones(half), -torch.ones(half)])
    minus_plus = -plus_minus
    minus_plus[0] = 1.0
    others = -torch.ones(64, 2 * half)
    return feature[None], torch.cat([others, plus_minus[None], minus_plus[None]])


def test_what_rounding_takes_from_a_feature_is_allowed_for(monkeypatch):
    on_processor(monkeypatch, "bfloat16")
    feature, classes = rounded_away()
    assert tau_sweep(feature, classes, TAUS).unique().tolist() == [64]
    monkeypatch.setattr(bounded_products, "product_error", lambda features, classes: torch.zeros(len(features.norm_R)))
    assert tau_sweep(feature, classes, TAUS).unique().tolist() == [65]


def test_the_rounding_of_the_result_is_allowed_for(monkeypatch):
    """Class 65 scores 257, which bfloat16 rounds to 256: less than three times the 85.5 of class 64."""
    on_processor(monkeypatch, "bfloat16")
    feature = torch.zeros(1, 8)
    feature[0, [0, 1, 4]] = torch.tensor([512.0, 2.0, 85.5])
    classes = torch.zeros(66, 8)
    classes[:31, 0], classes[31:64, 0] = -1.0, -3.0
    classes[64, 4] = 3.0
    classes[65, :4] = 0.5
    monkeypatch.setattr(bounded_products, "product_error", lambda features, classes: torch.zeros(len(features.norm_R)))
    taus = torch.zeros(1)
    exact = reference.tau_sweep(feature, classes, taus)
    assert exact.item() == 65
    assert torch.equal(tau_sweep(feature, classes, taus), exact)
    monkeypatch.setattr(bounded_products.RoundedScreen, "UNIT", 0.0)
    assert tau_sweep(feature, classes, taus).item() == 64


def test_what_whole_numbers_of_8_bits_take_is_allowed_for(monkeypatch):
    on_processor(monkeypatch, "int8")
    features = random(500, 64)
    classes = with_near_ties(features, random(100, 64, seed=1), 0.05)
    exact = reference.ncm_search(features, classes, 1, "cosine", None)[1]
    assert torch.equal(ncm_search(features, classes)[1], exact)
    monkeypatch.setattr(bounded_products, "product_error", lambda features, classes: torch.zeros(len(features.norm_R)))
    assert not torch.equal(ncm_search(features, classes)[1], exact)


def test_a_screen_that_leaves_too_much_is_not_tried_again(monkeypatch):
    on_processor(monkeypatch, "int8")
    monkeypatch.setattr(module, "ROWS_OF_A_BLOCK", 50)
    made = []
    for screen in (bounded_products.ByteScreen, bounded_products.RoundedScreen, bounded_products.PlainScreen):
        scores = screen.scores

        def watched(self, features, scores=scores):
            made.append(type(self).__name__)
            return scores(self, features)

        monkeypatch.setattr(screen, "scores", watched)
    features, means = random(150, 16), random(16, 16, seed=1).repeat(90, 1)
    means += 1e-3 * random(*means.shape, seed=2)
    found = ncm_search(features, means)[1]
    assert torch.equal(found, reference.ncm_search(features, means, 1, "cosine", None)[1])
    assert [made.count(name) for name in ("ByteScreen", "RoundedScreen")] == [1, 1]
    assert made[-1] == "PlainScreen"


@pytest.mark.usefixtures("screened_by")
def test_a_single_feature_of_each_sample_is_enough():
    """A column of 8-bit numbers is what torch multiplies wrongly."""
    features, classes = random(30, 1), random(200, 1, seed=1)
    assert torch.equal(tau_sweep(features, classes, TAUS), reference.tau_sweep(features, classes, TAUS))
    found = ncm_search(features, classes)[1][:, 0]
    assert torch.equal(classes[found].sign(), features.sign())
