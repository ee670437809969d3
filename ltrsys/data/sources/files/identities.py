"""Finding the entry of a table that another table means by its id."""

import re
from collections.abc import Callable, Sequence

from ltrsys.errors import DataError

_WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,18}")


class Identities:
    """The places of a table's entries by their ids, which other tables may write as a number or as a text."""

    def __init__(self, ids: Sequence[int | str], where: Callable[[int], str]) -> None:
        """Take in the ids of a table.

        Args:
            ids: The id of each entry.
            where: Names the entry at a place, for errors.

        Raises:
            DataError: Where two entries have the same id, or one that is a number here and the same text there.
        """
        self._places: dict[int | str, int] = {}
        for place, identity in enumerate(ids):
            if (first := self._places.setdefault(identity, place)) != place:
                raise DataError(
                    f"{where(place)} has the id {identity!r}, which {where(first)} has already. Give each its own."
                )
        self.kinds = {type(identity) for identity in ids}
        for number, place in self._places.items() if len(self.kinds) > 1 else ():
            if isinstance(number, int) and (other := self._places.get(str(number))) is not None:
                raise DataError(
                    f"{where(other)} has the text '{number}' as its id, and {where(place)} the number {number}; which "
                    "of them is meant elsewhere cannot be told. Give each its own."
                )

    def place(self, identity: int | str) -> int | None:
        """Return the place of the entry with an id, or None where there is none."""
        place = self._places.get(identity)
        return self._places.get(_other_kind(identity)) if place is None else place


def _other_kind(identity: int | str) -> int | str:
    """Return a number as the text that it is written as, and the other way round."""
    if isinstance(identity, int):
        return str(identity)
    return int(identity) if _WHOLE_NUMBER.fullmatch(identity) else identity
