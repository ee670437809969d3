"""Methods by name: a file of a package, or of a user's own, makes a method known everywhere.

A kind of method (a sampler, a loss, a classifier, ...) has one `Registry`. It imports the files of its packages
when it is first asked for a name; each of them registers what it holds. Files of methods import torch and the like only
where they use them, so that a config is read in no time.
"""

import difflib
import hashlib
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from ltrsys.errors import UsageError


class Method:
    """What is told of a method wherever methods are listed."""

    name: ClassVar[str]
    """Its name in configs, files and on the command line."""
    summary: ClassVar[str]
    """What it does, in one line."""
    source: ClassVar[str] = ""
    """The paper, and the equation or section, that it comes from."""
    order: ClassVar[int] = 100
    """Methods are listed, and stand in tables, by this number, and then by name."""


M = TypeVar("M", bound=type[Method])

_PLUGINS: list[str] = []
"""What `load_plugin` has loaded."""

REGISTRIES: dict[str, "Registry[Any]"] = {}
"""Every kind of method, by its name."""


class Registry(Generic[M]):
    """The methods of one kind."""

    def __init__(self, kind: str, *packages: str) -> None:
        """Make a kind known.

        Args:
            kind: What one of them is called, such as `sampler`.
            packages: Those whose modules hold the methods that come with ltrsys.
        """
        self.kind, self.packages = kind, packages
        self._methods: dict[str, M] = {}
        self._loaded = False
        REGISTRIES[kind] = self

    def register(self, method: M) -> M:
        """Make a method known by its name; a decorator of its class.

        Raises:
            UsageError: Where another has this name, or it lacks a name or a summary.
        """
        for needed in ("name", "summary"):
            if not isinstance(getattr(method, needed, None), str):
                raise UsageError(f"{_place(method)}: this {self.kind} has no `{needed}`. Give it one, a text.")
        if not method.name.isidentifier():
            raise UsageError(f"{_place(method)}: `{method.name}` cannot name a {self.kind}: use letters, digits and _.")
        other = self._methods.setdefault(method.name, method)
        if _place(other) != _place(method):
            raise UsageError(
                f"{_place(method)}: there is another {self.kind} called {method.name} ({_place(other)}). Give this "
                "one another name."
            )
        self._methods[method.name] = method
        return method

    def get(self, name: str) -> M:
        """Return the method of this name.

        Raises:
            UsageError: Where there is none; names the nearest.
        """
        methods = self._all()
        if name not in methods:
            raise UsageError(f"`{name}`: unknown {self.kind}. {nearest(name, self.names())}")
        return methods[name]

    def names(self) -> list[str]:
        """Return the names of all methods, in their order."""
        return [method.name for method in self]

    def __iter__(self) -> Iterator[M]:
        return iter(sorted(self._all().values(), key=lambda method: (method.order, method.name)))

    def __contains__(self, name: object) -> bool:
        return name in self._all()

    def _all(self) -> dict[str, M]:
        if not self._loaded:
            self._loaded = True
            for package in self.packages:
                for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
                    importlib.import_module(f"{package}.{module.name}")
        return self._methods


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which of the known names may have been meant."""
    known = list(known)
    found = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {found[0]}?" if found else f"Choose from {', '.join(known)}."


def load_plugin(plugin: str) -> None:
    """Import a user's own methods: a Python file, by its path, or a module that is installed, by its name.

    Raises:
        UsageError: Where it is not there, or fails while it is imported.
    """
    try:
        if plugin.endswith(".py"):
            plugin = _import_file(Path(plugin))
        else:
            importlib.import_module(plugin)
    except UsageError:
        raise
    except FileNotFoundError:
        raise UsageError(
            f"plugins: {plugin}: there is no such file. Paths begin where the command is run ({Path.cwd()})."
        ) from None
    except Exception as error:
        raise UsageError(f"plugins: {plugin}: cannot be imported: {type(error).__name__}: {error}.") from error
    if plugin not in _PLUGINS:
        _PLUGINS.append(plugin)


def loaded_plugins() -> list[str]:
    """Return what was loaded: a process that starts others has them load it too."""
    return list(_PLUGINS)


def code_of(method: type) -> str | None:
    """Return the SHA-256 of the file that a plug-in's method comes from; None for one that comes with ltrsys."""
    if method.__module__.partition(".")[0] == "ltrsys":
        return None
    path = getattr(sys.modules.get(method.__module__), "__file__", None)
    return None if path is None else hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _import_file(path: Path) -> str:
    """Import a file once; return its place, whatever folder it was named from."""
    place = str(path.resolve(strict=True))
    name = f"ltrsys_plugin_{hashlib.sha256(place.encode()).hexdigest()[:12]}_{path.stem}"
    if name in sys.modules:
        return place
    spec = importlib.util.spec_from_file_location(name, place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses and pickle look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return place


def _place(method: Callable[..., Any]) -> str:
    return f"{method.__module__}.{method.__qualname__}"
