"""How many of the tests for GPUs pass here, and what the others say."""

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

from benchmarks.report import ROOT, Table, main

TESTS = "tests/gpu"
OUTCOME = re.compile(r"^(\S+\.py::.*?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b")
"""A test's line of `pytest -v`."""
TOLD = re.compile(r"^(FAILED|ERROR) (\S+\.py.*?)(?: - (.*))?$")
"""A line of pytest's summary at its end."""
BAD = ("FAILED", "ERROR")


def measure(quick: bool) -> Iterator[Table]:
    """Run the tests; yield their numbers after each, so that they are known however this ends.

    Ends the process with pytest's exit code where tests fail.
    """
    command = [sys.executable, "-m", "pytest", "-m", "gpu", TESTS, "-v", "-rfE", "--tb=short", "--color=no"]
    outcomes: dict[str, str] = {}
    messages: dict[str, str] = {}
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "COLUMNS": "300"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            if found := OUTCOME.match(line):
                outcomes[found[1]] = found[2]
                yield _counts(outcomes)
            elif told := TOLD.match(line.rstrip()):
                outcomes.setdefault(told[2], told[1])
                messages[told[2]] = told[3] or ""
    yield _counts(outcomes)
    bad = [{"test": name, "says": messages.get(name)} for name, outcome in outcomes.items() if outcome in BAD]
    if bad:
        yield Table("Tests that failed", ("test", "says"), bad)
    if process.returncode:
        sys.exit(process.returncode)


def _counts(outcomes: dict[str, str]) -> Table:
    files: dict[str, Counter[str]] = {}
    for name, outcome in outcomes.items():
        files.setdefault(name.split("::")[0], Counter())[outcome] += 1
    rows = [
        {
            "file": file,
            "passed": counted["PASSED"],
            "failed": counted["FAILED"] + counted["ERROR"],
            "skipped": counted["SKIPPED"],
        }
        for file, counted in files.items()
    ]
    return Table("Tests for GPUs", ("file", "passed", "failed", "skipped"), rows)


if __name__ == "__main__":
    main("gpu_tests", measure)
