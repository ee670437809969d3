"""Three ranks that wait for one another in a collective, and what happens to one of them."""

import signal
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from ltrsys.training.supervision.process_group import free_port
from tests.training.supervision.watched_ranks import HOSTS, TIMEOUT, run_watched
from tests.trainings import RANKS

pytestmark = pytest.mark.distributed

CASES = {
    "the last dies": ["waits", "waits", "dies"],
    "the first dies": ["dies", "waits", "waits"],
    "the last stops": ["waits", "waits", "stops"],
    "the first stops": ["stops", "waits", "waits"],
    "the last ends": ["waits", "waits", "ends_with_an_error"],
    "the first ends": ["ends_with_an_error", "waits", "waits"],
    "one fails": ["waits", "fails", "waits"],
    "one hangs": ["waits", "hangs", "waits"],
    "the first finishes": ["finishes", "goes_on", "goes_on"],
}


@dataclass(frozen=True)
class End:
    """How a rank has ended."""

    exit_code: int | None
    lines: list[str]


def start(case: str, folder: Path, ready: Barrier) -> list[tuple[Any, Path]]:
    port = free_port()
    ranks = []
    for rank, happens in enumerate(CASES[case]):
        errors = folder / f"{case}-{rank}"
        process = RANKS.Process(target=run_watched, args=(rank, port, ready, happens, errors), daemon=True)
        process.start()
        ranks.append((process, errors))
    return ranks


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """Let all cases happen at once, since they are mostly waiting; return how each rank of each has ended."""
    folder = tmp_path_factory.mktemp("watched")
    ready = RANKS.Barrier(len(CASES) * len(HOSTS))
    running = {case: start(case, folder, ready) for case in CASES}
    ended = {}
    for case, ranks in running.items():
        for process, _ in ranks:
            process.join(timeout=0 if "stops" in CASES[case] and process is stopped(case, ranks) else 60)
        ended[case] = [
            End(process.exitcode, [line for line in errors.read_text().splitlines() if line.startswith("ltrsys: ")])
            for process, errors in ranks
        ]
        for process, _ in ranks:
            process.kill()
    return ended


def stopped(case: str, ranks: list[tuple[Any, Path]]) -> Any:
    return ranks[CASES[case].index("stops")][0]


def assert_named(end: End, named: str) -> None:
    assert end.exit_code == 1
    (line,) = end.lines
    assert line.startswith(f"ltrsys: {named}")
    assert line.endswith(" ends here; the same command goes on from the last checkpoint.")


@pytest.mark.parametrize("how", ["dies", "stops"])
def test_a_silent_rank_is_named_by_the_others(how, ends):
    first, second, last = ends[f"the last {how}"]
    for end in (first, second):
        assert_named(end, "rank 2 on host-b has been silent for ")
    assert last.exit_code == (-signal.SIGKILL if how == "dies" else None)


@pytest.mark.parametrize("how", ["dies", "stops"])
def test_the_rank_that_keeps_the_store_is_named_too(how, ends):
    for rank in (1, 2):
        assert_named(ends[f"the first {how}"][rank], "rank 0 on host-a has been silent for ")


def test_the_error_that_a_rank_ended_with_is_told_by_the_others(ends):
    for case, culprit in (("the last ends", 2), ("the first ends", 0)):
        for rank, end in enumerate(ends[case]):
            if rank == culprit:
                assert end.lines == ["ltrsys: train-000001.tar: truncated."]
                assert end.exit_code == 1
            else:
                assert_named(end, f"rank {culprit} on {HOSTS[culprit]} has ended: train-000001.tar: truncated. ")


def test_a_failure_of_ones_own_is_told_apart_from_one_of_communication(ends):
    first, culprit, last = ends["one fails"]
    assert culprit.exit_code == 1
    assert culprit.lines[0].startswith("ltrsys: rank 1 on host-b: out of memory. The same command goes on")
    for end in (first, last):
        assert_named(end, "rank 1 on host-b has ended: out of memory. ")


def test_a_rank_that_hangs_while_its_heart_beats_is_named_by_where_it_is(ends):
    for end in ends["one hangs"]:
        assert_named(end, "rank 1 on host-b has been reading the data of step 2 for ")
        assert "while the others waited" in end.lines[0]


def test_the_first_rank_may_leave_before_the_others(ends):
    assert [end.exit_code for end in ends["the first finishes"]] == [0, 0, 0]
    assert not any(end.lines for end in ends["the first finishes"])


def test_all_have_ended_within_the_time_out():
    """The limits leave time for the verdict to go round: a heartbeat, a look at it, the first rank's wait, a margin."""
    from ltrsys.training.supervision.heartbeat import Limits

    for timeout in (TIMEOUT, 30.0, 600.0):
        limits = Limits.within(timeout)
        assert max(limits.silent, limits.stuck) + 4 * limits.interval <= timeout
