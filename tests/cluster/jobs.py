"""Jobs of `launchers/*.sbatch` on the tests' SLURM."""

import sys
import time
from pathlib import Path

from tests.cluster.slurm import SlurmCluster
from tests.trainings import ROOT


def submit_script(
    cluster: SlurmCluster, script: str, folder: Path, *arguments: str, options: tuple[str, ...], **environment: str
) -> str:
    """Submit a batch script with its `arguments`; return the job's number."""
    own = {
        "VIRTUAL_ENV": sys.prefix, "LTRSYS_LOGS": str(folder / "logs"), "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip
    return cluster.run(
        "sbatch", "--parsable", f"--chdir={ROOT}", f"--output={folder}/job.out", *options, script, *arguments,
        **own | environment,
    )  # fmt: skip


def wait_for_end(cluster: SlurmCluster, job: str, seconds: float = 240) -> dict[str, str]:
    """Return what SLURM knows of the job once it has ended."""
    deadline = time.monotonic() + seconds
    while (state := cluster.job(job))["JobState"] in ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING"):
        assert time.monotonic() < deadline, f"{state}\n{cluster.logs()}"
        time.sleep(0.2)
    return state


def program(folder: Path, name: str, line: str) -> Path:
    """Put a program of one line of shell into a folder of programs; return that."""
    path = folder / "bin" / name
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
    return path.parent
