"""Class sums compiled for the CPU: the bits of torch, any number of threads, and machines without a compiler."""

import math

import pytest
import torch

from ltrsys.kernels import ClassSums, class_sums
from ltrsys.kernels.cpu import class_sums as cpu_sums
from tests.kernels.test_class_sums import CLASSES, bank


@pytest.fixture
def compiled(monkeypatch, tmp_path):
    """Compile the CPU's code anew and use it for any number of rows; returns a function that goes back to torch."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cpu_sums, "WORTH_COMPILING", 0)
    cpu_sums._library.cache_clear()
    yield lambda: monkeypatch.setattr(cpu_sums, "_library_for", lambda features_ND: None)
    cpu_sums._library.cache_clear()


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("center", [None, torch.linspace(-1, 1, 777)], ids=["plain", "centred"])
@pytest.mark.long
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


@pytest.mark.long
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
@pytest.mark.long
def test_without_a_working_compiler_torch_computes_them(compiler, compiled, monkeypatch, caplog):
    caplog.set_level("INFO")
    features, labels = bank()
    expected = class_sums(features, labels, CLASSES)[0]
    monkeypatch.setenv("CXX", compiler)
    cpu_sums._library.cache_clear()
    assert torch.equal(class_sums(features, labels, CLASSES)[0], expected)
    assert "torch computes the same sums, more slowly" in caplog.text


@pytest.mark.long
def test_what_was_compiled_is_used_again(compiled, tmp_path):
    path = cpu_sums.build(tmp_path / "ltrsys")
    written = path.stat().st_mtime_ns
    assert cpu_sums.build(tmp_path / "ltrsys") == path
    assert path.stat().st_mtime_ns == written
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_few_rows_are_not_worth_compiling_but_use_what_there_is(compiled, tmp_path, monkeypatch):
    monkeypatch.setattr(cpu_sums, "WORTH_COMPILING", math.inf)
    features, _ = bank()
    assert cpu_sums._library_for(features) is None
    assert not (tmp_path / "ltrsys").exists()
    cpu_sums.build(tmp_path / "ltrsys")
    assert cpu_sums._library_for(features) is not None
    assert cpu_sums._library_for(features.double()) is None
