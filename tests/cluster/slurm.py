"""A SLURM cluster of its own on this machine: two nodes without a GPU, and two that say that they have two each."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

NODES = ("n1", "n2", "g1", "t1")
DAEMONS = ("munged", "slurmctld", "slurmd")
COMMANDS = ("mungekey", "sbatch", "scontrol", "scancel", "squeue", "srun")


def why_not() -> str | None:
    """Return what this machine lacks for a cluster, or None."""
    if os.geteuid() != 0:
        return "SLURM's daemons need root"
    missing = [program for program in (*DAEMONS, *COMMANDS) if shutil.which(program) is None]
    return f"missing: {', '.join(missing)} (Debian: slurm-wlm, munge)" if missing else None


class SlurmCluster:
    """Daemons in the foreground, as children of this process; everything they write is in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._daemons: list[subprocess.Popen[bytes]] = []
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
        for name in ("state", "log", *NODES):
            (folder / name).mkdir()
        for path, text in ((folder / "slurm.conf", self._settings()), *self._other_settings().items()):
            path.write_text(text)
        key = folder / "munge.key"
        subprocess.run(["mungekey", "--create", f"--keyfile={key}"], check=True)
        own = {name: folder / f"munge.{name}" for name in ("socket", "pid", "seed")}
        try:
            self._start(
                "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={own['socket']}",
                f"--pid-file={own['pid']}", f"--seed-file={own['seed']}", f"--log-file={folder / 'log' / 'munged'}",
            )  # fmt: skip
            self._wait_until(own["socket"].exists, "munged makes its socket")
            self._start("slurmctld", "-D", "-f", self.environment["SLURM_CONF"])
            for node in NODES:
                self._start("slurmd", "-D", "-N", node, "-f", self.environment["SLURM_CONF"])
            self._wait_until(lambda: self._idle_nodes() == len(NODES), "all nodes are idle")
        except BaseException:
            self.close()
            raise

    def _settings(self) -> str:
        host, folder = socket.gethostname().split(".")[0], self._folder
        ports = _free_ports(5)
        node = f"NodeHostname={host} NodeAddr=127.0.0.1 CPUs=1 RealMemory=1000 State=UNKNOWN"
        return f"""
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/log/slurmctld
SlurmdLogFile={folder}/log/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1
GresTypes=gpu
JobRequeue=1
NodeName=n1 Port={ports[1]} {node}
NodeName=n2 Port={ports[2]} {node}
NodeName=g1 Port={ports[3]} Gres=gpu:2 {node.replace("CPUs=1", "CPUs=2")}
NodeName=t1 Port={ports[4]} Gres=gpu:a100:2 {node.replace("CPUs=1", "CPUs=2")}
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=60 State=UP
PartitionName=gpu Nodes=g1 MaxTime=60 State=UP
PartitionName=typed Nodes=t1 MaxTime=60 State=UP
"""

    def _other_settings(self) -> Mapping[Path, str]:
        return {
            self._folder / "gres.conf": "".join(
                f"{node} Name=gpu File={device}\n"
                for node in ("NodeName=g1", "NodeName=t1 Type=a100")
                for device in ("/dev/null", "/dev/zero")
            ),
            # Without it every start of a job waits for a minute for cgroups that nobody delegates.
            self._folder / "cgroup.conf": "CgroupPlugin=cgroup/v1\nCgroupAutomount=no\nIgnoreSystemd=yes\n",
        }

    def run(self, *command: str, **environment: str) -> str:
        """Run one of SLURM's commands and return what it prints."""
        done = subprocess.run(
            command, env=self.environment | environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout.strip()

    def job(self, job: str) -> dict[str, str]:
        """Return what SLURM knows of a job: JobState, Restarts, ExitCode and more."""
        shown = self.run("scontrol", "show", "job", "--oneliner", job)
        return dict(field.split("=", 1) for field in shown.split() if "=" in field)

    def start_again(self, job: str) -> None:
        """Start a job that was requeued: left alone, SLURM has it wait for about two minutes.

        Not at once, though: a node refuses a job that was cancelled there in the same second.
        """
        self._wait_until(lambda: self.job(job)["JobState"] == "PENDING", f"job {job} is back in the queue")
        self.run("scontrol", "update", f"JobId={job}", "StartTime=now+3")

    def logs(self) -> str:
        """Return the end of every daemon's log."""
        return "\n".join(f"== {path.name}\n{path.read_text()[-2000:]}" for path in (self._folder / "log").iterdir())

    def close(self) -> None:
        """Cancel what runs, and stop the daemons, the last started first."""
        if len(self._daemons) > 1:
            subprocess.run(["scancel", "--user=root"], env=self.environment, capture_output=True, check=False)
            subprocess.run(
                ["scancel", "--user=root", "--signal=KILL", "--full"],
                env=self.environment,
                capture_output=True,
                check=False,
            )
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in reversed(self._daemons):
            daemon.wait(timeout=60)

    def _start(self, *command: str) -> None:
        log = (self._folder / "log" / f"{Path(command[0]).name}-{len(self._daemons)}.out").open("wb")
        with log:
            self._daemons.append(subprocess.Popen(command, env=self.environment, stdout=log, stderr=log))

    def _idle_nodes(self) -> int:
        shown = subprocess.run(
            ["sinfo", "--noheader", "--Node", "--format=%T"],
            env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return shown.stdout.split().count("idle")

    def _wait_until(self, condition, what: str) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            ended = [daemon.args for daemon in self._daemons if daemon.poll() is not None]
            assert not ended, f"{ended} ended.\n{self.logs()}"
            assert time.monotonic() < deadline, f"waited in vain until {what}.\n{self.logs()}"
            time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
