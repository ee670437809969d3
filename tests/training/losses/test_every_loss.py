"""What holds for every loss."""

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from ltrsys.training.losses.base import LOSSES, Outputs
from ltrsys.training.objective import Mixed
from tests.training.losses.cases import COUNTS, context, objective, outputs

SETTINGS = {
    "cross_entropy": {},
    "focal": {"gamma": 2.0},
    "cb_focal": {"gamma": 0.5, "beta": 0.9},
    "ldam": {},
    "balanced_softmax": {},
    "logit_adjusted": {"tau": 1.5},
    "label_aware_smoothing": {},
    "range": {"intra_weight": 0.1, "inter_weight": 0.1, "margin": 20.0},
    "lifted": {"weight": 0.1},
    "oltr_centroids": {"weight": 0.1, "repel": 0.5, "margin": 30.0},
}
CASES = [*SETTINGS.items(), ("cb_focal", {"per_class": "sigmoid", "gamma": 0.5}), ("focal", {"gamma": 0.0})]
needs_lifted = pytest.mark.skipif(
    find_spec("pytorch_metric_learning") is None, reason="pytorch-metric-learning is not installed"
)


def cases(*without):
    found = []
    for kind, settings in CASES:
        marks = [needs_lifted] if kind == "lifted" else []
        if kind not in without:
            found.append(pytest.param(kind, settings, id="-".join(map(str, (kind, *settings.values()))), marks=marks))
    return pytest.mark.parametrize(("kind", "settings"), found)


def test_none_is_left_out():
    assert set(SETTINGS) == {loss.name for loss in LOSSES if loss.__module__.startswith("ltrsys.")}


@cases()
@pytest.mark.parametrize("reweight", ["none", "effective_number"])
@pytest.mark.long
def test_its_gradient_is_that_of_its_values(kind, settings, reweight):
    made = outputs(1)
    minimised = objective(kind, **{"reweight": reweight} | settings)

    def value(logits, features):
        return minimised(Outputs(logits, features, made.labels_B))

    assert torch.autograd.gradcheck(value, (made.logits_BC, made.features_BD))


@cases("lifted", "range")
def test_the_gradient_of_mixed_labels_is_that_of_their_values(kind, settings):
    made = outputs(2)
    minimised = objective(kind, **settings)
    mixed = Mixed(made.labels_B.flip(0), torch.linspace(0, 1, 9))

    def value(logits, features):
        return minimised(Outputs(logits, features, made.labels_B), mixed)

    assert torch.autograd.gradcheck(value, (made.logits_BC, made.features_BD))
    own = objective(kind, **settings)(made)
    alone = minimised(made, Mixed(mixed.labels_B, torch.ones(9)))
    assert float(alone.detach()) == pytest.approx(float(own.detach()), rel=1e-12)


@cases("oltr_centroids")  # whose centroids have a class each
def test_the_number_of_a_class_means_nothing(kind, settings):
    made, order = outputs(3), np.array([3, 1, 4, 0, 2])
    new_of_old = torch.from_numpy(np.argsort(order))
    renamed = Outputs(made.logits_BC[:, order], made.features_BD, new_of_old[made.labels_B])
    found = objective(kind, COUNTS[order], **settings)(renamed)
    assert found.item() == pytest.approx(objective(kind, **settings)(made).item(), rel=1e-12)


@cases()
@pytest.mark.parametrize("sign", [1, -1])
def test_extreme_logits_and_classes_of_one_image_and_none_have_finite_gradients(kind, settings, sign):
    torch.set_default_dtype(torch.float32)
    made = outputs(4)
    logits = torch.full((9, 5), -1e4)
    logits[torch.arange(9), (made.labels_B + torch.arange(9)) % 5] = 1e4
    logits = (sign * logits).requires_grad_()
    value = objective(kind, **settings)(replace(made, logits_BC=logits))
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()
    assert made.features_BD.grad is None or made.features_BD.grad.isfinite().all()


@cases("lifted")  # of the library
def test_equal_features_have_finite_gradients(kind, settings):
    made = outputs(5)
    features = torch.ones(9, 6).requires_grad_()
    objective(kind, **settings)(replace(made, features_BD=features)).backward()
    assert features.grad is None or features.grad.isfinite().all()


@cases("range", "lifted")
def test_the_mean_is_that_of_the_samples(kind, settings):
    loss = LOSSES.get(kind)(**settings)
    minimised = objective(kind, **settings | {"reweight": "none"})
    made = outputs(6)
    torch.manual_seed(0)  # as the objective, for the centroids
    assert loss.build(context())(made).mean().item() == pytest.approx(minimised(made).item(), rel=1e-12)


@cases()
def test_float32_is_as_near_to_float64_as_its_digits(kind, settings):
    exact = objective(kind, **settings)(outputs(7))
    made = outputs(7)
    torch.set_default_dtype(torch.float32)
    single = Outputs(made.logits_BC.float(), made.features_BD.float(), made.labels_B)
    found = objective(kind, **settings)
    if found.module is not None:
        torch.set_default_dtype(torch.float64)
        found.load_state({name: tensor.float() for name, tensor in objective(kind, **settings).state().items()})
    assert found(single).item() == pytest.approx(exact.item(), rel=1e-5)
