"""The operations on GPUs that a CPU plays, kernels in numpy: on which one, what is waited for, the same answers."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from ltrsys.kernels import class_sums, ncm_search, row_norms, tau_logits, tau_sweep
from ltrsys.kernels.gpu import class_sums as sums_module
from ltrsys.kernels.gpu import exact_scores, prepared_rows, screening, tiles
from ltrsys.kernels.gpu import tau_logits as logits_module
from tests.kernels.gpu.conftest import random
from tests.kernels.stand_in_gpus import StandInGpus, play_gpus, unwrapped

LAUNCHED = {
    logits_module: ["_scaled_product"],
    screening: ["_screen", "_list_candidates"],
    prepared_rows: ["_round_scaled_rows"],
    exact_scores: ["_exact_scores", "_best_of_each_tau"],
}
GPU = 1
"""Not the current one."""
FEATURES, WEIGHT, SCALE, GRADIENT = random(40, 16), random(70, 16, seed=1), random(70, seed=2), random(40, 70, seed=3)
TAUS = torch.linspace(0, 2, 5, dtype=torch.float64)
NORMS = row_norms(WEIGHT)
LOGITS = tau_logits(FEATURES, WEIGHT, TAUS[1], SCALE)
LABELS = torch.arange(40) % 7
TO_CHECK = {"numbers to the host": 1}

CALLS: dict[str, tuple[Callable[..., Any], dict[str, int]]] = {
    "tau_logits": (lambda put: tau_logits(put(FEATURES), put(WEIGHT), put(TAUS[1]), put(SCALE)), TO_CHECK),
    "tau_logits, a number for tau": (lambda put: tau_logits(put(FEATURES), put(WEIGHT), 0.5), TO_CHECK),
    "tau_logits_backward": (
        lambda put: torch.ops.ltrsys.tau_logits_backward(
            put(GRADIENT),
            put(LOGITS),
            put(FEATURES),
            put(WEIGHT),
            put(NORMS),
            put(TAUS[1]),
            put(SCALE),
            True,
            True,
            True,
        ),
        TO_CHECK,
    ),
    # the lengths that differ, and the rows that have more candidates than places
    "tau_sweep": (
        lambda put: tau_sweep(put(FEATURES), put(WEIGHT), put(TAUS)),
        {**TO_CHECK, "different values": 1, "places that hold": 1},
    ),
    "ncm_search": (
        lambda put: ncm_search(put(FEATURES), put(WEIGHT), 2, "cosine", put(FEATURES[0])),
        {**TO_CHECK, "places that hold": 1},
    ),
    "class_sums": (lambda put: class_sums(put(FEATURES), put(LABELS), 7, True, put(FEATURES[0])), TO_CHECK),
}


class OnCpu:
    """A kernel that is launched with tensors on GPUs that a CPU plays."""

    def __init__(self, kernel: Any, gpus: StandInGpus, launches: list[tuple[int, set[int]]]) -> None:
        self._kernel, self._gpus, self._launches = kernel, gpus, launches

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., Any]:
        def launch(*arguments: Any, **constants: Any) -> None:
            places = {values.get_device() for values in arguments if isinstance(values, Tensor)}
            self._launches.append((self._gpus.current, places))
            with torch.utils._python_dispatch._disable_current_modes():
                self._kernel[grid](*unwrapped(arguments), **constants)

        return launch


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInGpus]:
    gpus = play_gpus(monkeypatch)
    with gpus:
        yield gpus


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch, gpus: StandInGpus) -> list[tuple[int, set[int]]]:
    """Return the current GPU at each launch of a kernel, and those that its tensors are on."""
    launches: list[tuple[int, set[int]]] = []
    for module, names in LAUNCHED.items():
        for name in names:
            monkeypatch.setattr(module, name, OnCpu(getattr(module, name), gpus, launches))
    monkeypatch.setattr(sums_module, "_extension", lambda: None)
    monkeypatch.setitem(tiles.TILES, 90, tiles.INTERPRETED)
    return launches


@pytest.mark.parametrize("name", CALLS)
def test_kernels_are_launched_on_the_gpu_of_their_tensors(
    name: str, gpus: StandInGpus, launches: list[tuple[int, set[int]]]
) -> None:
    call, waits = CALLS[name]
    found = call(lambda values: gpus.put(values, GPU))
    assert gpus.current == 0
    assert launches or name == "class_sums"
    assert all(launch == (GPU, {GPU}) for launch in launches)
    assert gpus.waits == waits
    results, expected = ([each] if isinstance(each, Tensor) else each for each in (found, call(lambda values: values)))
    for result, same in zip(results, expected, strict=True):
        assert result.device == torch.device("cuda", GPU)
        torch.testing.assert_close(unwrapped(result), same, rtol=1e-5, atol=1e-5)


def test_before_compute_capability_8_no_kernel_is_launched(
    gpus: StandInGpus, launches: list[tuple[int, set[int]]], caplog: pytest.LogCaptureFixture
) -> None:
    gpus.capability, gpus.name = (7, 5), "Tesla T4"
    for call, _ in CALLS.values():
        call(lambda values: gpus.put(values, GPU))
    assert launches == []
    (record,) = caplog.records
    assert "Tesla T4" in record.getMessage()
