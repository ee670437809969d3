"""Data of every kind that breaks bounds, in every layout: what is found is the best, to the last bits of float64."""

import numpy as np
import pytest
import torch

from ltrsys.kernels import ncm_search, tau_sweep
from ltrsys.kernels.cpu import bounded_products
from ltrsys.kernels.cpu import ncm_search as ncm_module
from ltrsys.kernels.cpu import tau_sweep as sweep_module

EXTENDED = np.longdouble
"""64 bits and more, where float64 has 53: what float64 can still tell apart is measured with it."""

KINDS = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "after a ReLU": lambda rng, shape: np.maximum(rng.standard_normal(shape) - 0.3, 0),
    "heavy tails": lambda rng, shape: rng.standard_t(1.2, shape),
    "one huge feature": lambda rng, shape: rng.standard_normal(shape) * np.where(np.arange(shape[1]), 1, 1e6),
    "norms over 1e6": lambda rng, shape: rng.standard_normal(shape) * 10.0 ** rng.uniform(-3, 3, (shape[0], 1)),
    "negative": lambda rng, shape: -np.abs(rng.standard_normal(shape)),
    "all the same": lambda rng, shape: np.ones(shape),
    "a bundle": lambda rng, shape: rng.standard_normal((1, shape[1])) + 1e-4 * rng.standard_normal(shape),
    "far away": lambda rng, shape: rng.standard_normal(shape) + 1e5,
    "small whole numbers": lambda rng, shape: rng.integers(-2, 3, shape).astype(float),
    "tiny": lambda rng, shape: 1e-12 * rng.standard_normal(shape),
}


@pytest.fixture(autouse=True)
def one_thread():
    """Let small operations not wait for one another's threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def related(rng, features, classes):
    """Make classes equal, proportional, almost equal or zero, or features proportional to classes."""
    some, others = rng.integers(0, len(classes), (2, len(classes) // 2))
    relation = rng.choice(["equal", "proportional", "almost equal", "zero", "features", "none"])
    if relation == "equal":
        classes[some] = classes[others]
    elif relation == "proportional":
        classes[some] = classes[others] * 2.0 ** rng.integers(-5, 6, (len(some), 1))
    elif relation == "almost equal":
        classes[some] = classes[others] * (1 + 10.0 ** rng.uniform(-8, -1) * rng.standard_normal(classes[some].shape))
    elif relation == "zero":
        classes[some[:5]] = 0
    elif relation == "features":
        features[:] = classes[rng.integers(0, len(classes), len(features))] * 3.0
    features[rng.integers(len(features))] *= rng.choice([0.0, 1.0, 1e-20])


def in_some_layout(rng, values, dtypes):
    """Return a tensor by rows, by columns, or with gaps; it may require gradients."""
    dtype = dtypes[rng.integers(len(dtypes))]
    limit = min(torch.finfo(dtype).max, 1e30)
    tensor = torch.from_numpy(values).clamp(-limit, limit).to(dtype)
    layout = rng.choice(["rows", "columns", "gaps", "learned"])
    if layout == "columns":
        return tensor.T.contiguous().T
    if layout == "gaps":
        wide = torch.zeros(2 * tensor.shape[0], 3 * tensor.shape[1], dtype=dtype)
        wide[::2, 1::3] = tensor
        return wide[::2, 1::3]
    return tensor.requires_grad_(layout == "learned")


def wide(values):
    return values.detach().double().numpy().astype(EXTENDED)


def assert_best(found, scores, radius, lowest):
    """Hold classes [k] found for a feature to scores [C] known to a radius [C]; equal classes come in their order."""
    order = np.argsort(-scores, kind="stable")
    for place, class_id in enumerate(found):
        best = order[place]
        assert scores[best] - scores[class_id] <= max(radius[best], radius[class_id])
        assert lowest[class_id] in (class_id, *found[:place])


@pytest.mark.parametrize("seed", range(100))
def test_the_best_are_found_to_the_last_bits_of_float64(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    dim = int(rng.choice([1, 2, 3, 7, 8, 9, 16, 31, 64, 129]))
    num_classes = int(rng.integers(64, 301))
    products = [{"int8", "bfloat16", "float32"}, {"bfloat16", "float32"}, {"float32"}][rng.integers(3)]
    monkeypatch.setattr(bounded_products, "fast_products", lambda: products)
    for module in (ncm_module, sweep_module):
        monkeypatch.setattr(module, "ROWS_OF_A_BLOCK", int(rng.choice([3, 8, 1024])))
    features, classes = (
        KINDS[rng.choice(list(KINDS))](rng, (rows, dim)) for rows in (int(rng.integers(1, 20)), num_classes)
    )
    related(rng, features, classes)
    features = in_some_layout(rng, features, [torch.float32, torch.bfloat16, torch.float16])
    classes = in_some_layout(rng, classes, [torch.float32, torch.float32, torch.bfloat16])
    exact_features, exact_classes = wide(features), wide(classes)
    first_of = {}
    lowest = [first_of.setdefault(row.tobytes(), class_id) for class_id, row in enumerate(exact_classes + 0.0)]
    lengths = np.sqrt(np.square(exact_classes).sum(axis=1))
    roundings = (dim + 8) * 4e-16

    low, high = [(0, 2), (-3, 0), (0, 12)][rng.integers(3)]
    taus = torch.linspace(low, high, 5)
    products = exact_features @ exact_classes.T
    radius = roundings * np.sqrt(np.square(exact_features).sum(axis=1))[:, None] * lengths
    for tau, classes_of_tau in zip(taus.double().numpy(), tau_sweep(features, classes, taus).numpy(), strict=True):
        factors = np.where(lengths > 0, lengths, 1) ** -EXTENDED(tau)
        for row, class_id in enumerate(classes_of_tau):
            assert_best([class_id], products[row] * factors, radius[row] * factors, lowest)

    metric = str(rng.choice(["cosine", "euclidean"]))
    k = int(rng.choice([1, 2, 5, num_classes // 3, num_classes]))
    center = torch.from_numpy(KINDS[rng.choice(list(KINDS))](rng, (1, dim))[0]) if rng.random() < 0.4 else None
    scores, found = (values.detach().numpy() for values in ncm_search(features, classes, k, metric, center))
    moved = exact_features - (0 if center is None else wide(center))
    for row, feature in enumerate(moved):
        if metric == "cosine":
            feature_length = np.sqrt(np.square(feature).sum())
            exact = exact_classes @ feature
            exact /= np.where(lengths > 0, lengths, 1) * (feature_length if feature_length > 0 else 1)
            radius_C, expected = np.full(num_classes, roundings), exact
        else:
            exact = -np.square(feature - exact_classes).sum(axis=1)
            radius_C, expected = -exact * roundings, -np.sqrt(-exact)
        assert len(set(found[row])) == k
        assert_best(found[row], exact, radius_C, lowest)
        tolerance = 1e-6 * (1 if metric == "cosine" else np.abs(expected[found[row]]))
        assert (np.abs(scores[row] - expected[found[row]]) <= tolerance).all()
