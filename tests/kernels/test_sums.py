"""Class sums whose additions are exact: no order, block or thread shows in them."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ltrsys.kernels import ClassSums, class_sums
from ltrsys.kernels.cpu import class_sums as cpu_sums
from ltrsys.kernels.exact_sums import Quantum

ROWS, CLASSES, FEATURES = 3000, 11, 33


def bank(seed=0):
    """Features whose magnitudes differ by a million within a class, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(ROWS, FEATURES, generator=generator)
    features *= 10.0 ** torch.randint(-3, 4, (ROWS, 1), generator=generator)
    return features, torch.randint(0, CLASSES, (ROWS,), generator=generator)


def streamed(features, labels, cuts, **options):
    sums = ClassSums(CLASSES, FEATURES, num_rows=ROWS, largest=float(features.abs().max()), **options)
    for rows in np.split(np.arange(len(features)), cuts):
        sums.add(features[rows], labels[rows])
    return sums


@pytest.mark.parametrize("options", [{}, {"normalize": True}, {"center": torch.linspace(-1, 1, FEATURES)}], ids=str)
def test_blocks_order_and_threads_leave_no_trace(options):
    features, labels = bank()
    whole = streamed(features, labels, [], **options)
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(1))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        shuffled = streamed(features[order], labels[order], [1, 17, 1000, 2999], **options)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(whole.sums_CD, shuffled.sums_CD)
    assert torch.equal(whole.counts_C, shuffled.counts_C)


def test_float64_added_as_it_comes_would_show_its_order():
    """The bank is one where it matters."""
    features, labels = bank()
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(1))
    sums = torch.zeros(CLASSES, FEATURES, dtype=torch.float64)
    again = sums.clone()
    sums.index_add_(0, labels, features.double())
    again.index_add_(0, labels[order], features[order].double())
    assert not torch.equal(sums, again)


def test_one_call_sums_like_many_blocks():
    features, labels = bank()
    sums, counts = class_sums(features, labels, CLASSES)
    many = streamed(features, labels, [100, 200, 2000])
    assert torch.equal(counts, many.counts_C)
    torch.testing.assert_close(sums, many.sums_CD.float(), rtol=1e-6, atol=0)
    torch.testing.assert_close(many.means()[3], features[labels == 3].double().mean(dim=0), rtol=1e-6, atol=1e-6)


def test_the_sum_is_as_near_as_float32_can_tell():
    features, labels = bank()
    sums, _ = class_sums(features, labels, CLASSES)
    for class_id in range(CLASSES):
        exact = [float(sum(map(Fraction, column))) for column in features[labels == class_id].T.tolist()]
        np.testing.assert_allclose(sums[class_id].numpy(), np.float32(exact), rtol=2.0**-23, atol=1e-5)


@settings(deadline=None)
@given(st.floats(1e-30, 1e30), st.integers(1, 10**9), st.lists(st.floats(-1, 1), min_size=1, max_size=20))
def test_multiples_of_the_quantum_are_what_float64_adds_exactly(largest, num_rows, parts):
    quantum = Quantum.of(largest, num_rows)
    assert math.frexp(quantum.value)[0] == 0.5
    assert Fraction(largest) * num_rows <= Fraction(quantum.value) * 2**53
    values = torch.tensor(parts, dtype=torch.float64) * largest
    for value, rounded in zip(values.tolist(), quantum.round_(values.clone()).tolist(), strict=True):
        assert Fraction(rounded) % Fraction(quantum.value) == 0
        assert abs(Fraction(rounded) - Fraction(value)) * 2 <= Fraction(quantum.value)


def test_a_feature_larger_than_was_said_is_refused():
    sums = ClassSums(2, 3, num_rows=10, largest=1.0)
    with pytest.raises(ValueError, match=r"features reach 1\.5, above the 1 that the sums were made for"):
        sums.add(torch.full((2, 3), 1.5), torch.tensor([0, 1]))
    assert sums.counts_C.tolist() == [0, 0]
    with pytest.raises(ValueError, match="largest: say how large a feature can be"):
        ClassSums(2, 3, num_rows=10)


def test_more_rows_of_a_class_than_were_said_are_refused():
    """Their sum could need more bits than float64 has."""
    sums = ClassSums(2, 3, num_rows=10, largest=1.0)
    labels = torch.tensor([0, 1, 1, 1, 1, 1, 1])
    sums.add(torch.ones(7, 3), labels)
    with pytest.raises(ValueError, match=r"class 1 has 12 rows by now, above the num_rows=10 that the sums were made"):
        sums.add(torch.ones(7, 3), labels)
    assert sums.counts_C.tolist() == [1, 6]
    assert sums.sums_CD[:, 0].tolist() == [1.0, 6.0]


@pytest.mark.parametrize("largest", [math.nan, math.inf, -1.0])
def test_what_is_not_a_magnitude_is_refused(largest):
    with pytest.raises(ValueError, match=f"largest={largest} is not the magnitude of a feature"):
        ClassSums(2, 3, num_rows=10, largest=largest)


@pytest.fixture
def compiled(monkeypatch, tmp_path):
    """Compile the CPU's code anew and use it for any number of rows; returns a function that goes back to torch."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cpu_sums, "WORTH_COMPILING", 0)
    cpu_sums._library.cache_clear()
    yield lambda: monkeypatch.setattr(cpu_sums, "WORTH_COMPILING", math.inf)
    cpu_sums._library.cache_clear()


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("center", [None, torch.linspace(-1, 1, 777)], ids=["plain", "centred"])
def test_compiled_and_in_torch_the_bits_are_the_same(normalize, center, compiled):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(500, 777, generator=generator)
    features[::50] = 0
    labels = torch.randint(0, 9, (500,), generator=generator)
    options = {"num_rows": 500, "largest": 10.0, "normalize": normalize, "center": center}

    def both_ways():
        sums = ClassSums(9, 777, **options)
        for rows in torch.arange(500).split(130):
            sums.add(features[rows], labels[rows])
        return sums.sums_CD, class_sums(features, labels, 9, normalize, center)[0]

    assert cpu_sums._library() is not None
    by_compiler = both_ways()
    compiled()
    for one, other in zip(by_compiler, both_ways(), strict=True):
        assert torch.equal(one, other)


def test_any_number_of_threads_may_compute_them(compiled):
    features, labels = bank()
    threads = torch.get_num_threads()
    results = []
    try:
        for number in (1, 2, 5, 64):
            torch.set_num_threads(number)
            results.append(class_sums(features, labels, CLASSES, normalize=True)[0])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(results[0], other) for other in results[1:])


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false"])
def test_without_a_working_compiler_torch_computes_them(compiler, compiled, monkeypatch, caplog):
    caplog.set_level("INFO")
    features, labels = bank()
    expected = class_sums(features, labels, CLASSES)[0]
    monkeypatch.setenv("CXX", compiler)
    cpu_sums._library.cache_clear()
    assert torch.equal(class_sums(features, labels, CLASSES)[0], expected)
    assert "torch computes the same sums, more slowly" in caplog.text


def test_what_was_compiled_is_used_again(compiled, tmp_path):
    path = cpu_sums.build(tmp_path / "ltrsys")
    written = path.stat().st_mtime_ns
    assert cpu_sums.build(tmp_path / "ltrsys") == path
    assert path.stat().st_mtime_ns == written
    assert [file.name for file in path.parent.iterdir()] == [path.name]
