"""`deepspeed --hostfile` over two hosts, which are network namespaces here: cut apart, stopped, and going on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import psutil
import pytest

from ltrsys.commands.data.audit import audit_run
from tests.cluster.hosts import ADDRESSES, INTERFACE, TwoHosts
from tests.trainings import ROOT, config_writer, read_metrics

pytestmark = [pytest.mark.netns, pytest.mark.distributed]

TIMEOUT = 30
"""Seconds, of `train.timeout_seconds`: all has ended by then."""

PORT = 29500
"""Free in namespaces that nothing else lives in."""


class Launch:
    """The same training started on both hosts, by the deepspeed launcher of each."""

    def __init__(self, hosts: TwoHosts, folder: Path, config: Path) -> None:
        hostfile = folder / "hostfile"
        hostfile.write_text("".join(f"{host} slots=1\n" for host in ADDRESSES))
        deepspeed = Path(sys.executable).with_name("deepspeed")
        self.errors = {host: folder / f"{config.stem}-{host}.err" for host in ADDRESSES}
        self._files: list[IO[str]] = [path.open("w") for path in self.errors.values()]
        environment = os.environ | {
            "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": INTERFACE, "PATH": f"{deepspeed.parent}{os.pathsep}{os.environ['PATH']}",
        }  # fmt: skip
        self.launchers = {}
        for node, (host, file) in enumerate(zip(ADDRESSES, self._files, strict=True)):
            command = [
                str(deepspeed), "--hostfile", str(hostfile), "--no_ssh", "--node_rank", str(node),
                "--master_addr", ADDRESSES["host-a"], "--master_port", str(PORT),
                "launchers/train.py", "--config", str(config),
            ]  # fmt: skip
            self.launchers[host] = subprocess.Popen(
                hosts.on(host, command),
                cwd=ROOT,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=file,
                start_new_session=True,
            )

    def rank_on(self, host: str) -> psutil.Process:
        """Return the process of the rank on `host`."""
        below = psutil.Process(self.launchers[host].pid).children(recursive=True)
        (rank,) = [process for process in below if process.cmdline()[1:3] == ["-u", "launchers/train.py"]]
        return rank

    def wait(self, host: str, timeout: float) -> int:
        """Return the exit code of the launcher on `host`."""
        return self.launchers[host].wait(timeout)

    def told(self, host: str) -> str:
        """Return the one line that the rank on `host` has ended with."""
        text = self.errors[host].read_text()
        assert "Traceback" not in text
        (line,) = [line for line in text.splitlines() if line.startswith("ltrsys: ")]
        return line

    def close(self) -> None:
        for launcher in self.launchers.values():
            if launcher.poll() is None:
                os.killpg(launcher.pid, signal.SIGKILL)
                launcher.wait()
        for file in self._files:
            file.close()


@pytest.fixture
def launch(two_hosts, tmp_path):
    launches = []

    def start(config: Path) -> Launch:
        launches.append(Launch(two_hosts, tmp_path, config))
        return launches[-1]

    yield start
    for one in launches:
        one.close()


def newest_step(run: Path) -> int:
    return max((int(path.stem[5:]) for path in (run / "checkpoints").glob("step-*.safetensors")), default=0)


def wait_for_checkpoint_after(step: int, run: Path, launch: Launch) -> None:
    while newest_step(run) <= step:
        for host, launcher in launch.launchers.items():
            assert launcher.poll() is None, launch.errors[host].read_text()[-3000:]
        time.sleep(0.01)


def test_a_cut_link_and_a_stopped_rank_end_the_run_with_a_name_and_it_goes_on(two_hosts, launch, tmp_path, tiny_shards):
    config = config_writer(tmp_path, tiny_shards)(
        train__engine="deepspeed", train__epochs=12, train__evaluate_every=12, train__checkpoint_every=12,
        train__checkpoint_every_steps=2, train__timeout_seconds=TIMEOUT,
    )  # fmt: skip
    run = tmp_path / "runs" / "tiny"

    cut = launch(config)
    wait_for_checkpoint_after(0, run, cut)
    two_hosts.cut()
    deadline = time.monotonic() + TIMEOUT
    assert [cut.wait(host, deadline - time.monotonic()) for host in ADDRESSES] == [1, 1]
    assert "rank 1 on host-b has been silent for" in cut.told("host-a")
    assert "rank 0 on host-a has been silent for" in cut.told("host-b")
    assert "rank 1 on host-b cannot reach the rendezvous store there" in cut.told("host-b")

    two_hosts.mend()
    saved = newest_step(run)
    stopped = launch(config)
    wait_for_checkpoint_after(saved, run, stopped)
    rank = stopped.rank_on("host-b")
    rank.suspend()
    assert stopped.wait("host-a", TIMEOUT) == 1
    assert "rank 1 on host-b has been silent for" in stopped.told("host-a")
    rank.resume()
    assert stopped.wait("host-b", TIMEOUT) == 1
    assert "rank 0 on host-a has been silent for" in stopped.told("host-b")

    last = launch(config)
    assert [last.wait(host, 300) for host in ADDRESSES] == [0, 0], last.errors["host-a"].read_text()[-3000:]
    report = audit_run(run)
    assert report.complete
    assert [attempt.world_size for attempt in report.attempts] == [2, 2, 2]
    assert 0 < saved <= report.attempts[1].first_step < report.attempts[2].first_step
    assert [line["step"] for line in read_metrics(run) if "train/loss" in line] == list(range(1, 37))
