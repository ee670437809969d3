"""Methods by name, and those of users."""

import os
from importlib import import_module
from pathlib import Path

import pytest

from ltrsys.data.plan.samplers.base import SAMPLERS, Sampler
from ltrsys.errors import UsageError
from ltrsys.registry import REGISTRIES, load_plugin, nearest

pytestmark = pytest.mark.usefixtures("plugins_forgotten")


def test_every_method_says_what_it_is():
    import_module("ltrsys.config.schema")  # which reads them all
    assert {"sampler", "loss", "optimizer", "schedule", "classifier"} <= REGISTRIES.keys()
    for registry in REGISTRIES.values():
        assert registry.names()
        for method in registry:
            assert registry.get(method.name) is method
            assert method.summary
            assert "\n" not in method.summary


def test_an_unknown_name_names_the_nearest():
    with pytest.raises(UsageError, match=r"`square_rot`: unknown sampler\. Did you mean square_root\?"):
        SAMPLERS.get("square_rot")
    assert nearest("zzz", ["a", "b"]) == "Choose from a, b."


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"name": "mine"}, "this sampler has no `summary`"),
        ({"summary": "mine"}, "this sampler has no `name`"),
        ({"name": "not a name", "summary": "mine"}, "`not a name` cannot name a sampler"),
        ({"name": "instance", "summary": "mine"}, "there is another sampler called instance"),
    ],
)
def test_a_method_that_cannot_be_listed_is_refused(names, message):
    before = SAMPLERS.names()
    with pytest.raises(UsageError, match=message):
        SAMPLERS.register(type("Mine", (Sampler,), {"__module__": __name__, **names}))
    assert SAMPLERS.names() == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"mine\.py: there is no such file\. Paths begin where the command is run"),
        ("import nothing_of_this_name", r"mine\.py: cannot be imported: ModuleNotFoundError: .*nothing_of_this_name"),
        ("1 +", r"mine\.py: cannot be imported: SyntaxError"),
    ],
)
def test_a_plugin_that_cannot_be_loaded_is_told_in_one_line(tmp_path: Path, text, message):
    path = tmp_path / "mine.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=message):
        load_plugin(str(path))


def test_a_module_that_is_not_installed_is_told(tmp_path: Path):
    with pytest.raises(UsageError, match="plugins: no_such_module: cannot be imported"):
        load_plugin("no_such_module")


def test_a_plugin_is_loaded_once(tmp_path: Path, monkeypatch):
    path = tmp_path / "counting.py"
    path.write_text("import os\nos.environ['COUNTED'] = os.environ.get('COUNTED', '') + '|'\n")
    monkeypatch.setenv("COUNTED", "")
    load_plugin(str(path))
    monkeypatch.chdir(tmp_path)
    load_plugin("counting.py")
    assert os.environ["COUNTED"] == "|"
