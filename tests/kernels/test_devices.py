"""Which GPUs the kernels are for, what is said of others, and what an operation there waits for."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from ltrsys.kernels import ClassSums, class_sums, ncm_search, tau_logits, tau_sweep
from ltrsys.kernels.devices import current_device, runs_cuda, runs_triton
from ltrsys.kernels.gpu import class_sums as gpu_sums
from tests.kernels.stand_in_gpus import StandInGpus, play_gpus, unwrapped


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


FEATURES, WEIGHT, TAUS, LABELS = random(40, 16), random(70, 16, seed=1), torch.linspace(0, 2, 5), torch.arange(40) % 7
DEVICE = torch.device("cuda", 1)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInGpus]:
    """Play GPUs that the kernels are not for: plain torch computes."""
    gpus = play_gpus(monkeypatch, capability=(7, 5), name="Tesla T4")
    with gpus:
        yield gpus


def every_operation(put: Callable[[Tensor], Tensor]) -> list[Tensor]:
    sums = ClassSums(7, 16, num_rows=40, normalize=True, device=put(FEATURES).device)
    sums.add(put(FEATURES), put(LABELS))
    return [
        tau_logits(put(FEATURES), put(WEIGHT), 0.5),
        tau_sweep(put(FEATURES), put(WEIGHT), put(TAUS)),
        *ncm_search(put(FEATURES), put(WEIGHT), 2, "cosine", put(FEATURES[0])),
        *class_sums(put(FEATURES), put(LABELS), 7, True, put(FEATURES[0])),
        sums.sums_CD,
    ]


@pytest.mark.parametrize(
    ("capability", "hip", "message"),
    [
        ((7, 5), None, "compute capability 8.0 or later, and this one has 7.5"),
        ((7, 0), None, "compute capability 8.0 or later, and this one has 7.0"),
        ((9, 4), "7.0", "compute capability 8.0 or later, and this is ROCm 7.0"),
    ],
)
def test_other_gpus_compute_in_torch_and_one_line_says_why(
    capability: tuple[int, int],
    hip: str | None,
    message: str,
    gpus: StandInGpus,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    gpus.capability, gpus.name = capability, "a GPU's name"
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setattr(gpu_sums, "_extension", lambda: pytest.fail("CUDA C++ was asked for"))
    for _ in range(2):
        found = every_operation(lambda values: gpus.put(values, 1))
    (record,) = caplog.records
    assert record.name == "ltrsys"
    assert record.getMessage().startswith("a GPU's name: plain torch computes here, more slowly")
    assert message in record.getMessage()
    for result, expected in zip(found, every_operation(lambda values: values), strict=True):
        assert result.device == DEVICE
        torch.testing.assert_close(unwrapped(result), expected)


@pytest.mark.parametrize("capability", [(8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (10, 3), (12, 0)])
def test_the_kernels_are_for_8_0_and_later(
    capability: tuple[int, int], gpus: StandInGpus, caplog: pytest.LogCaptureFixture
) -> None:
    gpus.capability = capability
    assert runs_cuda(DEVICE)
    assert caplog.records == []


def test_without_triton_torch_computes_on_a_gpu_and_says_so(
    gpus: StandInGpus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gpus.capability = (9, 0)
    monkeypatch.setattr("ltrsys.kernels.devices.HAS_TRITON", False)
    assert not runs_triton(DEVICE)
    assert runs_cuda(DEVICE)
    assert "Triton's, which is not installed" in caplog.text


@pytest.mark.parametrize(
    ("capability", "expected"), [((8, 6), 80), ((9, 0), 90), ((10, 3), 100), ((11, 0), 100), ((12, 0), 80)]
)
def test_tiles_are_those_of_a_generation_that_is_no_newer(
    capability: tuple[int, int], expected: int, gpus: StandInGpus
) -> None:
    tiles = pytest.importorskip("ltrsys.kernels.gpu.tiles", reason="the tiles are Triton's, which is not installed")
    gpus.capability = capability
    assert tiles.tiles_of(DEVICE) is tiles.TILES[expected]


@pytest.mark.parametrize(("capability", "hip"), [((7, 5), None), ((9, 4), "7.0")])
def test_there_are_no_tiles_for_other_gpus(
    capability: tuple[int, int], hip: str | None, gpus: StandInGpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles = pytest.importorskip("ltrsys.kernels.gpu.tiles", reason="the tiles are Triton's, which is not installed")
    gpus.capability = capability
    monkeypatch.setattr(torch.version, "hip", hip)
    with pytest.raises(ValueError, match="no tiles of the kernels for Tesla T4: they are for NVIDIA's GPUs"):
        tiles.tiles_of(DEVICE)


def test_the_gpu_of_the_features_is_the_current_one_and_then_the_one_before(gpus: StandInGpus) -> None:
    with current_device(DEVICE):
        assert gpus.current == 1
    assert gpus.current == 0
    features = FEATURES.clone()
    features[2:] = torch.nan
    with pytest.raises(ValueError, match=r"features\[2\] holds NaN"):
        tau_logits(gpus.put(features, 1), gpus.put(WEIGHT, 1), 0.5)
    assert gpus.current == 0


def test_nothing_is_asked_of_gpus_for_tensors_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("device", "get_device_capability", "get_device_name"):
        monkeypatch.setattr(torch.cuda, name, lambda *arguments: pytest.fail("a GPU was asked for"))
    every_operation(lambda values: values)


CHECKED: dict[str, Callable[[Callable[[Tensor], Tensor]], Any]] = {
    "tau_logits": lambda put: tau_logits(put(FEATURES), put(WEIGHT), put(TAUS[1].double()), put(WEIGHT[:, 0])),
    "tau_logits, a number for tau": lambda put: tau_logits(put(FEATURES), put(WEIGHT), 0.5),
    "class_sums": lambda put: class_sums(put(FEATURES), put(LABELS), 7, True, put(FEATURES[0])),
}


@pytest.mark.parametrize("name", CHECKED)
def test_all_that_is_checked_comes_to_the_host_at_once(name: str, gpus: StandInGpus) -> None:
    """The searches have more to wait for: tests/kernels/gpu/interpreted_registration.py."""
    CHECKED[name](gpus.put)
    assert gpus.waits == {"numbers to the host": 1}


def test_a_block_is_added_with_one_wait(gpus: StandInGpus) -> None:
    sums = ClassSums(7, 16, num_rows=40, largest=10.0, device=torch.device("cuda", 0))
    sums.add(gpus.put(FEATURES), gpus.put(LABELS))
    assert gpus.waits == {"numbers to the host": 1}
