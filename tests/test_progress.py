import os
import pty
import subprocess
import sys

from ltrsys import progress

SCRIPT = """
import logging
logging.basicConfig(level=logging.INFO, format="%(message)s")
from ltrsys.progress import track
for item in track(range(3), "Reading", 3):
    print(item)
"""


def test_items_pass_through():
    assert list(progress.track(iter("abc"), "Reading", 3)) == ["a", "b", "c"]


def test_without_a_terminal_a_line_a_minute_is_logged(monkeypatch, caplog):
    now = iter([0.0, 30.0, 61.0, 100.0, 125.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    with caplog.at_level("INFO", "ltrsys"):
        list(progress.track(range(4), "Reading", 4))
    assert [record.message.split(",")[0] for record in caplog.records] == ["Reading: 2 of 4", "Reading: 4 of 4"]
    assert "about 61 s left" in caplog.records[0].message


def test_other_ranks_show_nothing(monkeypatch, caplog):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
    with caplog.at_level("INFO", "ltrsys"):
        list(progress.track(range(4), "Reading", 4, shown=False))
    assert not caplog.records


def test_on_a_terminal_a_bar_goes_to_stderr():
    terminal, other_end = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=other_end, check=True
    )
    os.close(other_end)
    shown = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert "Reading" in shown
    assert "3/3" in shown
    assert done.stdout == b"0\n1\n2\n"
