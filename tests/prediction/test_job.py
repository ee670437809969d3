"""Long jobs: killed and started again they end in the same bytes, and nothing that is done is done again."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ltrsys.commands.results.predict import PredictOptions, predict
from ltrsys.errors import DataError, UsageError
from ltrsys.prediction import job as jobs
from ltrsys.prediction.answers import Wanted
from ltrsys.prediction.predictor import Predictor
from ltrsys.runs.folder import RunFolder
from tests.first_stage.ranks import become_rank
from tests.trainings import finish, start_processes

pytestmark = pytest.mark.long

BATCH = 16
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def folder(test_files: list[str], tmp_path: Path) -> Path:
    """A folder of 100 of the test images, and one that cannot be read."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    for path in test_files[:100]:
        os.link(path, folder / Path(path).name)
    (folder / "050x.jpg").write_text("no image")
    return folder


@pytest.fixture
def predicted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images went through the network, call by call."""
    calls: list[int] = []
    run = Predictor.run

    def counted(self: Predictor, images: object, places: list[int]) -> Iterator[object]:
        calls.append(len(places))
        yield from run(self, images, places)  # type: ignore[arg-type]

    monkeypatch.setattr(Predictor, "run", counted)
    return calls


def name_all(run: RunFolder, folder: Path, out: Path, **options: object) -> None:
    predict(run.path, [str(folder)], PredictOptions(out=out, batch_size=BATCH, **options))  # type: ignore[arg-type]


@pytest.fixture
def expected(named: RunFolder, folder: Path, tmp_path: Path) -> bytes:
    out = tmp_path / "undisturbed.csv"
    name_all(named, folder, out)
    return out.read_bytes()


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from ltrsys.commands.results.predict import PredictOptions, predict
from ltrsys.prediction import parts
parts.SECONDS_OF_A_PART = 0.0  # a part a batch
flush = parts.PartWriter.flush
def killing(self):
    flush(self)
    if self._number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
parts.PartWriter.flush = killing
predict(Path(sys.argv[1]), [sys.argv[2]], PredictOptions(out=Path(sys.argv[3]), batch_size=int(sys.argv[4])))
"""


def test_a_killed_job_goes_on_to_the_same_bytes(
    named: RunFolder, folder: Path, tmp_path: Path, expected: bytes, predicted: list[int]
) -> None:
    out = tmp_path / "names.csv"
    arguments = [sys.executable, "-c", KILLED, named.path, folder, out, BATCH]
    killed = subprocess.run([str(part) for part in arguments], cwd=ROOT, check=False, timeout=300)
    assert killed.returncode == -signal.SIGKILL
    assert not out.exists()
    assert len(list(out.with_name("names.csv.partial").glob("*.jsonl"))) == 3
    name_all(named, folder, out)
    assert predicted == [101 - 3 * BATCH]
    assert out.read_bytes() == expected
    assert sorted(path.name for path in tmp_path.glob("names*")) == ["names.csv", "names.csv.record.json"]
    name_all(named, folder, out)
    assert predicted == [101 - 3 * BATCH], "a finished job does nothing"


def test_what_is_interrupted_keeps_what_it_has(
    named: RunFolder,
    folder: Path,
    tmp_path: Path,
    expected: bytes,
    monkeypatch: pytest.MonkeyPatch,
    predicted: list[int],
) -> None:
    add = jobs.PartWriter.add

    def interrupted(self: jobs.PartWriter, places: list[int], predictions: list[object]) -> None:
        add(self, places, predictions)  # type: ignore[arg-type]
        if len(self._lines) == 2 * BATCH:
            raise KeyboardInterrupt

    out = tmp_path / "names.csv"
    with monkeypatch.context() as patch:
        patch.setattr(jobs.PartWriter, "add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            name_all(named, folder, out)
    name_all(named, folder, out)
    assert predicted == [101, 101 - 2 * BATCH]
    assert out.read_bytes() == expected


def begun(named: RunFolder, folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do all of a job but for putting its table together."""
    with monkeypatch.context() as patch:

        def stop(self: jobs.Job, layout: object, answer: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(jobs.Job, "finish", stop)
        with pytest.raises(KeyboardInterrupt):
            name_all(named, folder, out)


def test_only_what_is_new_or_has_changed_is_done_again(
    named: RunFolder, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, predicted: list[int]
) -> None:
    out = tmp_path / "names.csv"
    begun(named, folder, out, monkeypatch)
    (folder / "050x.jpg").write_bytes((folder / "000.jpg").read_bytes())
    (folder / "0.jpg").write_bytes((folder / "001.jpg").read_bytes())
    (folder / "099.jpg").unlink()
    name_all(named, folder, out)
    assert predicted == [101, 2]
    rows = out.read_text().splitlines()
    assert sum(",1," in row for row in rows[1:] if ",ok," in row) >= 101
    assert not any("unreadable" in row or "099.jpg" in row for row in rows)
    assert rows[1].startswith(str(folder / "0.jpg"))


def test_what_was_done_again_counts_whichever_rank_did_it(
    named: RunFolder, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "names.csv"
    begun(named, folder, out, monkeypatch)
    (part,) = out.with_name("names.csv.partial").glob("*.jsonl")
    part.rename(part.with_name("00001-000000.jsonl"))  # as if another rank had written it
    (folder / "050x.jpg").write_bytes((folder / "000.jpg").read_bytes())
    name_all(named, folder, out)
    assert "unreadable" not in out.read_text()


def test_predictions_that_are_made_otherwise_are_refused_by_what_differs(
    named: RunFolder, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "names.csv"
    begun(named, folder, out, monkeypatch)
    with pytest.raises(UsageError, match=r"begun here, and their classifier was \"crt\" and is now \"tau\""):
        name_all(named, folder, out, classifier="tau")
    name_all(named, folder, out)
    finished = out.read_bytes()
    with pytest.raises(UsageError, match="predictions already, and their top was 5 and is now 2"):
        name_all(named, folder, out, wanted=Wanted(top=2))
    (folder / "000.jpg").unlink()
    with pytest.raises(UsageError, match="predictions already, of other images"):
        name_all(named, folder, out)
    assert out.read_bytes() == finished
    name_all(named, folder, out, overwrite=True)  # as the message says
    assert out.read_bytes() != finished


def test_a_file_of_somebody_else_is_left_alone(named: RunFolder, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "names.csv"
    out.write_text("mine")
    with pytest.raises(UsageError, match="there is a file already"):
        name_all(named, folder, out)
    assert out.read_text() == "mine"


def test_a_damaged_part_is_named_and_the_advice_works(
    named: RunFolder, folder: Path, tmp_path: Path, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "names.csv"
    begun(named, folder, out, monkeypatch)
    (part,) = out.with_name("names.csv.partial").glob("*.jsonl")
    whole = part.read_text()
    for damage in (whole[: len(whole) // 2], "", "[1]\n", whole.replace(', "ok", null', "", 1)):
        part.write_text(damage)
        with pytest.raises(DataError, match=r"00000-000000\.jsonl: a damaged part of the predictions .* Remove it"):
            name_all(named, folder, out)
    part.unlink()
    name_all(named, folder, out)
    assert out.read_bytes() == expected


def test_two_processes_do_not_write_one_table(named: RunFolder, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "names.csv"
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, fcntl, pathlib\n"
            "folder = pathlib.Path(sys.argv[1]); folder.mkdir()\n"
            "file = open(folder / 'lock', 'w'); fcntl.lockf(file, fcntl.LOCK_EX); print(flush=True); input()",
            str(out.with_name("names.csv.partial")),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(UsageError, match="another process is writing these predictions"):
            name_all(named, folder, out)
    finally:
        holder.communicate(b"\n")


def predict_as_rank(rank: int, world_size: int, port: int, run: Path, folder: Path, out: Path) -> None:
    become_rank(rank, world_size, port)
    predict(run, [str(folder)], PredictOptions(out=out, batch_size=BATCH))


@pytest.mark.distributed
def test_two_ranks_write_the_bytes_of_one(named: RunFolder, folder: Path, tmp_path: Path, expected: bytes) -> None:
    out = tmp_path / "names.csv"
    finish(start_processes(predict_as_rank, 2, named.path, folder, out))
    assert out.read_bytes() == expected


def test_a_full_disk_loses_nothing(
    named: RunFolder, folder: Path, small_disk: Callable[[str], Path], expected: bytes
) -> None:
    disk = small_disk("24k")
    with pytest.raises(Exception, match="the disk is full"):
        name_all(named, folder, disk / "names.csv")
    small_disk("8m")
    name_all(named, folder, disk / "names.csv")
    assert (disk / "names.csv").read_bytes() == expected
