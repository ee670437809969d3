"""Reading a config: files that extend one another, overrides, and errors that name the place."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from ltrsys.config.schema import Config
from ltrsys.errors import UsageError
from ltrsys.files import replaced
from ltrsys.method_section import ByMethods, OneOf
from ltrsys.registry import load_plugin
from ltrsys.runs.folder import RunFolder

Key = tuple[str | int, ...]

PACKAGED = Path(__file__).parent.parent / "configs"
"""The configs that come with ltrsys."""


class _Loader(yaml.SafeLoader):
    """Safe YAML, read as one expects: `1e-4` is a number and no key is given twice."""


_Loader.add_implicit_resolver(  # YAML 1.1 takes 1e-4, without a point, for a string
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def load_yaml(text: str) -> Any:
    """Return the values of a YAML text; it makes no objects.

    Raises:
        yaml.YAMLError: Where it is not valid.
    """
    return yaml.load(text, Loader=_Loader)


@dataclass
class _Source:
    """A merged config and the place where each of its keys was last set."""

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[Key, str] = field(default_factory=dict)

    def place(self, key: Key) -> str:
        """Return where `key`, or the nearest thing that holds it, was set."""
        while key and key not in self.places:
            key = key[:-1]
        return self.places.get(key, "config")


def load_config(path: Path, overrides: Iterable[str] = ()) -> Config:
    """Load an experiment, apply `key.sub=value` overrides, and check all of it.

    Args:
        path: The file, or the name of one that comes with ltrsys, such as `glyphs/demo.yaml`.
        overrides: What is changed.

    Raises:
        UsageError: For an unreadable file, an unknown key (naming the nearest), a wrong type or value.
    """
    return _checked(_read_yaml(_file_or_packaged(path), ()), overrides, path)


def config_of(values: dict[str, Any], overrides: Iterable[str] = ()) -> Config:
    """Return the experiment that a program puts together, with `key.sub=value` overrides, all of it checked.

    Args:
        values: As a file would hold them; an unset section is left out.
        overrides: What is changed.

    Raises:
        UsageError: As `load_config` does.
    """
    return _checked(_Source(values), overrides, Path("config"))


def load_run_config(run: RunFolder, overrides: Iterable[str] = ()) -> Config:
    """Load the config that a run was trained with.

    Raises:
        UsageError: Where `run` is not a run folder, and as `load_config` does.
    """
    if not run.config_file.exists():
        raise UsageError(f"{run.path}: not a run folder (it has no config.yaml). Give the folder that training made.")
    return load_config(run.config_file, overrides)


def _checked(source: _Source, overrides: Iterable[str], path: Path) -> Config:
    """Apply overrides, load the plug-ins that are named, and check all of it; `path` is for messages."""
    # a kind comes first: it clears what its section held, and must not clear what this command line sets
    for override in sorted(overrides, key=lambda override: not override.partition("=")[0].endswith(".kind")):
        _override(source, override)
    _load_plugins(source)
    try:
        return Config.model_validate(source.values)
    except ValidationError as error:
        raise UsageError(_explain(error, source, path)) from None


def _file_or_packaged(path: Path) -> Path:
    """Return the file, or the config of this name that comes with ltrsys, where no file has it."""
    packaged = PACKAGED / Path(*path.parts[1:] if path.parts[:1] == ("configs",) else path.parts)
    return packaged if not path.exists() and packaged.is_file() else path


def save_config(config: Config, path: Path) -> None:
    """Write the resolved config as YAML that `load_config` reads back to the same value."""
    with replaced(path, "w") as file:
        yaml.safe_dump(config.dump(), file, sort_keys=False, allow_unicode=True)


def _load_plugins(source: _Source) -> None:
    """Load the methods that the config names before its schema is made, which depends on them."""
    plugins = source.values.get("plugins")
    if not (isinstance(plugins, list) and all(isinstance(plugin, str) for plugin in plugins)):
        return
    # a run is balanced from other folders than it was trained in
    plugins = [str(Path(plugin).absolute()) if plugin.endswith(".py") else plugin for plugin in plugins]
    source.values["plugins"] = plugins
    for plugin in plugins:
        load_plugin(plugin)


def _read_yaml(path: Path, chain: tuple[Path, ...]) -> _Source:
    """Return a file's values, over those of the file that it extends; `chain` is the files that extend it."""
    path = path.resolve() if chain else path
    if path.resolve() in chain:
        raise UsageError(f"{path}: this file extends itself, by way of {chain[-1].name}. Remove one `extends`.")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        by = f" (extended by {chain[-1]})" if chain else ""
        raise UsageError(f"{path}: cannot read this config: {reason}{by}.") from None
    try:
        node = yaml.compose(text, Loader=_Loader)
        values = load_yaml(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise UsageError(f"{path}{line}: not valid YAML: {getattr(error, 'problem', error)}.") from None
    if not isinstance(values, dict):
        raise UsageError(f"{path}: a config is a mapping of keys to values, not {_describe(values)}.")
    assert node is not None  # since the values are a mapping
    own = _Source(values, {})
    _note_places(node, (), path, own.places)
    base = values.pop("extends", None)
    if base is None:
        return own
    if not isinstance(base, str):
        raise UsageError(f"{own.place(('extends',))}: `extends` names one other config file, not {_describe(base)}.")
    inherited = _read_yaml(path.parent / base, (*chain, path.resolve()))
    return _Source(_merge(inherited.values, own.values), inherited.places | own.places)


def _note_places(node: yaml.Node, key: Key, path: Path, places: dict[Key, str]) -> None:
    """Record `file:line` of every key, refusing one that is no name or is given twice."""
    if isinstance(node, yaml.MappingNode):
        for name_node, value_node in node.value:
            inner = (*key, name_node.value)
            place = f"{path}:{name_node.start_mark.line + 1}"
            if name_node.tag != "tag:yaml.org,2002:str":
                raise UsageError(f"{place}: `{name_node.value}` is not a name; keys are names.")
            if inner in places:
                raise UsageError(f"{place}: `{_dotted(inner)}` is given twice. Remove one.")
            places[inner] = place
            _note_places(value_node, inner, path, places)


def _merge(base: dict[str, Any], changes: dict[str, Any], key: Key = ()) -> dict[str, Any]:
    """Return `base` with what `changes` names; a section that becomes another method keeps nothing of the old one."""
    merged = dict(base)
    for name, value in changes.items():
        old, inner = merged.get(name), (*key, name)
        if isinstance(old, dict) and isinstance(value, dict) and not _is_another_method(inner, old, value):
            value = _merge(old, value, inner)
        merged[name] = value
    return merged


def _is_another_method(key: Key, old: dict[str, Any], new: dict[str, Any]) -> bool:
    model: Any = Config
    field: FieldInfo | None = None
    for part in key:
        if not (isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields):
            return False
        field = model.model_fields[str(part)]
        model = field.annotation
    one_of = next((entry for entry in field.metadata if isinstance(entry, OneOf)), None) if field else None
    return one_of is not None and "kind" in new and new["kind"] != old.get("kind", one_of.default)


def _override(source: _Source, override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals or not name:
        raise UsageError(f"`{override}`: an override has the form key.sub=value.")
    try:
        value = load_yaml(text)
    except yaml.YAMLError:
        raise UsageError(f"`{override}`: the value is not valid YAML.") from None
    *parents, last = name.split(".")
    level = source.values
    for parent in parents:
        level = level.get(parent, {})
        if not isinstance(level, dict):
            raise UsageError(f"`{override}`: `{parent}` is a value, not a section.")
    change: dict[str, Any] = {last: value}
    for parent in reversed(parents):
        change = {parent: change}
    source.values = _merge(source.values, change)
    place = f"the command line (`{override}`)"
    for depth in range(1, len(parents) + 1):
        source.places.setdefault(tuple(parents[:depth]), place)
    source.places[(*parents, last)] = place


def _explain(error: ValidationError, source: _Source, path: Path) -> str:
    """Say the first thing that is wrong in one line."""
    first = error.errors(include_url=False)[0]
    key: Key = first["loc"]
    more = f" ({error.error_count() - 1} more after this one)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        known = _fields_of(key[:-1], source.values)
        nearest = difflib.get_close_matches(str(key[-1]), known, n=1, cutoff=0.5)
        hint = f"Did you mean `{_dotted((*key[:-1], nearest[0]))}`?" if nearest else f"Known: {', '.join(known)}."
        return f"{source.place(key)}: unknown key `{_dotted(key)}`. {hint}{more}"
    if first["type"] == "missing":
        return f"{path}: `{_dotted(key)}` is missing. Give it in the file or as {_dotted(key)}=VALUE.{more}"
    message = first["msg"].removeprefix("Value error, ")
    given = first["input"]
    if first["type"] == "unknown_method":
        return f"{source.place(key)}: `{_dotted(key)}`: {message}{'' if message.endswith('?') else '.'}{more}"
    got = f", not {_describe(given)}" if not isinstance(given, (dict, BaseModel)) else ""
    subject = f"`{_dotted(key)}`: " if key else ""
    return f"{source.place(key)}: {subject}{message[:1].lower()}{message[1:]}{got}.{more}"


def _fields_of(key: Key, values: Any) -> list[str]:
    """Return the names of the fields of the section at `key`; which they are may depend on what it holds."""
    model: type[BaseModel] = Config
    for part in key:
        field = model.model_fields[str(part)]
        values = values.get(part) if isinstance(values, dict) else None
        by_methods = next((entry for entry in field.metadata if isinstance(entry, ByMethods)), None)
        inner = by_methods.model(values) if by_methods else field.annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return list(model.model_fields)


def _dotted(key: Key) -> str:
    return ".".join(str(part) for part in key)


def _describe(value: Any) -> str:
    if value is None:
        return "nothing"
    return f"{value!r} ({type(value).__name__})"
