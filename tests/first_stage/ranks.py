"""One rank of a distributed test."""

import os
from pathlib import Path

import torch

from ltrsys.config.reading import load_config
from ltrsys.first_stage.trainer import Trainer, train
from ltrsys.training.supervision.process_group import process_group
from ltrsys.world import World


class StoppingTrainer(Trainer):
    """A trainer that is interrupted after some epochs, as by Ctrl-C."""

    stop_after: int | None = None

    def _train_epoch(self, epoch, advance):
        if epoch == self.stop_after:
            self.checkpoints.wait()
            raise KeyboardInterrupt
        return super()._train_epoch(epoch, advance)


def run(path: Path, stop_after: int | None = None) -> None:
    """Train `path`'s config in this process, as the rank that the environment names."""
    config = load_config(path)
    world = World.detect()
    with process_group(world, config.train.timeout_seconds) as device:
        trainer = StoppingTrainer(config, world, device)
        trainer.stop_after = stop_after
        try:
            trainer.fit()
        except KeyboardInterrupt:
            pass
        finally:
            trainer.close()


def become_rank(rank: int, world_size: int, port: int) -> None:
    """Make this process rank `rank` of `world_size` that meet at `port`, on one thread of the CPU."""
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }
    torch.set_num_threads(1)


def run_rank(rank: int, world_size: int, port: int, path: Path, stop_after: int | None) -> None:
    """Train `path`'s config as a rank."""
    become_rank(rank, world_size, port)
    run(path, stop_after)


def train_rank(rank: int, world_size: int, port: int, path: Path) -> None:
    """Train `path`'s config as a rank of `ltrsys train`, which is watched."""
    become_rank(rank, world_size, port)
    train(load_config(path), World.detect())
