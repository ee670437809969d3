"""Every GPU kernel compiles, ahead of time and without a GPU, and keeps its registers."""

import io
import json
import re
import shutil
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton", reason="the kernels are Triton's, and it is not installed")

from ltrsys.kernels import compile as module
from ltrsys.kernels.compile import MULTIPROCESSORS, Compiled, compile_cuda, main, variants_of
from ltrsys.kernels.gpu import class_sums
from ltrsys.kernels.gpu.tiles import TILES

ARCHITECTURES = [
    architecture if architecture in TILES else pytest.param(architecture, marks=pytest.mark.slow)
    for architecture in MULTIPROCESSORS
]
"""Those that share their tiles with another, and compile as it does, are tried by hand."""

LAUNCH = re.compile(r"\b(_\w+)\[\(")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], tuple[list[dict[str, Any]], str]]:
    """Compile all of Triton's kernels for an architecture, once; return the report, and what is printed."""

    @cache
    def report(architecture: int) -> tuple[list[dict[str, Any]], str]:
        path = tmp_path_factory.mktemp("report") / "report.json"
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as printed:
            patch.setattr(shutil, "which", lambda name: None)  # CUDA's part has a test of its own
            assert main(["--architectures", str(architecture), "--json", str(path)]) == 0
        return json.loads(path.read_text()), printed.getvalue()

    return report


@pytest.mark.long
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_configuration_compiles_without_spills(
    architecture: int, compiled: Callable[[int], tuple[list[dict[str, Any]], str]]
) -> None:
    report, shown = compiled(architecture)
    assert len(report) == len(variants_of(architecture))
    assert all(kernel["spills"] == 0 and kernel["blocks"] >= 1 for kernel in report)
    assert all(0 < kernel["registers"] <= 255 for kernel in report)
    assert all(kernel["kernel"] in shown for kernel in report)
    assert "nvcc was not found" in shown


@pytest.mark.long
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc was not found")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_cuda_source_compiles_without_spills(architecture: int) -> None:
    report = compile_cuda(architecture, "nvcc")
    names = {
        f"{kernel} {dtype} (CUDA)"
        for kernel in ("class_sums", "row_lengths")
        for dtype in ("fp32", "fp64", "bf16", "fp16")
    }
    assert {kernel.kernel for kernel in report} == names
    assert all(kernel.spills == 0 and kernel.blocks >= 4 for kernel in report)


def test_the_report_has_every_kernel_that_is_launched() -> None:
    sources = "".join(path.read_text() for path in Path(class_sums.__file__).parent.glob("*.py"))
    compiled = {variant.kernel.__name__ for variant in variants_of(90)}
    assert compiled == set(LAUNCH.findall(sources))


@pytest.mark.long
def test_screening_leaves_room_for_two_blocks_on_hopper(
    compiled: Callable[[int], tuple[list[dict[str, Any]], str]],
) -> None:
    for variant, kernel in zip(variants_of(90), compiled(90)[0], strict=True):
        if variant.kernel.__name__ == "_screen":
            assert kernel["blocks"] == 2


def test_a_kernel_that_spills_is_an_error_that_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spilling = Compiled(90, "some_kernel", "", 4, 255, 0, 0, 16)
    monkeypatch.setattr(module, "compile_all", lambda *args, **more: [spilling])
    assert main(["--architectures", "90"]) == 1
    assert "Registers are spilled by some_kernel on sm_90" in capsys.readouterr().err


def test_a_block_that_no_multiprocessor_holds_is_an_error_that_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fits, does_not = (Compiled(each, "some_kernel", "", 4, 64, 163 * 1024, 0, 0) for each in (80, 120))
    assert (fits.blocks, does_not.blocks) == (1, 0)
    monkeypatch.setattr(module, "compile_all", lambda *args, **more: [fits, does_not])
    assert main(["--architectures", "80", "120"]) == 1
    assert "holds a block of some_kernel on sm_120: choose" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("warps", "registers", "shared", "tensor_columns", "blocks"),
    [
        (8, 128, 96 * 1024, 0, 2),  # registers, and shared memory, for two
        (8, 129, 0, 0, 1),  # registers come by eight a thread
        (4, 32, 100 * 1024, 0, 2),  # shared memory for two
        (4, 32, 0, 256, 2),  # tensor memory for two
        (4, 32, 0, 0, 16),  # threads
        (1, 32, 0, 0, 32),  # blocks
    ],
)
def test_the_scarcest_resource_limits_the_blocks(
    warps: int, registers: int, shared: int, tensor_columns: int, blocks: int
) -> None:
    kernel = Compiled(100, "kernel", "", warps, registers, shared, tensor_columns, 0)
    assert kernel.blocks == blocks
    assert kernel.occupancy == blocks * warps / 64
