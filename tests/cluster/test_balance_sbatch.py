"""`launchers/balance.sbatch` on a real SLURM."""

from pathlib import Path

import pytest

from ltrsys.commands.training.balance import balance_run
from ltrsys.evaluation.results import read_results
from tests.classifiers.runs import make_run
from tests.cluster.jobs import program, submit_script, wait_for_end
from tests.cluster.slurm import SlurmCluster

pytestmark = [pytest.mark.slurm, pytest.mark.distributed]


def test_two_nodes_balance_a_run_as_one_process_does(cluster, tmp_path, tiny_shards, one_thread):
    run = make_run(tmp_path / "two", tiny_shards)
    job = submit_script(
        cluster, "launchers/balance.sbatch", tmp_path, str(run.path), "--classifiers=joint,ncm,tau",
        options=("--nodes=2",),
    )  # fmt: skip
    logs = tmp_path / "logs" / job
    assert wait_for_end(cluster, job)["ExitCode"] == "0:0", (logs / "rank-00000.log").read_text()
    assert "2 ranks on n[1-2]" in (tmp_path / "job.out").read_text()
    assert f"Results: {run.results}" in (logs / "rank-00000.log").read_text()
    alone = make_run(tmp_path / "one", tiny_shards)
    balance_run(alone.path, [], "joint,ncm,tau", as_json=False)
    assert read_results(run.results).results == read_results(alone.results).results


def balance_by(cluster: SlurmCluster, folder: Path, line: str) -> str:
    """Submit it with a line of shell in the place of `ltrsys`, to the node that claims two GPUs."""
    programs = program(folder, "ltrsys", line)
    (programs / "python").symlink_to("/bin/true")
    return submit_script(
        cluster, "launchers/balance.sbatch", folder, "runs/some", "balance.bn=eval", options=("--partition=gpu",),
        VIRTUAL_ENV=str(programs.parent),
    )  # fmt: skip


def test_each_rank_balances_on_its_gpu(cluster, tmp_path):
    job = balance_by(cluster, tmp_path, 'echo "rank $RANK on GPU $LOCAL_RANK of $CUDA_VISIBLE_DEVICES: ltrsys $*"')
    assert wait_for_end(cluster, job)["ExitCode"] == "0:0", (tmp_path / "job.out").read_text()
    assert [log.read_text() for log in sorted((tmp_path / "logs" / job).iterdir())] == [
        f"rank {rank} on GPU {rank} of 0,1: ltrsys balance runs/some balance.bn=eval\n" for rank in range(2)
    ]


def test_a_rank_that_fails_ends_the_others(cluster, tmp_path):
    job = balance_by(cluster, tmp_path, '[ "$RANK" = 0 ] || exit 3; exec tail -f /dev/null')
    assert wait_for_end(cluster, job)["JobState"] == "FAILED"


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((), (), "ltrsys: balance.sbatch needs a run"),
        (("runs/some",), ("--chdir=/",), "ltrsys: /: there is no launchers/ranks.sh here; submit from the checkout."),
    ],
)
def test_a_wrong_submission_is_one_line(arguments, options, message, cluster, tmp_path):
    job = submit_script(cluster, "launchers/balance.sbatch", tmp_path, *arguments, options=options)
    assert wait_for_end(cluster, job)["ExitCode"] == "2:0"
    told = (tmp_path / "job.out").read_text()
    assert told.startswith(message)
    assert told.count("\n") == 1
