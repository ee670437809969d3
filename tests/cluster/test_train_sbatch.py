"""`launchers/train.sbatch` on a real SLURM: two nodes, preempted and out of time, and going on to the end."""

import os
import re
import time
from pathlib import Path

import pytest

from ltrsys.commands.data.audit import audit_run
from tests.cluster.jobs import program, submit_script, wait_for_end
from tests.cluster.slurm import SlurmCluster
from tests.trainings import ROOT, config_writer, read_metrics

pytestmark = [pytest.mark.slurm, pytest.mark.distributed]


def submit(
    cluster: SlurmCluster, folder: Path, *arguments: str, options: tuple[str, ...] = (), **environment: str
) -> str:
    return submit_script(cluster, "launchers/train.sbatch", folder, *arguments, options=options, **environment)


def newest_step(run: Path) -> int:
    return max((int(path.stem[5:]) for path in (run / "checkpoints").glob("step-*.safetensors")), default=0)


def wait_for_checkpoint_after(step: int, run: Path, cluster: SlurmCluster, job: str, output: Path) -> None:
    while newest_step(run) <= step:
        state = cluster.job(job)["JobState"]
        assert state in ("PENDING", "RUNNING", "CONFIGURING"), f"{state}: {output.read_text()}\n{cluster.logs()}"
        time.sleep(0.1)


def test_a_job_is_requeued_before_its_time_limit_and_preempted_and_goes_on_to_the_end(cluster, tmp_path, tiny_shards):
    config = config_writer(tmp_path, tiny_shards)(
        train__engine="deepspeed", train__epochs=12, train__evaluate_every=12, train__checkpoint_every=12,
        train__checkpoint_every_steps=4,
    )  # fmt: skip
    run, output = tmp_path / "runs" / "tiny", tmp_path / "job.out"
    job = submit(cluster, tmp_path, str(config), options=("--nodes=2",))

    wait_for_checkpoint_after(0, run, cluster, job, output)
    cluster.run("scancel", "--batch", "--signal=USR2", job)  # what --signal=B:USR2@300 sends
    cluster.start_again(job)
    out_of_time = newest_step(run)

    wait_for_checkpoint_after(out_of_time, run, cluster, job, output)
    cluster.run("scontrol", "requeue", job)
    cluster.start_again(job)
    preempted = newest_step(run)

    end = wait_for_end(cluster, job)
    told = output.read_text()
    assert (end["JobState"], end["ExitCode"], end["Restarts"]) == ("COMPLETED", "0:0", "2"), told
    assert re.findall(r"start (\d): 2 ranks on n\[1-2\]", told) == ["1", "2", "3"]
    assert told.count("out of time: back into the queue") == 1
    for rank in range(2):
        log = (tmp_path / "logs" / job / f"rank-{rank:05d}.log").read_text()
        stops = [int(step) for step in re.findall(r"stopped by a signal after step (\d+)", log)]
        assert stops == [out_of_time, preempted]
        assert "Traceback" not in log
    report = audit_run(run)
    assert report.complete
    assert [attempt.first_step for attempt in report.attempts] == [0, out_of_time, preempted]
    assert report.retrained_steps == 0
    assert [line["step"] for line in read_metrics(run) if "train/loss" in line] == list(range(1, 37))


def test_there_is_one_task_a_gpu(cluster, tmp_path):
    job = submit(cluster, tmp_path, "none.yaml", options=("--partition=gpu",))
    assert wait_for_end(cluster, job)["ExitCode"] == "2:0"
    assert "2 ranks on g1, 2 GPUs a node" in (tmp_path / "job.out").read_text()
    first, second = sorted((tmp_path / "logs" / job).iterdir())
    assert first.read_text() == "ltrsys: none.yaml: cannot read this config: No such file or directory.\n"
    assert second.read_text() == ""


TELL_GPUS = (
    'echo "LOCAL_RANK $LOCAL_RANK of $LOCAL_WORLD_SIZE, step $SLURM_STEP_GPUS, sees ${CUDA_VISIBLE_DEVICES-nothing}"'
)
ALL_GPUS = ["LOCAL_RANK 0 of 2, step 0,1, sees 0,1\n", "LOCAL_RANK 1 of 2, step 0,1, sees 0,1\n"]
ONE_GPU_EACH = ["LOCAL_RANK 0 of 2, step 0, sees 0\n", "LOCAL_RANK 0 of 2, step 1, sees 1\n"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("", ALL_GPUS),
        ("--gpus-per-node=2", ALL_GPUS),
        ("--gres=gpu:2", ALL_GPUS),
        ("--gpus=2", ALL_GPUS),
        ("--gpus-per-node=a100:2", ALL_GPUS),
        ("--gres=gpu:a100:2", ALL_GPUS),
        ("--ntasks-per-node=1", ["LOCAL_RANK 0 of 1, step 0,1, sees 0,1\n"]),
        ("--gpus-per-node=1 --ntasks-per-node=1", ["LOCAL_RANK 0 of 1, step 0, sees 0\n"]),
        ("--ntasks-per-node=2 --gpus-per-task=1", ONE_GPU_EACH),
        ("--gpus=2 --gpus-per-task=1", ONE_GPU_EACH),
        ("--gpu-bind=single:1", ONE_GPU_EACH),
    ],
)
def test_each_rank_knows_its_gpu_however_the_job_asked_for_gpus(options, told, cluster, tmp_path):
    programs = program(tmp_path, "python", TELL_GPUS)
    partition = "typed" if "a100" in options else "gpu"
    job = submit(
        cluster, tmp_path, "some.yaml", options=(f"--partition={partition}", *options.split()),
        VIRTUAL_ENV=str(programs.parent),
    )  # fmt: skip
    assert wait_for_end(cluster, job)["ExitCode"] == "0:0", (tmp_path / "job.out").read_text()
    assert [log.read_text() for log in sorted((tmp_path / "logs" / job).iterdir())] == told


def test_the_gpus_of_a_whole_node_reach_the_ranks_whatever_their_type(cluster, tmp_path):
    programs = program(tmp_path, "python", TELL_GPUS)
    job = submit(cluster, tmp_path, "some.yaml", options=("--partition=typed",), VIRTUAL_ENV=str(programs.parent))
    assert wait_for_end(cluster, job)["ExitCode"] == "0:0", (tmp_path / "job.out").read_text()
    assert [log.read_text() for log in sorted((tmp_path / "logs" / job).iterdir())] == ALL_GPUS


@pytest.mark.parametrize("options", ["--gpus-per-node=1", "--gpus=1", "--gres=gpu:1"])
def test_two_ranks_do_not_share_a_gpu(options, cluster, tmp_path):
    job = submit(cluster, tmp_path, "some.yaml", options=("--partition=gpu", options))
    assert wait_for_end(cluster, job)["ExitCode"] == "2:0"
    assert [log.read_text() for log in sorted((tmp_path / "logs" / job).iterdir())] == [
        f"ltrsys: rank {rank} on g1: SLURM gives 2 ranks 1 of the 2 GPUs there; submit with as many --gpus-per-node as "
        "--ntasks-per-node.\n"
        for rank in range(2)
    ]


def test_an_image_s_code_runs_by_apptainer_and_sees_the_mounts(cluster, tmp_path):
    """Apptainer itself is no part of Debian: a program of its name tells how it is called."""
    folder = program(tmp_path, "apptainer", 'echo "rank $RANK of $WORLD_SIZE, user site off: $PYTHONNOUSERSITE: $*"')
    job = submit(
        cluster, tmp_path, "some.yaml", "seed=1", options=("--nodes=2",),
        PATH=f"{folder}{os.pathsep}{os.environ['PATH']}",
        LTRSYS_CONTAINER="ltrsys.sif", LTRSYS_MOUNTS="/disk:/work/data",
    )  # fmt: skip
    assert wait_for_end(cluster, job)["ExitCode"] == "0:0"
    for rank in range(2):
        assert (tmp_path / "logs" / job / f"rank-{rank:05d}.log").read_text() == (
            f"rank {rank} of 2, user site off: 1: exec --nv --bind {ROOT},/disk:/work/data --pwd {ROOT} ltrsys.sif "
            "python /opt/ltrsys/launchers/train.py --config some.yaml seed=1\n"
        )


def test_any_other_image_is_given_to_pyxis_which_is_a_part_of_srun(cluster, tmp_path):
    folder = program(tmp_path, "srun", 'echo "user site off: $PYTHONNOUSERSITE: srun $*"')
    job = submit(
        cluster, tmp_path, "some.yaml", options=("--nodes=2",),
        PATH=f"{folder}{os.pathsep}{os.environ['PATH']}",
        LTRSYS_CONTAINER="registry#ltrsys:1", LTRSYS_MOUNTS="/disk:/work/data",
    )  # fmt: skip
    assert wait_for_end(cluster, job)["ExitCode"] == "0:0"
    told = (tmp_path / "job.out").read_text()
    assert "user site off: 1: srun " in told
    assert (
        f"--container-image=registry#ltrsys:1 --container-workdir={ROOT} "
        f"--container-mounts={ROOT}:{ROOT},/disk:/work/data bash -c"
    ) in told
    assert told.endswith(" rank 0 python /opt/ltrsys/launchers/train.py --config some.yaml\n")


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((), (), "ltrsys: train.sbatch needs a config"),
        (("none.yaml",), ("--chdir=/",), "ltrsys: /: there is no launchers/ranks.sh here; submit from the checkout."),
    ],
)
def test_a_wrong_submission_is_one_line(arguments, options, message, cluster, tmp_path):
    job = submit(cluster, tmp_path, *arguments, options=options)
    assert wait_for_end(cluster, job)["ExitCode"] == "2:0"
    told = (tmp_path / "job.out").read_text()
    assert told.startswith(message)
    assert told.count("\n") == 1
