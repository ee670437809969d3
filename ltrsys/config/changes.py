"""Which keys of the config may change while a run goes on, and after it: each is marked at its field."""

from collections.abc import Iterator
from typing import Any

from pydantic.fields import FieldInfo

from ltrsys.section import MayChange, Section


def fixed_values(section: Section, when: MayChange) -> dict[str, Any]:
    """Return the values, as JSON ones by dotted key, that may not change at the time `when`."""
    values = section.model_dump(mode="json")
    return dict(_fixed(section, values, when, ""))


def differences(then: Section, now: Section, when: MayChange) -> Iterator[tuple[str, Any, Any]]:
    """Yield the dotted keys, ascending, that may not change at the time `when` and have, with both values."""
    before, after = fixed_values(then, when), fixed_values(now, when)
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            yield key, before.get(key), after.get(key)


def changeable_keys(section: Section, when: MayChange, prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys that may change; `section.*` where all of a section may."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if _may(field, when):
            yield f"{prefix}{name}.*" if isinstance(value, Section) else prefix + name
        elif isinstance(value, Section):
            yield from changeable_keys(value, when, f"{prefix}{name}.")


def may_change(section: Section, key: str, when: MayChange) -> bool:
    """Say whether a dotted key may change; False for one that is not known."""
    name, _, rest = key.partition(".")
    field = type(section).model_fields.get(name)
    if field is None:
        return False
    value = getattr(section, name)
    return _may(field, when) or (bool(rest) and isinstance(value, Section) and may_change(value, rest, when))


def _fixed(section: Section, values: dict[str, Any], when: MayChange, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if _may(field, when):
            continue
        if isinstance(value, Section):
            yield from _fixed(value, values[name], when, f"{prefix}{name}.")
        else:
            yield prefix + name, values[name]


def _may(field: FieldInfo, when: MayChange) -> bool:
    return any(isinstance(mark, MayChange) and mark >= when for mark in field.metadata)
