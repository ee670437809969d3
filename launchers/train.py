"""Train one experiment, on as many processes as the launcher starts.

deepspeed launchers/train.py --config configs/glyphs/demo.yaml train.epochs=5
python    launchers/train.py --config configs/glyphs/demo.yaml            (one process)
"""

import argparse
import signal
import sys
from pathlib import Path
from typing import NoReturn

from ltrsys.cli.main import configure_logging, run_reporting_errors
from ltrsys.config.reading import load_config
from ltrsys.errors import UsageError
from ltrsys.world import World


class _Parser(argparse.ArgumentParser):
    """Tells a wrong command line in one line, as everything else is told."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}. See {self.prog} --help.")


def parse_arguments() -> argparse.Namespace:
    """Read the command line; `--local_rank` is what the deepspeed launcher adds."""
    parser = _Parser(description="Train one experiment; a run begun before is continued.")
    parser.add_argument("--config", type=Path, required=True, help="YAML file of the experiment")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--local_rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value", help="changes to the config")
    return parser.parse_intermixed_args()


def main() -> int:
    """Train; return 0, or 2 where the first rank has reported wrong usage or configuration."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # until there is something to save: by default it ends the process
    try:
        world = World.detect()
        arguments = parse_arguments()
        config = load_config(arguments.config, arguments.overrides)
        from ltrsys.training.trainer import train  # slow to import: a wrong config is told before

        train(config, world)
    except UsageError as error:
        if "world" in locals() and not world.is_main:
            return error.exit_code  # every rank sees the same mistake; one report is enough
        raise
    return 0


if __name__ == "__main__":
    configure_logging()
    sys.exit(run_reporting_errors(main, debug="--debug" in sys.argv))
