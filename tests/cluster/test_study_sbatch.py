"""`ltrsys study run --launcher slurm` on a real SLURM."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.jobs import wait_for_end
from tests.cluster.slurm import SlurmCluster
from tests.studies.test_studies import RETRAINED, written
from tests.trainings import ROOT

pytestmark = [pytest.mark.slurm, pytest.mark.distributed]


def ltrsys(cluster: SlurmCluster, folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    own = {"VIRTUAL_ENV": sys.prefix, "LTRSYS_LOGS": str(folder / "logs"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", "from ltrsys.cli.main import main; main()", "study", *map(str, arguments)],
        cwd=ROOT, env=cluster.environment | own, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_what_a_study_lacks_is_a_job_array_and_is_measured_after_it(
    cluster: SlurmCluster, tmp_path: Path, tiny_shards: Path
) -> None:
    study = written(tmp_path, tiny_shards)
    options = f"--nodes=1 --output={tmp_path}/%x-%A_%a.out"
    done = ltrsys(cluster, tmp_path, "run", study, "--launcher", "slurm", "--sbatch", options)
    assert done.returncode == 0, done.stderr
    array, measuring = re.search(
        r"3 trainings are job array (\d+)\..*: job (\d+) then", done.stderr, re.DOTALL
    ).groups()
    logs = "\n".join(path.read_text() for path in tmp_path.glob("*.out"))
    assert wait_for_end(cluster, measuring, 500)["ExitCode"] == "0:0", logs
    for task in range(3):
        assert cluster.job(f"{array}_{task}")["JobState"] == "COMPLETED"
    table = json.loads(ltrsys(cluster, tmp_path, "show", study, "--format", "json").stdout)
    assert [row["seeds"] for row in table["rows"]] == [2, 1, 2, 2]

    again = ltrsys(cluster, tmp_path, "run", study, "--launcher", "slurm", "--sbatch", options)
    assert "job array" not in again.stderr, "nothing is missing any more"
    assert wait_for_end(cluster, re.search(r"job (\d+) then", again.stderr).group(1))["ExitCode"] == "0:0"


def test_trainings_that_start_from_others_are_an_array_that_waits_for_theirs(
    cluster: SlurmCluster, tmp_path: Path, tiny_shards: Path
) -> None:
    study = written(tmp_path, tiny_shards, **RETRAINED)
    options = f"--nodes=1 --output={tmp_path}/%x-%A_%a.out"
    done = ltrsys(cluster, tmp_path, "run", study, "--launcher", "slurm", "--sbatch", options)
    assert done.returncode == 0, done.stderr
    first, second, measuring = re.search(
        r"2 trainings are job array (\d+)\..*1 trainings are job array (\d+)\..*: job (\d+) then",
        done.stderr,
        re.DOTALL,
    ).groups()
    assert f"afterok:{first}_" in cluster.job(f"{second}_0")["Dependency"]
    logs = "\n".join(path.read_text() for path in tmp_path.glob("*.out"))
    assert wait_for_end(cluster, measuring, 500)["ExitCode"] == "0:0", logs
    table = json.loads(ltrsys(cluster, tmp_path, "show", study, "--format", "json").stdout)
    assert [row["seeds"] for row in table["rows"]] == [1, 2]


def test_without_slurm_the_line_says_so(tmp_path: Path, tiny_shards: Path, monkeypatch, capsys) -> None:
    from ltrsys.cli.main import main

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit) as exit_:
        main(["study", "run", str(written(tmp_path, tiny_shards)), "--launcher", "slurm"])
    assert exit_.value.code == 2
    assert "--launcher slurm: there is no sbatch here" in capsys.readouterr().err
