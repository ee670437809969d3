import pytest

from ltrsys.training.supervision.heartbeat import FailureDetector, Heartbeat, Limits, named

HOSTS = ["host-a", "host-a", "host-b", "host-b"]
LIMITS = Limits(interval=1, silent=20, silent_once_disconnected=4, stuck=26)


class Ranks:
    """Four ranks under a failure detector, and a clock that the test moves."""

    def __init__(self) -> None:
        self.now, self.detector = 0.0, FailureDetector(HOSTS, LIMITS, 0.0)
        self.beats = [Heartbeat(0) for _ in HOSTS]

    def live(self, seconds: int, *, beating: tuple[int, ...] = (0, 1, 2, 3)) -> str | None:
        """Let the time pass, second by second; return the first verdict."""
        for _ in range(seconds):
            self.now += 1
            for rank in beating:
                self.change(rank, count=self.beats[rank].count + 1)
            self.detector.update(self.beats, self.now)
            if verdict := self.detector.verdict():
                return verdict
        return None

    def change(self, rank: int, **changes: object) -> None:
        self.beats[rank] = Heartbeat(**(self.beats[rank].__dict__ | changes))


@pytest.fixture
def ranks():
    ranks = Ranks()
    for rank in range(len(HOSTS)):
        ranks.change(rank, milestone=7, doing="training step 4")
    assert ranks.live(100) is None
    return ranks


def test_a_beat_survives_its_encoding():
    beat = Heartbeat(3, 9, "reading the data of step 5", connected=False, finished=True, last_words="disk full: “x”.")
    assert Heartbeat.decode(beat.encode().encode()) == beat


def test_a_host_that_falls_silent_is_named_with_all_its_ranks(ranks):
    ranks.live(1, beating=(0, 1, 2))  # the last beats of a host are not of the same moment
    assert ranks.live(18, beating=(0, 1)) is None
    verdict = ranks.live(3, beating=(0, 1))
    assert verdict == "ranks 2, 3 on host-b have been silent for 21 s, last seen training step 4."


def test_once_communication_has_failed_the_dead_are_named_soon(ranks):
    ranks.change(0, connected=False)
    assert ranks.live(4, beating=(0, 1, 2)) is None
    assert ranks.live(1, beating=(0, 1, 2)) == "rank 3 on host-b has been silent for 5 s, last seen training step 4."


def test_a_rank_that_left_in_order_is_not_missed(ranks):
    ranks.change(3, finished=True)
    assert ranks.live(1) is None
    assert ranks.live(100, beating=(0, 1, 2)) is None


def test_last_words_come_before_silence_and_leave_the_others_time_for_their_own(ranks):
    ranks.change(2, finished=True, last_words="the disk is full.")
    assert ranks.live(1) is None
    assert ranks.live(4, beating=(0, 1, 3)) is None
    assert ranks.live(1, beating=(0, 1, 3)) == "rank 2 on host-b has ended: the disk is full."


def test_who_is_behind_and_waited_for_is_stuck(ranks):
    ranks.change(1, milestone=8, doing="reading the data of step 5")
    for rank in (0, 2, 3):
        ranks.change(rank, milestone=9, doing="training step 5")
    assert ranks.live(26) is None
    verdict = ranks.live(2)
    assert verdict == "rank 1 on host-a has been reading the data of step 5 for 27 s, while the others waited."


def test_all_in_one_place_may_take_as_long_as_they_like(ranks):
    for rank in range(4):
        ranks.change(rank, milestone=8, doing="evaluating after step 4")
    assert ranks.live(1000) is None


def test_who_stood_still_itself_does_not_blame_the_others(ranks):
    ranks.now += 1000
    assert ranks.live(5) is None
    ranks.now += 1000
    assert ranks.live(19, beating=(0,)) is None
    assert ranks.live(3, beating=(0,)) == (
        "ranks 1 on host-a and 2, 3 on host-b have been silent for 21 s, last seen training step 4."
    )


def test_ranks_are_named_with_their_hosts():
    assert named([2], HOSTS) == "rank 2 on host-b"
    assert named([1, 2, 3], HOSTS) == "ranks 1 on host-a and 2, 3 on host-b"
