"""The operations give the same answers whatever a user has set for torch as a whole, and in several threads."""

import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from ltrsys.kernels import ClassSums, class_sums, ncm_search, reference, tau_logits, tau_sweep
from ltrsys.kernels.cpu import bounded_products, exact_scores

TAUS = torch.arange(0, 2.01, 0.1)
LABELS = torch.arange(20) % 5


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


FEATURES = random(20, 32)
CLASSES = random(1, 32, seed=1) + 1e-2 * random(100, 32, seed=2)
"""So near to one another that bfloat16 would take others."""


def searches():
    results = [tau_sweep(FEATURES, CLASSES, TAUS)]
    for metric in ("cosine", "euclidean"):
        for k in (1, 40):
            results += ncm_search(FEATURES, CLASSES, k, metric, FEATURES[0])
    return results


def every_operation():
    """Return the results of all of them, of the searches by each screen."""
    results = [tau_logits(FEATURES, CLASSES, 0.5, CLASSES[:, 0]), *class_sums(FEATURES, LABELS, 5, True, FEATURES[0])]
    sums = ClassSums(5, 32, num_rows=20, normalize=True, center=FEATURES[0], device=torch.device("cpu"))
    sums.add(FEATURES, LABELS)
    results.append(sums.means())
    for products in ({"int8", "bfloat16", "float32"}, {"bfloat16", "float32"}, {"float32"}):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bounded_products, "fast_products", lambda products=products: products)
            results += searches()
    return results


@pytest.fixture(scope="module")
def plain():
    """The results where nothing is set."""
    return every_operation()


@contextmanager
def default_type_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def denormal_numbers_flushed() -> Iterator[None]:
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


SETTINGS = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "default_device": lambda: torch.device("meta"),
    "default_type_float64": default_type_float64,
    "denormal_numbers_flushed": denormal_numbers_flushed,
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_changes_no_result(setting, plain):
    with SETTINGS[setting]():
        found = every_operation()
    for result, before in zip(found, plain, strict=True):
        assert result.dtype == before.dtype
        assert torch.equal(result, before)


def test_gradients_are_the_same_under_autocast():
    gradients = []
    for enabled in (False, True):
        leaves = [values.clone().requires_grad_() for values in (FEATURES, CLASSES, torch.tensor(0.5), CLASSES[:, 0])]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            tau_logits(*leaves).square().sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


@pytest.fixture(params=["high", "medium"])
def narrowed_float32(request):
    """Allow torch to multiply float32 numbers as TF32 or bfloat16."""
    torch.set_float32_matmul_precision(request.param)
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.mark.usefixtures("narrowed_float32")
def test_float32_products_that_torch_may_narrow_do_not_screen():
    assert "float32" not in bounded_products.fast_products()
    assert torch.equal(searches()[0], reference.tau_sweep(FEATURES, CLASSES, TAUS))


def test_threads_search_at_the_same_time_and_leave_the_filters_of_warnings():
    expected = searches()
    filters = list(warnings.filters)
    equal = []

    def search() -> None:
        equal.extend(torch.equal(*pair) for _ in range(5) for pair in zip(searches(), expected, strict=True))

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(equal) == 4 * 5 * len(expected)
    assert all(equal)
    assert warnings.filters == filters


@pytest.fixture
def threads_that_take_turns():
    """Let threads be interrupted wherever they can be."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("threads_that_take_turns")
def test_first_searches_at_the_same_time_leave_the_filters_of_warnings():
    """Each puts back the filters that it found: if they overlap, one of them puts back another's."""
    filters = list(warnings.filters)
    for _ in range(100):
        exact_scores._hear_about_beta.cache_clear()
        start = threading.Barrier(12)
        threads = [
            threading.Thread(target=lambda start=start: (start.wait(), exact_scores._hear_about_beta()))
            for _ in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert warnings.filters == filters
