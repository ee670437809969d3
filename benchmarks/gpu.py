"""One command for whoever has a GPU: `python -m benchmarks.gpu`, in less than 25 minutes, without any data.

Every part runs in a process of its own with a time limit of its own, so that one that fails or hangs takes no other
with it. After each, `gpu_report.json` and `gpu_report.md` are written anew; run again, it goes on with the parts that
are not done. docs/gpu.md says what the parts are and what their numbers should be.
"""

import argparse
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_machine import MACHINE
from benchmarks.report import ROOT, Table, markdown
from ltrsys.errors import LtrsysError, UsageError
from ltrsys.files import read_json, replaced, write_json

VERSION = 1
"""Of the format of gpu_report.json."""
DONE, FAILED, LATE, STOPPED, SKIPPED = "done", "failed", "out of time", "stopped", "skipped"
KEPT_LINES = 30
"""Of what a part that did not end well has printed last."""
SOURCES = ("ltrsys", "kernels", "benchmarks", "tests")
SUFFIXES = {".py", ".cpp", ".cu", ".cuh", ".h"}
PATIENCE = 10.0
"""Seconds from asking a process to end until it is killed."""


@dataclass(frozen=True)
class Part:
    """A benchmark, run as `python -m MODULE --json FILE`."""

    name: str
    what: str
    module: str
    seconds: float
    """After which it is ended."""
    needs: tuple[str, ...] = ()
    """Modules without which it is skipped."""
    gpus: int = 1
    """Without as many it is skipped; a rehearsal needs none."""
    environment: Mapping[str, str] = field(default_factory=dict)


DATA = ("nvidia.dali", "sklearn", "PIL", "pydantic")
PARTS = (
    Part("machine", "GPUs, driver, versions.", "benchmarks.gpu_machine", 60, gpus=0),
    Part(
        "tests",
        "The tests that need a GPU: `pytest -m gpu tests/gpu`.",
        "benchmarks.gpu_tests",
        360,
        needs=("pytest", "deepspeed", *DATA),
    ),
    Part(
        "kernels",
        "The four operations beside cuBLAS, `torch.compile` and faiss.",
        "benchmarks.gpu_kernels",
        210,
        needs=("numpy", "triton"),
    ),
    Part("decode", "DALI's image decoder alone.", "benchmarks.gpu_decode", 75, needs=DATA),
    Part(
        "training",
        "A training step on synthetic images, and on shards of photographs.",
        "benchmarks.gpu_training",
        330,
        needs=("deepspeed", "torchvision", *DATA),
    ),
    Part(
        "bank",
        "Making a feature bank, beside timm and a DataLoader.",
        "benchmarks.bank",
        120,
        needs=("timm", "torchvision", *DATA),
    ),
    Part(
        "classifiers",
        "Every classifier of the second stage on a bank of 100,000 images.",
        "benchmarks.bank_classifiers",
        150,
        needs=("faiss", "pydantic"),
        environment={"LTRSYS_BANK": "100000,2048,8142"},
    ),
    Part(
        "checkpoint",
        "How long a save keeps training waiting.",
        "benchmarks.checkpoint",
        75,
        needs=("torchvision", "webdataset", *DATA),
    ),
    Part(
        "scaling",
        "A training step by number of GPUs, and the sums of gradients.",
        "benchmarks.gpu_scaling",
        100,
        needs=("deepspeed", "torchvision", *DATA),
        gpus=2,
    ),
)


@dataclass
class Record:
    """What became of a part."""

    name: str
    status: str
    measured_on: str
    """A digest of machine, versions and sources: a part that is done is not run again on the same."""
    commit: str = "unknown"
    rehearsal: bool = False
    begun: str = ""
    seconds: float = 0.0
    reason: str = ""
    tables: list[dict[str, Any]] = field(default_factory=list)
    last_lines: list[str] = field(default_factory=list)


class Report:
    """The records of all parts, in a folder."""

    def __init__(self, folder: Path, parts: Sequence[Part], *, rehearsal: bool) -> None:
        """Read what an earlier call has left there.

        Raises:
            LtrsysError: For a file that is no report, and a rehearsal where a GPU was measured.
        """
        self.folder, self.parts, self.rehearsal = folder, parts, rehearsal
        self.records: dict[str, Record] = {}
        path = folder / "gpu_report.json"
        if not path.exists():
            return
        found = read_json(path, "report of benchmarks.gpu", "Give another folder by --out.")
        if not isinstance(found, dict) or found.get("version") != VERSION:
            raise LtrsysError(f"{path}: not a report of this version of benchmarks.gpu. Give another folder by --out.")
        self.records = {record["name"]: Record(**record) for record in found["parts"]}
        if rehearsal and not all(record.rehearsal for record in self.records.values()):
            raise UsageError(f"{folder}: here are measurements of a GPU. Give a rehearsal another folder by --out.")

    def add(self, record: Record) -> None:
        """Take a record in, and write both files."""
        self.records[record.name] = record
        ordered = [self.records[part.name] for part in self.parts if part.name in self.records]
        write_json(
            self.folder / "gpu_report.json",
            {"version": VERSION, "rehearsal": self.rehearsal, "parts": [asdict(one) for one in ordered]},
        )
        with replaced(self.folder / "gpu_report.md", "w") as file:
            file.write(page(self.parts, self.records))

    def is_done(self, part: Part, measured_on: str) -> bool:
        """Say whether a part has been measured on just this."""
        record = self.records.get(part.name)
        return record is not None and (record.status, record.measured_on) == (DONE, measured_on)


def run(report: Report, chosen: Iterable[str], again: Iterable[str]) -> None:
    """Run the chosen parts that are not done, and the first, by which machines are told apart, in any case.

    Raises:
        KeyboardInterrupt: Once what was measured until then is in the report.
    """
    first, *others = report.parts
    chosen, again = set(chosen), set(again)
    machine = _run_and_tell(report, first, "", "unknown")
    for part in others:
        if part.name not in chosen:
            continue
        if part.name not in again and report.is_done(part, machine.measured_on):
            print(f"{part.name}: was done before, on the same machine, versions and sources", flush=True)
            continue
        reason = why_not(part, rehearsal=report.rehearsal)
        if reason is None:
            _run_and_tell(report, part, machine.measured_on, machine.commit)
        else:
            report.add(
                Record(part.name, SKIPPED, machine.measured_on, machine.commit, report.rehearsal, _now(), reason=reason)
            )
            print(f"{part.name}: skipped: {reason}", flush=True)


def _run_and_tell(report: Report, part: Part, measured_on: str, commit: str) -> Record:
    print(f"{part.name}: at most {part.seconds:.0f} s ...", flush=True)
    try:
        record = run_part(part, report.folder, measured_on, commit, rehearsal=report.rehearsal)
    except Stopped as stopped:
        report.add(stopped.record)
        print(f"{part.name}: stopped after {stopped.record.seconds:.0f} s", flush=True)
        raise KeyboardInterrupt from None
    report.add(record)
    print(
        f"{part.name}: {record.status} after {record.seconds:.0f} s{record.reason and f': {record.reason}'}", flush=True
    )
    return record


class Stopped(Exception):
    """Ctrl-C, with the record of the part that was running."""

    def __init__(self, record: Record) -> None:
        super().__init__(record.name)
        self.record = record


def why_not(part: Part, *, rehearsal: bool) -> str | None:
    """Say why a part cannot be run here, None if it can."""
    missing = [name for name in part.needs if not _is_there(name)]
    if missing:
        return f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed"
    gpus = torch.cuda.device_count()
    if not rehearsal and gpus < part.gpus:
        return f"it needs {part.gpus} GPUs, and torch can use {gpus} here"
    return None


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package that it is in
        return False


def run_part(part: Part, folder: Path, measured_on: str, commit: str, *, rehearsal: bool) -> Record:
    """Run a part to its end or to its limit, and end all its processes.

    Args:
        part: What is run.
        folder: Where its output and its tables go, below `parts`.
        measured_on: Digest of the machine; the first part, which is given none, makes it.
        commit: Of the sources, as the first part tells it.
        rehearsal: In small sizes, and without a GPU.

    Raises:
        Stopped: At Ctrl-C, with what was measured until then.
    """
    results, output = (folder.absolute() / "parts" / f"{part.name}.{suffix}" for suffix in ("json", "log"))
    results.parent.mkdir(parents=True, exist_ok=True)
    results.unlink(missing_ok=True)
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"} | dict(part.environment)
    command = [sys.executable, "-m", part.module, "--json", str(results)]
    if rehearsal:
        command.append("--quick")
        environment["CUDA_VISIBLE_DEVICES"] = ""
    record = Record(part.name, DONE, measured_on, commit, rehearsal, _now())
    begun, stopped = time.monotonic(), False
    with output.open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(part.seconds)
            if code:
                record.status = FAILED
                record.reason = f"exit code {code}" if code > 0 else f"ended by {signal.Signals(-code).name}"
        except subprocess.TimeoutExpired:
            record.status, record.reason = LATE, f"it was ended after its limit of {part.seconds:g} s"
        except KeyboardInterrupt:
            record.status, record.reason, stopped = STOPPED, "it was stopped by hand", True
        finally:
            _end(process)
    record.seconds = time.monotonic() - begun
    found = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    record.tables = found.get("tables", [])
    record.commit = found.get("environment", {}).get("commit", commit)
    record.measured_on = measured_on or _digest(record.tables, rehearsal=rehearsal)
    if record.status == DONE and not record.tables:
        record.status, record.reason = FAILED, "it ended without a table"
    if record.status != DONE:
        record.last_lines = _last_lines(output)
    if stopped:
        raise Stopped(record)
    return record


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a part and whatever it has started: it is the first of a process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_lines(output: Path) -> list[str]:
    """Return the last lines of a file, without the folders of this machine's user."""
    text = output.read_text(encoding="utf-8", errors="replace")
    for folder, name in ((str(ROOT), "."), (str(Path.home()), "~")):
        text = text.replace(folder, name) if len(folder) > 1 else text
    return [line.rpartition("\r")[2][:300] for line in text.rstrip().split("\n")[-KEPT_LINES:]]


def _digest(tables: Sequence[Mapping[str, Any]], *, rehearsal: bool) -> str:
    """Return a digest of the machine, as the first part's table has it, of the sources, and of how they are run."""
    machine = [table["rows"] for table in tables if table["title"] == MACHINE]
    digest = hashlib.sha256(json.dumps([machine, rehearsal]).encode())
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in SUFFIXES and path.is_file():
                digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def page(parts: Sequence[Part], records: Mapping[str, Record]) -> str:
    """Return the report as a page of Markdown: an overview, then a section a part."""
    first = records[parts[0].name]
    lines = [f"# {'Rehearsal of a GPU report, on a CPU' if first.rehearsal else 'GPU report'}", ""]
    lines += [f"ltrsys at commit {first.commit}, {first.begun}.", "", "| part | | seconds |", "| --- | --- | ---: |"]
    for part in parts:
        record = records.get(part.name)
        lines.append(
            f"| {part.name} | {record.status if record else 'not run'} | {record.seconds if record else 0:.0f} |"
        )
    for part in parts:
        record = records.get(part.name)
        lines += ["", f"## {part.name}", "", part.what, ""]
        lines += ["Not run.", ""] if record is None else _section(record, first)
    return "\n".join(lines).rstrip() + "\n"


def _section(record: Record, first: Record) -> list[str]:
    lines = []
    if record.measured_on != first.measured_on:
        lines += [f"**Not of the machine, versions and sources above**: commit {record.commit}, {record.begun}.", ""]
    if record.status != DONE:
        lines += [f"**{record.status.capitalize()}**{record.reason and f': {record.reason}'}.", ""]
    lines += [markdown(Table(**table)) for table in record.tables]
    if record.last_lines:
        fence = "````"  # what is printed may hold three of them
        lines += ["The last lines that it printed:", "", f"{fence}text", *record.last_lines, fence, ""]
    return lines


def main(arguments: Sequence[str] | None = None, parts: Sequence[Part] = PARTS) -> None:
    """Parse the command line, run, and say where the report is.

    Raises:
        LtrsysError: Without a GPU, and for a folder that holds something else.
    """
    names = [part.name for part in parts]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("gpu_report"), metavar="FOLDER", help="default: gpu_report")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="PART", help=", ".join(names))
    parser.add_argument("--again", nargs="+", choices=[*names, "all"], default=[], metavar="PART", help="or all")
    parser.add_argument("--rehearse", action="store_true", help="every part in a tiny size, on the CPU")
    options = parser.parse_args(arguments)
    if not options.rehearse and not torch.cuda.is_available():
        raise UsageError(
            f"torch {torch.__version__} can use no GPU here: run this on a machine with one, whose driver fits torch's "
            "CUDA (13 needs 580 or later), or see with --rehearse that it works."
        )
    report = Report(options.out, parts, rehearsal=options.rehearse)
    run(report, options.only, names if "all" in options.again else options.again)
    print(f"The report is in {options.out / 'gpu_report.md'} and {options.out / 'gpu_report.json'}.")


def _as_ctrl_c(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    for asked in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(asked, _as_ctrl_c)
    try:
        main()
    except LtrsysError as error:
        print(f"benchmarks.gpu: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("Stopped; what was measured is in the report. The same command goes on from there.", file=sys.stderr)
        sys.exit(130)
