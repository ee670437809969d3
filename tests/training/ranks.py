"""One rank of a distributed test: trains the configs it is given, one after the other.

python -m tests.training.ranks [--stop-after EPOCHS] CONFIG.yaml ...
"""

import argparse
from pathlib import Path

from ltrsys.config_file import load_config
from ltrsys.training.process_group import process_group
from ltrsys.training.trainer import Trainer
from ltrsys.world import World


class StoppingTrainer(Trainer):
    """A trainer that is interrupted after some epochs, as by Ctrl-C."""

    stop_after: int | None = None

    def _train_epoch(self, epoch, advance):
        if epoch == self.stop_after:
            raise KeyboardInterrupt
        super()._train_epoch(epoch, advance)


def run(path: Path, stop_after: int | None = None) -> None:
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--stop-after", type=int)
    parser.add_argument("configs", nargs="+", type=Path)
    options = parser.parse_args()
    for config in options.configs:
        run(config, options.stop_after)
