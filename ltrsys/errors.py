"""What a user can get wrong, told in one line.

Everything that the command line reports without a traceback is an `LtrsysError`: its message says what
is wrong, where (file, line, key, sample) and what to do. Exit code 2 is for usage and configuration, 1
for the rest.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class LtrsysError(Exception):
    """Something the user can put right: bad data, a full disk, a damaged file."""

    exit_code = 1


class UsageError(LtrsysError):
    """A wrong command line or configuration: found before any work is done."""

    exit_code = 2


class DataError(LtrsysError):
    """A dataset, shard, index or image that is not what it claims to be."""


def first_problem(error: "ValidationError") -> str:
    """Return the first thing that a model of pydantic's has found wrong: its dotted key and pydantic's words."""
    first = error.errors(include_url=False)[0]
    return f"`{'.'.join(str(part) for part in first['loc'])}`: {first['msg']}"
