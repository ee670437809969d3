"""What `python -m ltrsys.kernels.compile` compiles: a kernel with the types and constants of one of its launches."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Argument:
    """The type of a kernel's argument, as Triton writes it, and whether it is known to be a multiple of 16."""

    type: str
    divisible: bool


def pointer(dtype: str) -> Argument:
    """Return a pointer to tensors of a type; torch's are aligned to 16 bytes and more."""
    return Argument(f"*{dtype}", divisible=True)


def scalar(dtype: str, *, divisible: bool = False) -> Argument:
    """Return a number."""
    return Argument(dtype, divisible)


@dataclass(frozen=True)
class Variant:
    """A kernel as one launch has it."""

    name: str
    kernel: Any
    arguments: Mapping[str, Argument]
    constants: Mapping[str, Any]
    warps: int
    stages: int
