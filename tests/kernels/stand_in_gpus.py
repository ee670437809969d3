"""GPUs that a CPU plays: tensors that say they are on one, what an operation of ltrsys does there, without one.

All that torch computes of such tensors is computed on the CPU. What CUDA would wait for is counted.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from ltrsys.kernels import devices, registration

aten = torch.ops.aten

WAITS = {
    **dict.fromkeys((aten._local_scalar_dense, aten.item, aten.is_nonzero), "a number to the host"),
    **dict.fromkeys((aten.nonzero, aten.nonzero_numpy), "places that hold"),
    **dict.fromkeys((aten._unique2, aten.unique_dim, aten.unique_consecutive), "different values"),
    aten.bincount: "the lowest and the highest number",
}
"""What CUDA's implementations have to know on the host to go on: the value, or the size of the result."""


class OnGpu(Tensor):
    """A tensor of the CPU that says it is on a GPU."""

    on_cpu: Tensor

    @staticmethod
    def __new__(cls, on_cpu: Tensor, number: int) -> "OnGpu":
        made = Tensor._make_wrapper_subclass(
            cls, on_cpu.shape, strides=on_cpu.stride(), dtype=on_cpu.dtype, device=torch.device("cuda", number)
        )
        made.on_cpu = on_cpu
        return made

    def data_ptr(self) -> int:
        return self.on_cpu.data_ptr()

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{operation} was called without the GPUs that a CPU plays")


class StandInGpus(TorchDispatchMode):
    """Lets the CPU play GPUs for all that is called within."""

    def __init__(self, capability: tuple[int, int] = (9, 0), name: str = "a stand-in") -> None:
        super().__init__()
        self.capability = capability
        self.name = name
        self.current = 0
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if operation.namespace == "ltrsys":
            with self:
                return getattr(registration, operation._opname)._init_fn(*args, **kwargs)
        inputs = [values for values in tree_leaves((args, kwargs)) if isinstance(values, Tensor)]
        on_gpu = [values for values in inputs if isinstance(values, OnGpu)]
        target = kwargs.get("device") or (on_gpu[0].device if on_gpu else torch.device("cpu"))
        if on_gpu or target.type == "cuda":
            self._count_waits(operation, args, inputs, target)
        if kwargs.get("device") is not None:
            kwargs = {**kwargs, "device": torch.device("cpu")}
        result = operation(*unwrapped(args), **unwrapped(kwargs))
        if target.type != "cuda":
            return result
        number = self.current if target.index is None else target.index
        known = {id(values.on_cpu): values for values in on_gpu}
        return tree_map_only(
            Tensor, lambda values: known.get(id(values)) if id(values) in known else OnGpu(values, number), result
        )

    def _count_waits(self, operation: Any, args: Any, inputs: list[Tensor], target: torch.device) -> None:
        kind = operation.overloadpacket
        if kind in WAITS:
            self.waits[WAITS[kind]] += 2 if kind is aten.bincount else 1
        elif kind in (aten._to_copy, aten.to, aten.copy_):
            kinds = {values.device.type for values in inputs} | {target.type}
            if kinds == {"cpu", "cuda"}:
                self.waits["numbers to the host" if target.type == "cpu" else "numbers from the host"] += 1
        elif kind in (aten.index, aten.index_put, aten.index_put_):
            masks = [values for values in args[1] if isinstance(values, Tensor) and values.dtype == torch.bool]
            self.waits["places that hold"] += len(masks)

    def put(self, values: Tensor, number: int = 0) -> Tensor:
        """Return a tensor of the CPU on a GPU."""
        return OnGpu(values, number)

    def exchange(self, number: int) -> int:
        """Make a GPU the current one, as `torch.cuda.device` does, and return which one was."""
        before, self.current = self.current, number
        return before


def unwrapped(values: Any) -> Any:
    """Return the CPU's tensors of those on a GPU, in any structure."""
    return tree_map_only(OnGpu, lambda one: one.on_cpu, values)


def play_gpus(monkeypatch: pytest.MonkeyPatch, **properties: Any) -> StandInGpus:
    """Let torch.cuda know of the GPUs, and forget what was said of others."""
    gpus = StandInGpus(**properties)
    told: dict[str, Callable[..., Any]] = {
        "_lazy_init": lambda: None,
        "_exchange_device": gpus.exchange,
        "_maybe_exchange_device": gpus.exchange,
        "current_device": lambda: gpus.current,
        "get_device_capability": lambda device: gpus.capability,
        "get_device_name": lambda device: gpus.name,
    }
    for name, tell in told.items():
        monkeypatch.setattr(torch.cuda, name, tell)
    torch._C._ensureCUDADeviceGuardSet()  # as for FakeTensor: indexing makes a tensor's GPU the current one, in C++
    devices._say_once.cache_clear()
    return gpus
