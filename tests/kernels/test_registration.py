"""The operations as torch knows them: schema, fake results, gradients, tracing."""

from itertools import product

import pytest
import torch

import ltrsys.kernels as kernels

OPERATIONS = torch.ops.ltrsys


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def learned(*shape, seed=0):
    return random(*shape, seed=seed).requires_grad_()


LABELS = torch.tensor([0, 2, 2, 1, 4])
NORMS = kernels.row_norms(random(4, 3, seed=1))

CALLS = {
    "row_norms": (OPERATIONS.row_norms, [(random(5, 3),), (random(0, 3).bfloat16(),)]),
    "tau_logits": (
        OPERATIONS.tau_logits,
        [
            (learned(5, 3), learned(4, 3, seed=1), NORMS, torch.tensor(0.5, requires_grad=True), learned(4, seed=2)),
            (random(5, 3), random(4, 3, seed=1), NORMS, torch.tensor(0.5, dtype=torch.float64), None),
            (random(5, 3).bfloat16(), learned(4, 3, seed=1), NORMS, torch.tensor(0.0), None),
            (random(0, 3), random(4, 3, seed=1), NORMS, torch.tensor(1.0), None),
            (random(5, 3), random(4, 3, seed=1), None, None, learned(4, seed=2)),
            (random(5, 3), random(4, 3, seed=1), NORMS, None, learned(4, seed=2)),
        ],
    ),
    "tau_logits_backward": (
        OPERATIONS.tau_logits_backward,
        [
            (random(5, 4), random(5, 4), random(5, 3), random(4, 3, seed=1), NORMS, tau, scale, *wanted)
            for tau in (torch.tensor(0.5), None)
            for scale in (random(4), None)
            for wanted in product((True, False), repeat=3)
        ],
    ),
    "tau_sweep": (
        OPERATIONS.tau_sweep,
        [
            (random(5, 3), random(70, 3, seed=1), torch.tensor([0.0, 1.0])),
            (random(5, 3).double(), random(7, 3, seed=1), torch.tensor([0.5])),
            (random(0, 3), random(70, 3, seed=1), torch.tensor([0.5])),
        ],
    ),
    "ncm_search": (
        OPERATIONS.ncm_search,
        [
            (random(5, 3), random(70, 3, seed=1), 3, "cosine", None),
            (random(5, 3).half(), random(70, 3, seed=1), 1, "euclidean", random(3)),
            (random(5, 3).double(), random(4, 3, seed=1), 4, "euclidean", None),
            (random(0, 3), random(70, 3, seed=1), 2, "cosine", None),
        ],
    ),
    "class_sums": (
        OPERATIONS.class_sums,
        [
            (random(5, 3), LABELS, 6, False, None),
            (random(5, 3).double(), LABELS, 6, True, random(3)),
            (random(0, 3), LABELS[:0], 6, False, None),
        ],
    ),
    "add_class_sums": (
        OPERATIONS.add_class_sums,
        [
            (
                torch.zeros(6, 3, dtype=torch.float64),
                torch.zeros(6, dtype=torch.int64),
                random(5, 3),
                LABELS,
                2.0**-40,
                10.0,
                5,
                False,
                None,
            )
        ],
    ),
}
CASES = [(name, number) for name, (_, calls) in CALLS.items() for number in range(len(calls))]


@pytest.mark.parametrize(("name", "number"), CASES, ids=lambda value: str(value))
def test_torch_finds_nothing_wrong_with_it(name, number):
    operation, calls = CALLS[name]
    torch.library.opcheck(operation, calls[number])


@pytest.mark.parametrize("tau", [0.0, 0.7, 2.0])
@pytest.mark.parametrize("scaled", [False, True])
def test_the_gradients_are_those_of_the_formula(tau, scaled):
    inputs = [random(5, 4, dtype=torch.float64), random(3, 4, seed=1, dtype=torch.float64)]
    inputs += [torch.tensor(tau, dtype=torch.float64)]
    inputs += [random(3, seed=2, dtype=torch.float64)] if scaled else []
    assert torch.autograd.gradcheck(kernels.tau_logits, [values.requires_grad_() for values in inputs])


@pytest.mark.parametrize("wanted", range(4), ids=["features", "weight", "tau", "scale"])
def test_each_gradient_can_be_had_alone(wanted):
    inputs = [random(5, 4), random(3, 4, seed=1), torch.tensor(0.7), random(3, seed=2)]
    gradients = []
    for function in (kernels.tau_logits, kernels.reference.tau_logits):
        leaf = inputs[wanted].clone().requires_grad_()
        function(*inputs[:wanted], leaf, *inputs[wanted + 1 :]).square().sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("tau", [0.0, 0.7])
def test_norms_that_are_given_are_not_measured_again(tau, monkeypatch):
    weight, scale = random(3, 4, seed=1), learned(3, seed=2)
    norms = kernels.row_norms(weight)
    expected = kernels.tau_logits(random(5, 4), weight, tau, scale)

    def refuse(*_: object) -> None:
        raise AssertionError("measured")

    monkeypatch.setattr(kernels.operations, "row_norms", refuse)
    logits = kernels.tau_logits(random(5, 4), weight, tau, scale, norms=norms)
    assert torch.equal(logits, expected)
    logits.square().sum().backward()


@pytest.mark.parametrize("tau", [0.0, 0.7])
def test_a_scale_of_zero_has_the_gradient_of_the_formula(tau):
    inputs = [random(5, 4, dtype=torch.float64), random(3, 4, seed=1, dtype=torch.float64)]
    scale = torch.tensor([0.0, 2.0, 0.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: kernels.tau_logits(*inputs, tau, s), [scale.requires_grad_()])


@pytest.mark.parametrize("wanted", ["tau", "scale"])
def test_no_second_product_is_made_for_tau_and_scale(wanted, monkeypatch):
    """Their gradients follow from the logits that there are."""
    inputs = {"tau": torch.tensor(0.7), "scale": random(3, seed=2)}
    inputs[wanted].requires_grad_()
    logits = kernels.tau_logits(random(5, 4), random(3, 4, seed=1), **inputs)

    def refuse(*_: object) -> None:
        raise AssertionError("a product")

    for name in ("product_of_scaled", "transposed_product"):
        monkeypatch.setattr(kernels.registration.products_in_torch, name, refuse)
    logits.square().sum().backward()
    assert inputs[wanted].grad.isfinite().all()


def test_what_has_no_gradient_says_so():
    features = learned(5, 3)
    for result in (kernels.ncm_search(features, random(4, 3))[0], kernels.class_sums(features, LABELS, 5)[0]):
        with pytest.raises(RuntimeError, match="no autograd formula was registered"):
            result.sum().backward()


def test_only_shapes_and_types_come_of_tensors_without_data():
    features, weight = random(5, 3).half().to("meta"), random(4, 3).to("meta")
    results = [
        kernels.tau_logits(features, weight, 0.5),
        kernels.tau_sweep(features, weight, torch.zeros(7)),
        *kernels.ncm_search(features, weight, k=2),
        *kernels.class_sums(features, LABELS.to("meta"), 6),
    ]
    assert all(result.is_meta for result in results)
    assert [list(result.shape) for result in results] == [[5, 4], [7, 5], [5, 2], [5, 2], [6, 3], [6]]
    assert [result.is_floating_point() for result in results] == [True, False, True, False, True, False]


def second_stage(features, weight, means, taus, labels, tau):
    logits = kernels.tau_logits(features, weight, tau)
    sums, counts = kernels.class_sums(features, labels, 80, normalize=True)
    scores, classes = kernels.ncm_search(features, means, k=3, metric="euclidean")
    return logits, sums, counts, scores, classes, kernels.tau_sweep(features, weight, taus)


def test_a_traced_program_has_no_breaks_and_the_same_results():
    weight, tau = learned(80, 6, seed=1), torch.tensor(0.5, requires_grad=True)
    inputs = (random(9, 6), weight, random(80, 6, seed=2), torch.tensor([0.0, 0.5]), torch.arange(9) % 5, tau)
    traced = torch.compile(second_stage, fullgraph=True, backend="aot_eager")
    results = traced(*inputs)
    for result, expected in zip(results, second_stage(*inputs), strict=True):
        torch.testing.assert_close(result, expected)
    results[0].sum().backward()
    assert weight.grad is not None
    assert tau.grad is not None


def test_a_traced_program_refuses_nan_too():
    traced = torch.compile(lambda features, weight: kernels.tau_logits(features, weight, 0.5), backend="aot_eager")
    with pytest.raises(ValueError, match=r"features\[1\] holds NaN or infinity"):
        traced(torch.tensor([[0.0], [torch.nan]]), torch.ones(2, 1))
