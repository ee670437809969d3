"""The cores and GPUs of this machine, shared among trainings that run at once."""

import os
import shutil
from dataclasses import dataclass

import numpy as np
import torch

from ltrsys.errors import UsageError
from ltrsys.training.supervision.process_group import free_port


@dataclass(frozen=True)
class Share:
    """What one of them may use."""

    cores: tuple[int, ...] = ()
    """Numbers of cores; none for all."""
    gpus: tuple[str, ...] = ()
    """GPUs, as in CUDA_VISIBLE_DEVICES; none for what torch chooses."""

    @property
    def confined(self) -> list[str]:
        """The begin of a command that keeps to the cores."""
        return ["taskset", "--cpu-list", ",".join(map(str, self.cores))] if self.cores else []

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a process that keeps to the GPUs, and whose ranks meet where those of no other do."""
        visible = {"CUDA_VISIBLE_DEVICES": ",".join(self.gpus)} if self.gpus else {}
        return {**os.environ, "MASTER_PORT": str(free_port()), **visible}


def shares(jobs: int, gpus: int) -> list[Share]:
    """Divide this machine among `jobs` trainings of `gpus` GPUs each; 1 is a GPU each where there are any, 0 none.

    Raises:
        UsageError: Where it has too few cores or GPUs.
    """
    cores = sorted(os.sched_getaffinity(0))
    if jobs > len(cores):
        raise UsageError(f"--jobs {jobs}: this process may use {len(cores)} cores. Give at most {len(cores)}.")
    if jobs > 1 and shutil.which("taskset") is None:
        raise UsageError(
            "--jobs needs the command taskset, of the package util-linux. Install it, or leave out --jobs."
        )
    seen = _visible_gpus() if gpus > 1 or (gpus == 1 and jobs > 1) else []
    if jobs * gpus > len(seen) and (seen or gpus > 1):
        raise UsageError(
            f"--jobs {jobs} --gpus {gpus}: that takes {jobs * gpus} GPUs, and {len(seen)} can be seen here. Give less."
        )
    if gpus > 1 and not all(name.isdecimal() for name in seen):
        raise UsageError(
            f"--gpus {gpus}: DeepSpeed's launcher takes GPUs by their numbers, and CUDA_VISIBLE_DEVICES names "
            f"{','.join(seen)}. Give numbers there."
        )
    own_gpus = [tuple(seen[job * gpus : (job + 1) * gpus]) for job in range(jobs)]
    if jobs == 1:
        return [Share((), own_gpus[0])]
    return [
        Share(tuple(map(int, own)), visible) for own, visible in zip(np.array_split(cores, jobs), own_gpus, strict=True)
    ]


def _visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = torch.cuda.device_count()
    return list(map(str, range(found))) if named is None else named.split(",")[:found]
