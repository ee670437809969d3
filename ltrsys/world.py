"""Where this process stands among the others."""

import os
from dataclasses import dataclass

from ltrsys.errors import UsageError


@dataclass(frozen=True)
class World:
    """The place of one process; only `World.detect` reads the environment, so tests can walk any cluster."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    """The number of its GPU among those that it sees: its place among the ranks of this node, or 0 if it sees one."""
    local_world_size: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise UsageError(f"rank {self.rank} is not one of the {self.world_size} ranks 0 to {self.world_size - 1}.")

    @classmethod
    def detect(cls) -> "World":
        """Read what `deepspeed`, `torchrun` or the SLURM script exported; alone without them.

        A rank that sees one GPU gets that one, and LOCAL_RANK becomes 0: DeepSpeed takes its device from there.
        """
        if os.environ.get("LOCAL_RANK") and _sees_one_gpu():
            os.environ["LOCAL_RANK"] = "0"
        try:
            return cls(
                rank=int(os.environ.get("RANK", 0)),
                world_size=int(os.environ.get("WORLD_SIZE", 1)),
                local_rank=int(os.environ.get("LOCAL_RANK", 0)),
                local_world_size=int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE") or 1),
            )
        except ValueError as error:
            raise UsageError(f"RANK, WORLD_SIZE and LOCAL_RANK must be whole numbers: {error}.") from None

    @property
    def is_main(self) -> bool:
        """Whether this is the one process that writes files and dashboards."""
        return self.rank == 0


def _sees_one_gpu() -> bool:
    """Whether CUDA_VISIBLE_DEVICES names one device: `1`, `GPU-...` or `MIG-...`."""
    return len([name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]) == 1
