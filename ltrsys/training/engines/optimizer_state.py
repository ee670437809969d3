"""An optimizer's state by the names of parameters, so that it fits any engine, any groups and any number of ranks."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

STEP, GROUP_STEP = "step", "group_step"
"""The number of steps: of a parameter, and where an optimizer counts so, of a group; each of its parameters then has it
in `state_by_name`."""

_TYPE = {bool: torch.bool, int: torch.int64, float: torch.float64}
"""Of the tensors that stand for numbers."""


def state_by_name(optimizer: torch.optim.Optimizer, trained: nn.Module) -> dict[str, Tensor]:
    """Return the optimizer's state as `<parameter>.<what>`, such as `classifier.bias.momentum_buffer`.

    Numbers become tensors of no dimension. Empty before the first step.
    """
    names = _names(trained)
    found: dict[str, Tensor] = {}
    for group in optimizer.param_groups:
        members = [one for one in group["params"] if one in optimizer.state]
        shared = shared_state(group, [optimizer.state[one] for one in members])
        for parameter in members:
            whole = optimizer.state[parameter] | shared
            found |= {f"{names[parameter]}.{what}": tensor for what, tensor in as_tensors(whole)}
    return found


def load_state_by_name(optimizer: torch.optim.Optimizer, trained: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Take over what `state_by_name` returned, copied, in the memory format of the parameters."""
    if not state:
        return
    names, by_name = _names(trained), _by_parameter(state)
    whole = optimizer.state_dict()
    kept: dict[int, dict[str, Any]] = {}
    for group, numbered in zip(optimizer.param_groups, whole["param_groups"], strict=True):
        for number, parameter in zip(numbered["params"], group["params"], strict=True):
            own = dict(by_name.get(names[parameter], {}))
            if GROUP_STEP in own:
                numbered[STEP] = as_kept(own.pop(GROUP_STEP))
            if own:
                kept[number] = {what: as_kept(tensor, parameter) for what, tensor in own.items()}
    optimizer.load_state_dict(whole | {"state": kept})


def shared_state(group: Mapping[str, Any], states: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what all parameters of a group have in common: its number of steps, where it is not kept for each.

    DeepSpeed's FusedAdam counts, as a plain number, in the state of one parameter of the group alone.
    """
    counted = [state[STEP] for state in states if isinstance(state.get(STEP), int)]
    shared: dict[str, Any] = {STEP: max(counted)} if counted else {}
    return shared | ({GROUP_STEP: group[STEP]} if STEP in group else {})


def as_tensors(state: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Yield the parts of a parameter's state; numbers as tensors of their type, and nothing for None."""
    for what, value in state.items():
        if isinstance(value, Tensor):
            yield what, value if value.dim() else value.clone()  # what several share, a file cannot hold
        elif value is not None:
            yield what, torch.full((), value, dtype=_TYPE[type(value)])


def as_kept(tensor: Tensor, parameter: Tensor | None = None) -> Any:
    """Return a part of a state as optimizers keep it: a number where the tensor stands for one, else a copy.

    Args:
        tensor: One of `as_tensors`.
        parameter: Whose memory format a tensor of its shape is to have.
    """
    if tensor.dim() == 0 and tensor.dtype in _TYPE.values():
        return tensor.item()
    if parameter is None or tensor.shape != parameter.shape:
        return tensor.clone()
    return torch.empty_like(parameter, requires_grad=False).copy_(tensor)


def _names(trained: nn.Module) -> dict[nn.Parameter, str]:
    return {parameter: name for name, parameter in trained.named_parameters()}


def _by_parameter(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        parameter, _, what = name.rpartition(".")
        found.setdefault(parameter, {})[what] = tensor
    return found
