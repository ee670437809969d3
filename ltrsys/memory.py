"""How much memory this process may take."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT = Path("/")


def available_memory(root: Path = ROOT) -> int:
    """Return the bytes that are available, what the system's cache of files can give back included.

    That is what the machine has to give, and no more than what the control groups of this process leave, in which a
    cluster or a container keeps it.

    Args:
        root: Where `proc` and `sys` lie.
    """
    available = _named(root / "proc/meminfo", "MemAvailable:") * 1024
    return max(0, min([available, *_left_in_groups(root)]))


def _left_in_groups(root: Path) -> Iterator[int]:
    """Yield what is left in this process's control groups, of either version, and in the groups around them."""
    with suppress(OSError):  # a system without control groups
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                yield from _left_in(root / "sys/fs/cgroup", path, "memory.max", "memory.current", "inactive_file")
            elif "memory" in controllers.split(","):
                names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
                yield from _left_in(root / "sys/fs/cgroup/memory", path, *names)


def _left_in(groups: Path, path: str, limit: str, usage: str, cached: str) -> Iterator[int]:
    group = groups / path.lstrip("/")
    while group.is_relative_to(groups):
        with suppress(OSError, ValueError):  # the outermost has no such file; `max` is no limit
            used = int((group / usage).read_text()) - _named(group / "memory.stat", cached)
            yield int((group / limit).read_text()) - used
        group = group.parent


def _named(path: Path, name: str) -> int:
    """Return the number that stands behind a name in a file of such lines; 0 where none does."""
    words = (line.split() for line in path.read_text().splitlines())
    return next((int(value) for key, value, *_ in words if key == name), 0)
