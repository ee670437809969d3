"""Compile every GPU kernel ahead of time, without a GPU, and report what each needs.

`python -m ltrsys.kernels.compile` compiles Triton's kernels in every tile configuration that is used, and
`gpu/cuda/class_sums.cu` by nvcc where there is one, for each generation of GPU. Registers that do not fit are spilled
to memory, which is slow: that is an error, as is a block that does not fit a multiprocessor.
"""

import argparse
import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import triton
from rich.console import Console
from rich.table import Table
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from ltrsys.kernels.gpu import class_sums, exact_scores, prepared_rows, screening, tau_logits
from ltrsys.kernels.gpu.tau_sweep import CAPACITY
from ltrsys.kernels.gpu.tiles import tiles_of_capability
from ltrsys.kernels.gpu.variants import Variant

WARP = 32
REGISTERS = 65536
"""Of a multiprocessor; a warp gets them by 256."""
RESERVED_SHARED = 1024
"""Bytes of shared memory that each block takes beside its own."""


class Multiprocessor(NamedTuple):
    """What the blocks of one multiprocessor share (CUDA C++ Programming Guide, technical specifications)."""

    shared: int
    """Bytes of shared memory; a block may have all but `RESERVED_SHARED` of them."""
    threads: int
    blocks: int


MULTIPROCESSORS = {
    80: Multiprocessor(164 * 1024, threads=2048, blocks=32),  # A100
    86: Multiprocessor(100 * 1024, threads=1536, blocks=16),  # RTX 3090, A10, A40
    89: Multiprocessor(100 * 1024, threads=1536, blocks=24),  # RTX 4090, L4, L40
    90: Multiprocessor(228 * 1024, threads=2048, blocks=32),  # H100, H200
    100: Multiprocessor(228 * 1024, threads=2048, blocks=32),  # B200
    103: Multiprocessor(228 * 1024, threads=2048, blocks=32),  # B300
    120: Multiprocessor(100 * 1024, threads=1536, blocks=24),  # RTX 5090
}
"""By compute capability, times ten."""
TENSOR_COLUMNS = 512
"""Columns of tensor memory of a multiprocessor, from 10.0 on."""

WIDTH = 160
"""Columns of the report where it is not printed on a terminal."""

OTHER_TYPES = re.compile(r"\b(?:bf16|fp16|fp64)\b")
PTXAS_REGISTERS = re.compile(r"Used (\d+) registers")
PTXAS_SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
PTXAS_SHARED = re.compile(r"(\d+) bytes smem")
PTXAS_ENTRY = re.compile(r"Compiling entry function '(\w+)'")


@dataclass(frozen=True)
class Compiled:
    """What one kernel needs on one generation of GPU."""

    architecture: int
    kernel: str
    tile: str
    warps: int
    registers: int
    """Of a thread."""
    shared: int
    """Bytes of shared memory of a block."""
    tensor_columns: int
    """Columns of tensor memory of a block."""
    spills: int
    """Bytes stored and loaded because registers did not suffice."""

    @property
    def blocks(self) -> int:
        """Blocks that one multiprocessor holds at a time."""
        shared, threads, blocks = MULTIPROCESSORS[self.architecture]
        by_registers = REGISTERS // (-(-self.registers * WARP // 256) * 256 * self.warps)
        by_shared = shared // (self.shared + RESERVED_SHARED)
        by_tensor_memory = TENSOR_COLUMNS // self.tensor_columns if self.tensor_columns else blocks
        return min(by_registers, by_shared, by_tensor_memory, threads // (WARP * self.warps), blocks)

    @property
    def occupancy(self) -> float:
        """Share of a multiprocessor's threads that these blocks are."""
        return self.blocks * self.warps * WARP / MULTIPROCESSORS[self.architecture].threads


def variants_of(architecture: int) -> list[Variant]:
    """Return all launches of Triton's kernels on one generation."""
    tiles = tiles_of_capability(architecture // 10)
    return [
        *screening.variants(tiles.screen),
        *tau_logits.variants(tiles),
        *exact_scores.variants(CAPACITY),
        *prepared_rows.variants(),
    ]


def compile_triton(variant: Variant, architecture: int) -> Compiled:
    """Compile one kernel for one generation."""
    arguments = dict(variant.arguments)
    source = ASTSource(
        fn=variant.kernel,
        signature={
            name: arguments[name].type if name in arguments else "constexpr" for name in variant.kernel.arg_names
        },
        constexprs=dict(variant.constants),
        attrs={
            (place,): [["tt.divisibility", 16]]
            for place, name in enumerate(variant.kernel.arg_names)
            if name in arguments and arguments[name].divisible
        },
    )
    with _ptxas_log() as log:
        compiled = triton.compile(
            source,
            target=GPUTarget("cuda", architecture, WARP),
            options={"num_warps": variant.warps, "num_stages": variant.stages},
        )
    registers, spills, _ = _of_log(log.getvalue())
    constants = variant.constants
    shape = [constants[name] for name in ("ROWS", "CLASSES", "COLUMNS", "INNER") if name in constants]
    return Compiled(
        architecture,
        variant.name,
        "x".join(map(str, shape)) + f", {variant.stages} stages" if "INNER" in constants else "",
        compiled.metadata.num_warps,
        registers,
        compiled.metadata.shared,
        getattr(compiled.metadata, "tmem_size", None) or 0,
        spills,
    )


def compile_cuda(architecture: int, nvcc: str) -> list[Compiled]:
    """Compile the kernels of class_sums.cu for one generation."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [
                nvcc,
                *("-std=c++17", "-O3", "-cubin", f"-arch=sm_{architecture}", "-Xptxas", "-v"),
                *("-I", str(Path(torch.__file__).parent / "include")),
                *("-o", str(Path(folder) / "class_sums.cubin"), str(class_sums.SOURCES[0])),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"{nvcc} failed on {class_sums.SOURCES[0]} for sm_{architecture}:\n{done.stderr}")
    entries = PTXAS_ENTRY.split(done.stderr)[1:]
    return [
        Compiled(architecture, *_cuda_kernel(name), registers, shared, 0, spills)
        for name, (registers, spills, shared) in zip(entries[::2], map(_of_log, entries[1::2]), strict=True)
    ]


def compile_all(architectures: Iterable[int], *, quick: bool, nvcc: str | None) -> Iterator[Compiled]:
    """Compile everything; `quick` leaves out other types than float32."""
    for architecture in architectures:
        for variant in variants_of(architecture):
            if not (quick and OTHER_TYPES.search(variant.name)):
                yield compile_triton(variant, architecture)
        if nvcc is not None:
            yield from compile_cuda(architecture, nvcc)


def main(arguments: list[str] | None = None) -> int:
    """Print the report; return 1 if a kernel spills registers, or a multiprocessor cannot hold a block of it."""
    parser = argparse.ArgumentParser(prog="python -m ltrsys.kernels.compile", description=__doc__.splitlines()[0])
    parser.add_argument("--architectures", type=int, nargs="+", choices=MULTIPROCESSORS, default=[*MULTIPROCESSORS])
    parser.add_argument("--quick", action="store_true", help="float32 only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report to FILE too")
    options = parser.parse_args(arguments)
    nvcc = shutil.which("nvcc")
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    done: list[Compiled] = []
    for compiled in compile_all(options.architectures, quick=options.quick, nvcc=nvcc):
        done.append(compiled)
        print(f"sm_{compiled.architecture} {compiled.kernel}", file=sys.stderr)
    console.print(_table(done))
    if nvcc is None:
        print("class_sums.cu was not compiled: nvcc was not found.")
    if options.json is not None:
        rows = [asdict(each) | {"blocks": each.blocks, "occupancy": each.occupancy} for each in done]
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    spilling = [f"{each.kernel} on sm_{each.architecture}" for each in done if each.spills]
    if spilling:
        print(f"Registers are spilled by {', '.join(spilling)}: choose smaller tiles.", file=sys.stderr)
    too_large = [f"{each.kernel} on sm_{each.architecture}" for each in done if not each.blocks]
    if too_large:
        print(f"No multiprocessor holds a block of {', '.join(too_large)}: choose smaller tiles.", file=sys.stderr)
    return 1 if spilling or too_large else 0


def _table(done: Iterable[Compiled]) -> Table:
    table = Table("sm", "kernel", "tile", "warps", "registers", "KiB", "spills", "blocks", "occupancy")
    for column in table.columns:
        column.no_wrap = True
    for each in done:
        table.add_row(
            *(str(each.architecture), each.kernel, each.tile, str(each.warps), str(each.registers)),
            *(f"{each.shared / 1024:.0f}", str(each.spills), str(each.blocks), f"{each.occupancy:.0%}"),
        )
    return table


def _of_log(log: str) -> tuple[int, int, int]:
    """Return registers, bytes of spills and bytes of shared memory that ptxas reports for one kernel."""
    registers, spills, shared = PTXAS_REGISTERS.search(log), PTXAS_SPILLS.search(log), PTXAS_SHARED.search(log)
    if registers is None or spills is None:
        raise RuntimeError(f"ptxas did not report registers and spills:\n{log}")
    return int(registers[1]), int(spills[1]) + int(spills[2]), int(shared[1]) if shared else 0


def _cuda_kernel(mangled: str) -> tuple[str, str, int]:
    """Return name, tile and warps of a kernel of class_sums.cu."""
    types = {"4Half": "fp16", "8BFloat16": "bf16", "If": "fp32", "Id": "fp64"}
    dtype = next(dtype for key, dtype in types.items() if key in mangled)
    if "row_lengths" in mangled:
        return f"row_lengths {dtype} (CUDA)", "", 8
    return f"class_sums {dtype} (CUDA)", "64x128", 4


@contextlib.contextmanager
def _ptxas_log() -> Iterator[io.StringIO]:
    """Collect what ptxas says while Triton compiles, from scratch."""
    log = io.StringIO()
    with triton.knobs.compilation.scope(), triton.knobs.nvidia.scope(), contextlib.redirect_stdout(log):
        triton.knobs.compilation.always_compile = True
        triton.knobs.nvidia.dump_ptxas_log = True
        yield log


if __name__ == "__main__":
    sys.exit(main())
