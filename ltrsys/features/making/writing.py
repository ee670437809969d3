"""Writing features while the next ones are computed: a thread, one batch behind.

B images of a batch, D features.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltrsys.features.config import FeatureKind

Write = Callable[[dict[FeatureKind, NDArray[np.float32]]], None]
"""Writes the features of a batch, float32 [B, D] by kind."""


class WriterThread:
    """Waits for the copy of a batch to the host and writes it; the next batch is computed meanwhile.

    Within `with`. The block ends once all is written, or as soon as the thread is done with what it is at, where an
    exception ends it.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="features")
        self._last: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the thread.

        Raises:
            BaseException: What the last write raised, unless another exception ends the block.
        """
        self._thread.shutdown(cancel_futures=error is not None)
        if error is None:
            self._wait()

    def add(self, features: Mapping[FeatureKind, Tensor], write: Write) -> None:
        """Have `write` get the features of a batch, [B, D] by kind, once the batch before is written.

        Raises:
            BaseException: What the write before raised.
        """
        copies = {kind: features_BD.detach().float() for kind, features_BD in features.items()}
        arrived = None
        if any(copy.device.type == "cuda" for copy in copies.values()):
            copies = {kind: _begin_copy(copy) for kind, copy in copies.items()}
            arrived = torch.cuda.Event()
            arrived.record()
        self._wait()
        self._last = self._thread.submit(_write, copies, arrived, write)

    def _wait(self) -> None:
        if self._last is not None:
            self._last.result()


def _begin_copy(values: Tensor) -> Tensor:
    """Return memory of the host that the GPU copies `values` to, when it has done what came before."""
    copy = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    copy.copy_(values, non_blocking=True)
    return copy


def _write(copies: Mapping[FeatureKind, Tensor], arrived: torch.cuda.Event | None, write: Write) -> None:
    if arrived is not None:
        arrived.synchronize()
    write({kind: copy.numpy() for kind, copy in copies.items()})
