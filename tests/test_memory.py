"""The memory that may be used: the machine's, and no more than the control groups of the process leave."""

from pathlib import Path

import pytest

from ltrsys.memory import available_memory

GIB = 2**30


def _group(limit: str, used: int = 0, cached: int = 0, version: int = 2) -> dict[str, str]:
    """The files of a control group, of which `used` GiB are used, `cached` of these by files."""
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    stat = f"anon 17\n{'' if version == 2 else 'total_'}inactive_file {cached * GIB}\n"
    return {**dict(zip(names, (f"{limit}\n", f"{used * GIB}\n"), strict=True)), "memory.stat": stat}


def _machine(root: Path, groups: str | None, files: dict[str, dict[str, str]]) -> Path:
    texts = {"proc/meminfo": f"MemTotal: 99 kB\nMemAvailable: {8 * GIB // 1024} kB\n"}
    if groups is not None:
        texts["proc/self/cgroup"] = groups
    for folder, own in files.items():
        texts |= {f"sys/fs/cgroup/{folder}/{name}": text for name, text in own.items()}
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        (None, {}, 8),
        ("", {}, 8),
        ("0::/\n", {}, 8),
        ("0::/job/step\n", {"job/step": _group("max"), "job": _group(str(2 * GIB))}, 2),
        ("0::/job/step\n", {"job/step": _group(str(GIB)), "job": _group(str(2 * GIB))}, 1),
        ("0::/job\n", {"job": _group(str(6 * GIB), used=5)}, 1),
        ("0::/job\n", {"job": _group(str(6 * GIB), used=5, cached=3)}, 4),
        ("0::/job\n", {"job": _group(str(GIB), used=2)}, 0),
        ("0::/\n", {".": _group(str(3 * GIB))}, 3),  # within a container
        ("4:memory:/job\n0::/\n", {"memory/job": _group(str(4 * GIB), 2, 1, version=1)}, 3),
        ("3:cpu,memory:/job\n", {"memory/job": _group(str(16 * GIB), version=1)}, 8),
        ("3:cpu,cpuacct:/job\n", {"memory/job": _group("1", version=1)}, 8),
    ],
)
def test_the_least_of_what_the_machine_has_and_the_groups_leave(
    groups: str | None, files: dict[str, dict[str, str]], expected: int, tmp_path: Path
) -> None:
    assert available_memory(_machine(tmp_path, groups, files)) == expected * GIB


def test_of_this_machine() -> None:
    assert 0 < available_memory() < 2**60
