"""The script for whoever has a GPU, without one: what it does with parts that fail, hang, or were done before."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from types import SimpleNamespace

import pytest
import torch

from benchmarks import gpu, gpu_machine, gpu_steps, gpu_tests
from benchmarks.gpu import Part, main
from benchmarks.gpu_peaks import PEAKS, Work, peaks_of
from benchmarks.gpu_steps import Way
from benchmarks.gpu_training import operations_of_an_image
from benchmarks.report import ROOT
from ltrsys.errors import UsageError

MODULES = {
    "machine_part": "tell('Machine', 'a machine')",
    "good_part": "tell('Good', 'seven'); note('good')",
    "bad_part": "tell('Bad', 'half'); note('bad'); print('what went wrong'); sys.exit(3)",
    "slow_part": """
        tell('Slow', 'half')
        usual = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # which the child inherits
        child = subprocess.Popen(['sleep', '600'])
        signal.signal(signal.SIGTERM, usual)
        note(f'slow {child.pid}')
        time.sleep(600)
        """,
}
WRITES = """
import json, os, signal, subprocess, sys, time
def tell(title, value):
    table = {'title': title, 'columns': ['what'], 'rows': [{'what': value}], 'notes': []}
    path = sys.argv[sys.argv.index('--json') + 1]
    with open(path, 'w') as file:
        json.dump({'tables': [table], 'environment': {'commit': 'abc1234'}}, file)
def note(text):
    with open(os.environ['NOTES'], 'a') as file:
        file.write(text + '\\n')
"""


@pytest.fixture
def parts(tmp_path, monkeypatch):
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(WRITES + textwrap.dedent(text))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    (tmp_path / "notes").touch()
    return (
        Part("machine", "The machine.", "machine_part", 60),
        Part("bad", "Fails.", "bad_part", 60),
        Part("lacking", "Lacks a package.", "good_part", 60, needs=("json", "no_such_package.part")),
        Part("good", "Works.", "good_part", 60),
    )


def rehearse(folder, parts, *arguments):
    main(["--rehearse", "--out", str(folder), *arguments], parts)
    found = json.loads((folder / "gpu_report.json").read_text())
    return {record["name"]: record for record in found["parts"]}, (folder / "gpu_report.md").read_text()


def notes(tmp_path):
    return (tmp_path / "notes").read_text().split("\n")[:-1]


def test_a_part_that_fails_and_one_that_lacks_a_package_stop_no_other(tmp_path, parts):
    records, page = rehearse(tmp_path / "out", parts)
    assert {name: record["status"] for name, record in records.items()} == {
        "machine": "done", "bad": "failed", "lacking": "skipped", "good": "done"
    }  # fmt: skip
    assert records["bad"]["reason"] == "exit code 3"
    assert records["bad"]["tables"][0]["rows"] == [{"what": "half"}]
    assert records["bad"]["last_lines"] == ["what went wrong"]
    assert records["lacking"]["reason"] == "no_such_package.part is not installed"
    for text in ("abc1234", "| bad | failed |", "what went wrong", "half", "no_such_package.part", "| seven |"):
        assert text in page


def test_run_again_it_does_what_is_not_done(tmp_path, parts):
    folder = tmp_path / "out"
    rehearse(folder, parts)
    assert notes(tmp_path) == ["bad", "good"]
    rehearse(folder, parts)
    assert notes(tmp_path)[2:] == ["bad"]
    rehearse(folder, parts, "--only", "good")
    assert notes(tmp_path)[3:] == []
    rehearse(folder, parts, "--only", "good", "--again", "good")
    assert notes(tmp_path)[3:] == ["good"]
    rehearse(folder, parts, "--again", "all")
    assert notes(tmp_path)[4:] == ["bad", "good"]
    (tmp_path / "machine_part.py").write_text(WRITES + "tell('Machine', 'another')")
    _, page = rehearse(folder, parts, "--only", "bad")
    assert page.count("**Not of the machine, versions and sources above**") == 2  # the skipped one, and the good one
    rehearse(folder, parts, "--only", "good")
    assert notes(tmp_path)[6:] == ["bad", "good"]


def test_changed_sources_are_measured_again(tmp_path, parts, monkeypatch):
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "a.py").write_text("1")
    monkeypatch.setattr(gpu, "SOURCES", ("sources",))
    monkeypatch.setattr(gpu, "ROOT", tmp_path)
    rehearse(tmp_path / "out", parts, "--only", "good")
    rehearse(tmp_path / "out", parts, "--only", "good")
    assert notes(tmp_path) == ["good"]
    (tmp_path / "sources" / "a.py").write_text("2")
    rehearse(tmp_path / "out", parts, "--only", "good")
    assert notes(tmp_path) == ["good", "good"]


def is_gone(pid):
    for _ in range(100):
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except FileNotFoundError:
            return True
        time.sleep(0.1)
    return False


def test_a_part_that_hangs_is_ended_with_all_it_has_started(tmp_path, parts):
    slow = Part("slow", "Hangs.", "slow_part", 3)
    records, page = rehearse(tmp_path / "out", (parts[0], slow, parts[3]))
    assert records["slow"]["status"] == "out of time"
    assert 3 <= records["slow"]["seconds"] < 15
    assert records["slow"]["tables"][0]["rows"] == [{"what": "half"}]
    assert records["good"]["status"] == "done"
    assert "its limit of 3 s" in page
    assert is_gone(notes(tmp_path)[0].split()[1])


def test_ctrl_c_leaves_what_was_measured(tmp_path, parts):
    slow = Part("slow", "Hangs.", "slow_part", 120)

    def interrupt():
        while not notes(tmp_path):
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        rehearse(tmp_path / "out", (parts[0], slow, parts[3]))
    thread.join()
    found = json.loads((tmp_path / "out" / "gpu_report.json").read_text())["parts"]
    assert [(record["name"], record["status"]) for record in found] == [("machine", "done"), ("slow", "stopped")]
    assert found[1]["tables"][0]["rows"] == [{"what": "half"}]
    assert is_gone(notes(tmp_path)[0].split()[1])


def test_without_a_gpu_one_line_says_what_to_do(tmp_path, parts):
    with pytest.raises(UsageError, match=r"can use no GPU here: .* --rehearse"):
        main(["--out", str(tmp_path / "out")], parts)
    assert not (tmp_path / "out").exists()


def test_a_rehearsal_does_not_take_the_place_of_measurements(tmp_path, parts):
    folder = tmp_path / "out"
    rehearse(folder, parts, "--only", "good")
    path = folder / "gpu_report.json"
    path.write_text(path.read_text().replace('"rehearsal": true', '"rehearsal": false'))
    with pytest.raises(UsageError, match="here are measurements of a GPU"):
        rehearse(folder, parts)


def test_parts_have_modules_and_end_within_25_minutes():
    assert sum(part.seconds for part in gpu.PARTS) <= 25 * 60
    for part in gpu.PARTS:
        assert (ROOT / f"{part.module.replace('.', '/')}.py").exists()


def test_the_roofline_is_the_slower_of_memory_and_products():
    h100 = peaks_of("NVIDIA H100 80GB HBM3")
    assert Work(bytes=3.35e12, bf16=989e11).least_seconds(h100) == pytest.approx(1)
    assert Work(bytes=3.35e10, bf16=989e12, fp32=67e12).least_seconds(h100) == pytest.approx(2)
    assert Work(bytes=1.0, bf16=1.0).least_seconds(peaks_of("Tesla T4")) is None
    assert Work(bytes=3.2e11).least_seconds(peaks_of("Tesla T4")) == pytest.approx(1)
    assert peaks_of("NVIDIA A100-SXM4-40GB MIG 1g.5gb") is None
    assert all(peaks.fp32 <= (peaks.tf32 or peaks.fp32) <= (peaks.bf16 or peaks.fp32) for peaks in PEAKS.values())


def test_the_operations_of_resnet_50_are_the_published_ones():
    assert operations_of_an_image(Way("resnet50")) == pytest.approx(2 * 4.09e9, rel=0.005)


def test_the_batch_is_halved_until_a_quarter_of_the_memory_is_free(monkeypatch):
    peak, tried = 0, []

    def steps(way, batch_size, device, *, steps, warm_up):
        nonlocal peak
        tried.append(batch_size)
        peak = max(peak, batch_size)
        gpu_steps.give_back_memory(device)  # as at the end of real ones
        if batch_size > 100:
            raise torch.OutOfMemoryError
        return 0.1

    def reset(device):
        nonlocal peak
        peak = 0

    monkeypatch.setattr(gpu_steps, "seconds_of_steps", steps)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=100))
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: peak)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    assert gpu_steps.batch_that_fits(Way("resnet50"), 320, torch.device("cuda")) == 40
    assert tried == [320, 160, 80, 40]


def test_nvidia_smi_is_asked_one_by_one_where_it_does_not_know_a_question(tmp_path, monkeypatch):
    answers = "\n".join(f"*query-gpu={name}\\ *) echo 'one {name}'; echo 'two {name}';;" for name in gpu_machine.ASKED)
    script = f'#!/bin/sh\ncase "$* " in\n*mig.mode*) exit 2;;\n{answers}\n*) exit 2;;\nesac\n'
    (tmp_path / "nvidia-smi").write_text(script)
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    gpus = gpu_machine.measure(quick=True)[1].rows
    assert [row["name"] for row in gpus] == ["one name", "two name"]
    assert [row["MIG"] for row in gpus] == ["not known", "not known"]


def test_tests_that_fail_are_named_with_what_they_say(tmp_path, monkeypatch):
    (tmp_path / "test_it.py").write_text(
        "import pytest\npytestmark = pytest.mark.gpu\n"
        "def test_passes(): pass\ndef test_fails(): assert 1 == 2, 'a message'\n"
        "def test_skips(): pytest.skip('no')\n"
    )
    monkeypatch.setattr(gpu_tests, "TESTS", str(tmp_path))
    tables = {}

    def collect():
        for table in gpu_tests.measure(quick=True):
            tables[table.title] = table

    with pytest.raises(SystemExit):
        collect()
    (counted,) = tables["Tests for GPUs"].rows
    assert (counted["passed"], counted["failed"], counted["skipped"]) == (1, 1, 1)
    (failed,) = tables["Tests that failed"].rows
    assert failed["test"].endswith("::test_fails")
    assert "a message" in failed["says"]


def test_the_kernels_are_measured_with_torch_triton_and_numpy_alone():
    names = ("nvidia.dali", "deepspeed", "pydantic", "rich", "sklearn", "torchvision")
    forbidden = f"import sys; sys.modules.update(dict.fromkeys({names})); import benchmarks.gpu_kernels as it; "
    shown = "from benchmarks.report import show; show([it.Table('T', ('a',), [{'a': 1}])], {'versions': {}})"
    done = subprocess.run(
        [sys.executable, "-c", forbidden + shown], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "| 1 |" in done.stdout


@pytest.mark.long
def test_cheap_parts_are_rehearsed_and_not_again(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu", "--rehearse", "--only", "machine", "kernels", "decode"]
    command += ["--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "gpu_report.json").read_text())["parts"]
    assert {record["name"]: record["status"] for record in found} == dict.fromkeys(
        ("machine", "kernels", "decode"), "done"
    )
    tables = {table["title"]: table for record in found for table in record["tables"]}
    assert {"Machine", "class_sums", "tau_sweep, 21 values of tau", "Decoding, short side 300"} <= tables.keys()
    for table in tables.values():
        assert not [note for note in table["notes"] if "failed" in note]
        assert all(row["ms"] > 0 for row in table["rows"] if "ms" in row)
    exact = [row["as ours, %"] for row in tables["ncm_search, k = 5"]["rows"] if "bf16" not in row["way"]]
    assert all(share > 99 for share in exact)
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert again.stdout.count("was done before") == 2
