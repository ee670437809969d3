"""What a user can get wrong, told in one line.

Everything that the command line reports without a traceback is an `LtrsysError`: its message says what
is wrong, where (file, line, key, sample) and what to do. Exit code 2 is for usage and configuration, 1
for the rest.
"""


class LtrsysError(Exception):
    """Something the user can put right: bad data, a full disk, a damaged file."""

    exit_code = 1


class UsageError(LtrsysError):
    """A wrong command line or configuration: found before any work is done."""

    exit_code = 2


class DataError(LtrsysError):
    """A dataset, shard, index or image that is not what it claims to be."""
