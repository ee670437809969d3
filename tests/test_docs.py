"""What README and docs point at is there."""

import ast
import re
from pathlib import Path

import pytest

import ltrsys

ROOT = Path(__file__).parent.parent
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING")),
    *sorted((ROOT / "docs").glob("*.md")),
]
PATH = re.compile(r"(?<![\w./-])(?:ltrsys|kernels|launchers|configs|benchmarks|tests|docs|examples)/[\w./-]*\w")
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
ANCHOR = re.compile(r"\]\(([^)#:]*)#([^)]*)\)")
BENCHMARK = re.compile(r"python -m (benchmarks|kernels)\.(\w+)")
DOTTED = re.compile(r"`(ltrsys(?:\.\w+)+)`")
SIGNATURES = re.compile(r"```python\n(class (\w+):  # (\S+)\n.*?)```", re.DOTALL)
PLACEHOLDER = re.compile(r"\b[A-Z]+_(?:TABLE|FIGURES?|HERE)\b|\bTODO\b|\bTBD\b|\?\?\?")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()


@pytest.fixture(params=PAGES, ids=lambda page: page.name)
def page(request):
    return request.param


def test_links_lead_somewhere(page):
    missing = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert not missing


def test_links_lead_to_headings(page):
    for link, anchor in ANCHOR.findall(page.read_text()):
        headings = re.findall(r"^#+ (.*)$", (page.parent / link if link else page).read_text(), re.MULTILINE)
        assert anchor in [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


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


def test_named_modules_and_classes_exist(page):
    assert not [name for name in DOTTED.findall(page.read_text()) if not exists(name)]


def test_rooms_hold_the_files_that_architecture_says():
    rows = re.findall(r"^\| `(ltrsys/[\w/]+/)` \|(.*)\|$", ARCHITECTURE, re.MULTILINE)
    assert len(rows) > 10
    for room, row in rows:
        missing = [name for name in re.findall(r"`(\w+(?:\.py|/))`", row) if not (ROOT / room / name).exists()]
        assert not missing, room


def test_the_interfaces_of_architecture_are_those_of_the_code():
    """Also, every method that has to be implemented is shown."""
    shown = SIGNATURES.findall(ARCHITECTURE)
    assert len(shown) == 11
    for text, name, path in shown:
        told, real = methods(ast.parse(text).body[0]), methods(class_of(ROOT / path, name))
        assert told.keys() == {name for name in real if "abstractmethod" in decorators(real[name])}, name
        for method in told:
            assert signature(told[method]) == signature(real[method]), f"{name}.{method}"


def exists(dotted: str) -> bool:
    """Say whether a module, or a class or function of a module, or a method of a class exists."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        place = ROOT.joinpath(*parts[:length])
        if place.is_dir() and length == len(parts):
            return True
        if place.is_dir() and length == 1 and parts[1] in ltrsys.__all__:
            return len(parts) == 2
        if place.with_suffix(".py").exists():
            body, rest = ast.parse(place.with_suffix(".py").read_text()).body, parts[length:]
            for name in rest:
                found = [node for node in body if name in names_of(node)]
                if not found:
                    return False
                body = getattr(found[0], "body", [])
            return True
    return False


def names_of(node: ast.stmt) -> list[str]:
    """Return what a statement defines."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def class_of(path: Path, name: str) -> ast.ClassDef:
    return next(
        node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef) and node.name == name
    )


def methods(node: ast.stmt) -> dict[str, ast.FunctionDef]:
    assert isinstance(node, ast.ClassDef)
    return {method.name: method for method in node.body if isinstance(method, ast.FunctionDef)}


def signature(method: ast.FunctionDef) -> tuple[str, str, bool]:
    assert method.returns is not None
    return ast.unparse(method.args), ast.unparse(method.returns), "classmethod" in decorators(method)


def decorators(method: ast.FunctionDef) -> list[str]:
    return [ast.unparse(decorator) for decorator in method.decorator_list]
