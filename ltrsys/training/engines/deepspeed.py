"""DeepSpeed's engine, used so that it costs no more than DistributedDataParallel (docs/training.md)."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ltrsys.models.network import Network
from ltrsys.training.config import TrainConfig
from ltrsys.training.engines.engine import (
    AUTOCAST_TYPE,
    ScalerState,
    average_gradients_of,
    clip_gradients,
)
from ltrsys.training.engines.optimizer_state import (
    GROUP_STEP,
    STEP,
    as_kept,
    as_tensors,
    load_state_by_name,
    shared_state,
    state_by_name,
)
from ltrsys.training.engines.trained import Trained
from ltrsys.training.losses.base import Outputs
from ltrsys.training.objective import Mixed, Objective
from ltrsys.training.optimizers.base import set_learning_rates


class DeepSpeedEngine:
    """An `Engine` on DeepSpeed: ZeRO 0 or 1, mixed precision as autocast over float32 weights."""

    def __init__(
        self,
        network: Network,
        trained: Trained,
        optimizer: torch.optim.Optimizer,
        config: TrainConfig,
        objective: Objective,
        *,
        accumulation: int,
        micro_batch_size: int,
    ) -> None:
        self.network, self.objective, self._trained = network, objective, trained
        self._config, self._accumulation = config, accumulation
        self._called = _Called(trained)
        self._engine = _initialize(self._called, optimizer, config, accumulation, micro_batch_size)
        if config.in_channels_last:
            # DeepSpeed broadcasts the weights as flat bytes, which this layout is not: so only now.
            network.to(memory_format=torch.channels_last)
        # ZeRO-0 reduces after backward, by way of a flat copy of all gradients; DDP's reducer does it meanwhile.
        self._replica = None
        if config.zero_stage == 0:
            self._replica = average_gradients_of(trained, compiled=config.compile)
        if self._replica is not None:
            self._called.set_target(self._replica)

    def accumulate(self, images: Tensor, labels: Tensor, *, last: bool, mixed: Mixed | None = None) -> Tensor:
        """See `Engine`."""
        with self._reduction(last):
            logits, features = self._engine(images)
            loss = self.objective(Outputs(logits.float(), features.float(), labels), mixed)
            self._engine.backward(loss)
        if not last:
            self._engine.step()  # DeepSpeed counts the micro-batches by these; it updates at the last
        return loss.detach()

    @contextmanager
    def _reduction(self, last: bool) -> Iterator[None]:
        """Leave averaging the gradients, at the last micro-batch, to DDP's reducer where there is one."""
        if self._replica is None:
            yield
            return
        with self._engine.no_sync(), nullcontext() if last else self._replica.no_sync():
            yield

    def step(self, lr_factor: float) -> None:
        """See `Engine`."""
        set_learning_rates(self._engine.optimizer, lr_factor)
        if self._config.clip_grad_norm is not None and self._replica is not None:  # else ZeRO does it
            if scaler := self._engine.torch_autocast_z0_gradscaler:
                scaler.unscale_(self._engine.optimizer)
            clip_gradients(self._trained, self._config.clip_grad_norm)
        self._engine.step()

    def optimizer_state(self) -> dict[str, Tensor]:
        """See `Engine`."""
        if self._replica is not None:
            return state_by_name(self._engine.optimizer, self._trained)
        from deepspeed.utils import lazy_init_hp_params_optimizer_state, safe_get_full_optimizer_state

        zero = self._engine.optimizer
        states = [zero.optimizer.state.get(group) for group in self._flat_groups]
        if not all(states):
            return {}
        for parameters, flat in zip(zero.bit16_groups, self._flat_groups, strict=True):
            # DeepSpeed does this after it has stepped the first group, when the others have no state yet.
            lazy_init_hp_params_optimizer_state(parameters, flat, zero.optimizer.state)
        found = {}
        shared = shared_state(zero.optimizer.param_groups[0], states)
        for name, parameter in self._trainable():
            for what, value in as_tensors(states[0] | shared):
                # numbers, such as that of the steps, are the same for all
                found[f"{name}.{what}"] = safe_get_full_optimizer_state(parameter, what) if value.dim() else value
        return found

    def load_optimizer_state(self, state: Mapping[str, Tensor]) -> None:
        """See `Engine`."""
        if not state:
            return
        if self._replica is not None:
            load_state_by_name(self._engine.optimizer, self._trained, state)
            return
        from deepspeed.utils import lazy_init_hp_params_optimizer_state, safe_set_full_optimizer_state

        zero = self._engine.optimizer
        some, _ = next(self._trainable())
        whats = [name.removeprefix(f"{some}.") for name in state if name.startswith(f"{some}.")]
        whats = [what for what in whats if what != GROUP_STEP]
        steps = state.get(f"{some}.{GROUP_STEP}")
        for parameters, flat, group in zip(
            zero.bit16_groups, self._flat_groups, zero.optimizer.param_groups, strict=True
        ):
            for what in whats:
                value = state[f"{some}.{what}"]
                zero.optimizer.state[flat][what] = torch.zeros_like(flat) if value.dim() else as_kept(value)
            if steps is not None:
                group[STEP] = as_kept(steps)
            lazy_init_hp_params_optimizer_state(parameters, flat, zero.optimizer.state)
        for name, parameter in self._trainable():
            for what in whats:
                value = state[f"{name}.{what}"]
                if value.dim():
                    safe_set_full_optimizer_state(parameter, value.to(parameter.device), what)

    def _trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name, one) for name, one in self._trained.named_parameters() if one.requires_grad)

    @property
    def _flat_groups(self) -> list[Tensor]:
        """This rank's part of the parameters of each group, laid end to end: what ZeRO's inner optimizer updates."""
        groups: list[Tensor] = self._engine.optimizer.single_partition_of_fp32_groups
        return groups

    def scaler_state(self) -> ScalerState:
        """See `Engine`."""
        scaler = self._engine.torch_autocast_z0_gradscaler
        return scaler.state_dict() if scaler else {}

    def load_scaler_state(self, state: ScalerState) -> None:
        """See `Engine`."""
        scaler = self._engine.torch_autocast_z0_gradscaler
        if scaler and state:
            scaler.load_state_dict(state)

    def close(self) -> None:
        """See `Engine`."""
        self._engine.destroy()


class _Called(nn.Module):
    """What DeepSpeed calls: what is trained, by way of what averages its gradients once that exists.

    The wrapper is not a submodule, since it holds what is trained too.
    """

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        self.trained = trained
        self._target: list[nn.Module] = [trained]

    def set_target(self, replica: DistributedDataParallel) -> None:
        self._target = [replica]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        outputs: tuple[Tensor, Tensor] = self._target[0](images)
        return outputs


def _initialize(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
    accumulation: int,
    micro_batch_size: int,
) -> Any:
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed

    deepspeed.utils.logger.setLevel(logging.ERROR)
    # On a CPU, DeepSpeed would compile this operator at every first start; only its inference engine calls it.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    engine, *_ = deepspeed.initialize(
        model=module,
        optimizer=optimizer,
        config={
            "train_micro_batch_size_per_gpu": micro_batch_size,
            "gradient_accumulation_steps": accumulation,
            # Not given, it is 1.0: another method, and a pass over all gradients. At ZeRO 0, `step` clips.
            "gradient_clipping": (config.clip_grad_norm or 0.0) if config.zero_stage else 0.0,
            "zero_optimization": {"stage": config.zero_stage},
            "zero_allow_untested_optimizer": True,
            "torch_autocast": {
                "enabled": config.precision in AUTOCAST_TYPE,
                "dtype": {"bf16": "bfloat16", "fp16": "float16"}.get(config.precision, "bfloat16"),
            },
            "steps_per_print": None,
            # Each of its two readings a micro-batch waits until the GPU has done all that it has been given.
            "timers": {"throughput": {"enabled": False}},
        },
    )
    return engine
