"""What the interpreted tests share."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def nan_in_new_tensors() -> Iterator[None]:
    """Fill `torch.empty` with NaN or the largest integer, so that what a kernel leaves out is seen."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
