"""What does not fit or is not finite is refused, by its name."""

import pytest
import torch

from ltrsys.kernels import class_sums, ncm_search, row_norms, tau_logits, tau_sweep


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_refused(value: float) -> None:
    features, weight, labels = random(4, 3), random(2, 3), torch.zeros(4, dtype=torch.int64)
    features[2, 1] = value
    for call in (
        lambda: tau_logits(features, weight, 0.5),
        lambda: tau_sweep(features, weight, torch.tensor([0.5])),
        lambda: ncm_search(features, weight),
        lambda: class_sums(features, labels, 2),
    ):
        with pytest.raises(ValueError, match=r"features\[2\] holds NaN or infinity"):
            call()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("tau", [0.0, 0.5])
@pytest.mark.parametrize("measured", [False, True])
def test_weights_that_are_not_finite_are_refused(value: float, tau: float, measured: bool) -> None:
    features, weight = random(4, 3), random(2, 3)
    weight[1, 2] = value
    with pytest.raises(ValueError, match=r"weight\[1\] holds NaN or infinity"):
        tau_logits(features, weight, tau, norms=row_norms(weight) if measured else None)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tau_logits(random(4, 3), random(2, 5), 0.0), "weight has 5 columns, but the features have 3"),
        (lambda: tau_logits(random(4, 3), random(2, 3), 0.0, random(3)), r"scale has shape \[3\]; it must be \[2\]"),
        (
            lambda: tau_logits(random(4, 3), random(2, 3), 0.0, norms=random(2)),
            r"norms .* must be float64 \[2\], row_no",
        ),
        (lambda: tau_logits(random(4), random(2, 3), 0.0), r"features has shape \[4\]"),
        (lambda: tau_logits(random(4, 3), random(2, 3), random(2)), r"tau has shape \[2\]; it must be a number"),
        (lambda: tau_logits(random(4, 3), random(0, 3), 0.0), "at least one class"),
        (lambda: tau_sweep(random(4, 3), random(2, 3), torch.tensor([])), "at least one tau"),
        (lambda: ncm_search(random(4, 3), random(2, 3), k=3), "k=3 is not between 1 and the number of classes, 2"),
        (lambda: ncm_search(random(4, 3), random(2, 3), metric="manhattan"), "metric='manhattan' is unknown"),
        (lambda: ncm_search(random(4, 3), random(2, 3), center=random(2)), r"center has shape \[2\]"),
        (lambda: class_sums(random(2, 3), torch.tensor([0, 5]), 3), r"labels\[1\] is 5; class ids go from 0 to 2"),
        (lambda: class_sums(random(2, 3), torch.tensor([0]), 3), r"it must be int64 \[2\]"),
        (lambda: class_sums(random(2, 3), torch.tensor([0.0, 1.0]), 3), "float32"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
