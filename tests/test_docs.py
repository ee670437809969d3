"""What README and docs point at is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING")),
    *sorted((ROOT / "docs").glob("*.md")),
]
PATH = re.compile(r"(?<![\w./-])(?:ltrsys|kernels|launchers|configs|benchmarks|tests|docs)/[\w./-]*\w")
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
BENCHMARK = re.compile(r"python -m (benchmarks|kernels)\.(\w+)")
PLACEHOLDER = re.compile(r"\b[A-Z]+_(?:TABLE|FIGURES?|HERE)\b|\bTODO\b|\bTBD\b|\?\?\?")


@pytest.fixture(params=PAGES, ids=lambda page: page.name)
def page(request):
    return request.param


def test_links_lead_somewhere(page):
    missing = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert not missing


def test_named_files_exist(page):
    names = (name.replace("ltrsys/kernels", "kernels") for name in set(PATH.findall(page.read_text())))
    assert not [name for name in names if "..." not in name and not (ROOT / name).exists()]


def test_named_tests_exist():
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    for page in PAGES:
        for name in re.findall(r"\btest_\w+\b(?!\.py|\*|/)", page.read_text()):
            known = f"def {name}" in tests or list((ROOT / "tests").rglob(f"{name}.py"))
            assert known, f"{page.name} names {name}"


def test_named_benchmarks_exist(page):
    missing = [name for name in BENCHMARK.findall(page.read_text()) if not (ROOT / name[0] / f"{name[1]}.py").exists()]
    assert not missing


def test_nothing_is_left_to_be_filled_in(page):
    assert not PLACEHOLDER.findall(page.read_text())
