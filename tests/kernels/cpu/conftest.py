"""What the tests of the searches share: random tensors, near ties, and processors with and without fast products."""

import pytest
import torch

from ltrsys.kernels.cpu import bounded_products, ncm_search, tau_sweep

TAUS = torch.arange(0, 2.01, 0.1)
SHAPES = [
    *[(1, 64, 3), (5, 65, 2), (37, 507, 17), (252, 507, 123)],
    pytest.param((30, 8142, 257), marks=pytest.mark.long),
]


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


PROCESSORS = {
    "int8": {"int8", "bfloat16", "float32"},
    "bfloat16": {"bfloat16", "float32"},
    "float32": {"float32"},
}


def on_processor(monkeypatch, name):
    """Screen as on a processor that has instructions for some products; torch computes them on any."""
    monkeypatch.setattr(bounded_products, "fast_products", lambda: PROCESSORS[name])


@pytest.fixture(params=PROCESSORS)
def screened_by(request, monkeypatch):
    on_processor(monkeypatch, request.param)
    return request.param


@pytest.fixture
def small_blocks(monkeypatch):
    for module in (ncm_search, tau_sweep):
        monkeypatch.setattr(module, "ROWS_OF_A_BLOCK", 100)


def with_near_ties(features, classes, gap, seed=5):
    """Append a copy of every second class, changed so that its product with a feature differs by about `gap`."""
    copies = classes[::2].clone()
    return torch.cat([classes, copies + gap * random(*copies.shape, seed=seed) / copies.shape[1] ** 0.5])
