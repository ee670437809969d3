"""Calls of the operations are typed: mypy, set up as for the package, refuses a wrong one."""

from pathlib import Path

import pytest
from mypy import api

ROOT = Path(__file__).parents[2]
IMPORTS = "import torch\nfrom ltrsys.kernels import ncm_search\n"
RIGHT = IMPORTS + "scores, classes = ncm_search(torch.ones(2, 3), torch.ones(4, 3), k=2, metric='euclidean')\n"
WRONG = IMPORTS + "ncm_search('not a tensor', 3.0, k='five')\n"


def errors(program: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what mypy finds wrong with a program."""
    path.write_text(program)
    monkeypatch.chdir(ROOT)
    output, crash, _ = api.run(["--no-error-summary", str(path)])
    assert not crash
    return [line.partition("error: ")[2] for line in output.splitlines()]


@pytest.mark.long
def test_a_wrong_call_is_refused_argument_by_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert errors(WRONG, tmp_path / "wrong.py", monkeypatch) == [
        'Argument 1 to "ncm_search" has incompatible type "str"; expected "Tensor"  [arg-type]',
        'Argument 2 to "ncm_search" has incompatible type "float"; expected "Tensor"  [arg-type]',
        'Argument "k" to "ncm_search" has incompatible type "str"; expected "int"  [arg-type]',
    ]


@pytest.mark.long
def test_a_right_call_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert errors(RIGHT, tmp_path / "right.py", monkeypatch) == []
