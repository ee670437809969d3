"""Which column of a table means what: as the command line says, or by its name."""

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from difflib import get_close_matches

from ltrsys.data.sources.files.text_files import quoted
from ltrsys.data.sources.source import DETAILS
from ltrsys.errors import DataError, UsageError

RANKS = ("kingdom", "phylum", "class", "order", "family", "genus", "species")
ROLES = ("path", "url", "label", "name", "split", *DETAILS, *RANKS)
"""What a column can be."""

_USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "path": ("path", "filename", "filepath", "file", "image", "imagepath", "imagename", "imgpath", "img"),
    "url": ("url", "imageurl", "photourl", "mediaurl", "link"),
    "label": ("label", "labelid", "classid", "categoryid", "target", "classindex", "classidx"),
    "name": ("name", "classname", "category", "categoryname", "labelname", "scientificname"),
    "split": ("split", "set", "subset", "partition", "fold"),
    "observation": ("observation", "observationid", "observationuuid", "burst", "sequence", "sequenceid", "seqid"),
    "location": ("location", "locationid", "site", "siteid", "locality"),
    "camera": ("camera", "cameraid", "deployment", "deploymentid"),
    "date": ("date", "datetime", "observedon", "eventdate", "timestamp", "datecaptured"),
    "latitude": ("latitude", "lat", "decimallatitude"),
    "longitude": ("longitude", "lon", "lng", "long", "decimallongitude"),
    "licence": ("licence", "license", "licencename", "licensename"),
    "rights_holder": ("rightsholder", "copyright", "copyrightholder", "photographer", "author"),
    **{rank: (rank,) for rank in RANKS},
}
"""The names that a column of each role may have, without blanks, `_` and `-` and in small letters, best first."""


def parse_columns(text: str) -> dict[str, str]:
    """Return what `--columns path=file_name,label=species` says: column names by role.

    Raises:
        UsageError: For what is no such list.
    """
    columns: dict[str, str] = {}
    for part in text.split(","):
        role, equals, column = (piece.strip() for piece in part.partition("="))
        if not equals or not role or not column:
            raise UsageError(
                f"--columns: {quoted(part)} is not ROLE=COLUMN; write for example --columns path=file_name,label=class."
            )
        if role not in ROLES:
            nearest = get_close_matches(role, ROLES, n=1)
            hint = f"did you mean {nearest[0]}?" if nearest else f"expected one of {', '.join(ROLES)}."
            raise UsageError(f"--columns: a column cannot be {quoted(role)}; {hint}")
        if role in columns:
            raise UsageError(f"--columns: {role} is given twice, as {quoted(columns[role])} and {quoted(column)}.")
        columns[role] = column
    if "path" in columns and "url" in columns:
        raise UsageError("--columns: give path or url, not both; a path may be a URL.")
    return columns


def choose_columns(header: Sequence[str], given: Mapping[str, str], place: str, *, urls: bool) -> dict[str, int]:
    """Return the place of the column of each role.

    Args:
        header: The names of the table's columns.
        given: The names that the command line gives, by role.
        place: Names the table, for errors.
        urls: Whether a column of URLs is preferred to one of paths.

    Raises:
        DataError: Where a column is missing that was given or is needed, or where it is there twice.
    """
    chosen = {role: _the_one(header, column, role, place) for role, column in given.items()}
    taken = set(chosen.values())
    for role, names in _USUAL_NAMES.items():
        # A column `class` is the taxonomic one beside others of these, and the label else.
        if role not in chosen and not (role == "class" and not _has_ranks(header)):
            found = _by_usual_name(header, names, taken, place)
            if found is not None:
                chosen[role] = found
                taken.add(found)
    if "path" in chosen and "url" in chosen:
        del chosen["path" if "url" in given or (urls and "path" not in given) else "url"]
    if "path" not in chosen and "url" not in chosen:
        raise DataError(f"{place}: no column is known to hold the images' paths or URLs{_say(header, 'path')}")
    if "label" not in chosen and "name" not in chosen:
        for role, name in (("label", "class"), ("name", "species")):
            found = _by_usual_name(header, (name,), taken - {chosen.get("species")}, place)
            if found is not None:
                return {**chosen, role: found}
        raise DataError(f"{place}: no column is known to hold the classes{_say(header, 'label')}")
    return chosen


def named_columns(header: Sequence[str], names: Sequence[str], place: str) -> list[int]:
    """Return the places of the columns of a table whose layout is known.

    Raises:
        DataError: Where one is missing, or there twice.
    """
    return [_the_one(header, name, None, place) for name in names]


def _has_ranks(header: Sequence[str]) -> bool:
    return any(_plain(column) in RANKS and _plain(column) != "class" for column in header)


def _by_usual_name(
    header: Sequence[str], names: Sequence[str], taken: AbstractSet[int | None], place: str
) -> int | None:
    plain = [_plain(column) for column in header]
    for name in names:
        if name in plain and plain.index(name) not in taken:
            return _the_one(header, header[plain.index(name)], name, place)
    return None


def _the_one(header: Sequence[str], column: str, role: str | None, place: str) -> int:
    if header.count(column) > 1:
        raise DataError(f"{place}: {header.count(column)} columns are called {quoted(column)}. Rename all but one.")
    if column in header:
        return header.index(column)
    nearest = get_close_matches(column, header, n=1, cutoff=0.5)
    said = f"; the nearest is {quoted(nearest[0])}" if nearest else ""
    raise DataError(f"{place}: there is no column {quoted(column)}{said}{_say(header, role)}")


def _say(header: Sequence[str], role: str | None, most: int = 30) -> str:
    there = ", ".join(quoted(column[:50]) for column in header[:most]) + (" ..." if len(header) > most else "")
    return f". There are: {there}." + (f" Name it: --columns {role}=COLUMN." if role is not None else "")


def _plain(column: str) -> str:
    return re.sub(r"[\s_-]", "", column).lower()
