"""Starts a module of this folder as several ranks that know one another."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import ROOT
from ltrsys.errors import LtrsysError
from ltrsys.training.supervision.process_group import free_port


def run_ranks(module: str, arguments: Sequence[str], ranks: int) -> Any:
    """Run `python -m MODULE ARGUMENTS RESULTS` as each rank; return the JSON that the first one writes to RESULTS.

    Raises:
        LtrsysError: Where a rank fails.
    """
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.json"
        processes = []
        for rank in range(ranks):
            environment = os.environ | {
                "RANK": str(rank),
                "WORLD_SIZE": str(ranks),
                "LOCAL_RANK": str(rank),
                "LOCAL_WORLD_SIZE": str(ranks),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            }
            command = [sys.executable, "-m", module, *arguments, str(results)]
            processes.append(
                subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            )
        errors = [process.communicate()[1] for process in processes]
        for process, error in zip(processes, errors, strict=True):
            if process.returncode:
                raise LtrsysError(f"a rank of the benchmark failed: {error.decode()[-2000:]}")
        return json.loads(results.read_text(encoding="utf-8"))
