"""What every rank tells of itself, and the failure detector of the first one: who is silent, has ended, or is stuck.

Nothing here has a clock, a thread or a socket: `watchdog` brings them.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Limits:
    """How long to wait for what, in seconds, so that all ranks have ended within `train.timeout_seconds`."""

    interval: float
    """Between two heartbeats of a rank."""
    silent: float
    """Without a heartbeat: the rank is silent."""
    silent_once_disconnected: float
    """The same, once communication has failed on some rank: that of the dead is told at once, but not whose it was."""
    stuck: float
    """Waited for in one place by those who are further on: the rank is stuck, though its heartbeats go on."""

    @classmethod
    def within(cls, timeout_seconds: float) -> "Limits":
        """Return the limits that fit into a time-out."""
        interval = min(timeout_seconds / 30, 2.0)
        return cls(interval, timeout_seconds * 2 / 3, 4 * interval, timeout_seconds * 0.85)


@dataclass(frozen=True)
class Heartbeat:
    """The state of a rank at one moment."""

    count: int
    """Grows from heartbeat to heartbeat."""
    milestone: int = 0
    """How many places of the training loop its main thread has come to; the ranks come to the same ones in turn."""
    doing: str = "starting"
    """The last of these places, in words."""
    connected: bool = True
    """False once communication with the other ranks has failed."""
    finished: bool = False
    """Whether it has left, in order or with `last_words`, and sends no more."""
    last_words: str | None = None
    """The error that it ended with."""

    def encode(self) -> str:
        """Return the heartbeat as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: bytes) -> "Heartbeat":
        """Return the heartbeat that `encode` made `text` of."""
        return cls(**json.loads(text))


class FailureDetector:
    """Says by the heartbeats of all ranks which one ends the run, and why."""

    def __init__(self, hosts: Sequence[str], limits: Limits, now: float) -> None:
        """Begin at the time `now`, in seconds.

        Args:
            hosts: Name of every rank's host.
            limits: How long to wait.
            now: The time, as for the other methods: of any clock that goes forward.
        """
        self._hosts, self._limits = hosts, limits
        self._beats = [Heartbeat(-1) for _ in hosts]
        self._last_seen = [now] * len(hosts)
        """When each rank's last new heartbeat came."""
        self._last_progress = [now] * len(hosts)
        """When each rank was first seen at its milestone."""
        self._now = now

    def update(self, beats: Sequence[Heartbeat], now: float) -> None:
        """Take in the newest heartbeat of every rank, new or not."""
        pause = now - self._now
        if pause > 2 * self._limits.interval:
            # This process itself stood still, stopped or starved: what it did not hear meanwhile says nothing.
            self._last_seen = [seen + pause for seen in self._last_seen]
            self._last_progress = [progress + pause for progress in self._last_progress]
        self._now = now
        for rank, (before, beat) in enumerate(zip(self._beats, beats, strict=True)):
            if beat.count != before.count:
                self._last_seen[rank] = now
            if beat.milestone != before.milestone:
                self._last_progress[rank] = now
        self._beats = list(beats)

    def verdict(self) -> str | None:
        """Return a sentence that names the rank which ends the run, or None while all is well."""
        return self._ended() or self._silent() or self._stuck()

    def all_have_left(self) -> bool:
        """Return whether no rank sends heartbeats any more, as far as they have said so."""
        return all(beat.finished for beat in self._beats)

    def _ended(self) -> str | None:
        """Name a rank that ended with an error.

        It is given the time of `silent_once_disconnected` first: others may have met the same error, and tell it.
        """
        for rank, beat in enumerate(self._beats):
            if beat.last_words and self._silence(rank) > self._limits.silent_once_disconnected:
                return f"{named([rank], self._hosts)} has ended: {beat.last_words}"
        return None

    def _silent(self) -> str | None:
        """Name the ranks without a new heartbeat, once one of them has been silent for longer than the limit.

        Ranks within two intervals of the limit are named with it: those of a lost host beat at moments of their own,
        and so reach the limit one after the other.
        """
        limits = self._limits
        limit = limits.silent if all(beat.connected for beat in self._beats) else limits.silent_once_disconnected
        silence = {rank: self._silence(rank) for rank, beat in enumerate(self._beats) if not beat.finished}
        longest = max(silence.values(), default=0.0)
        if longest <= limit:
            return None
        ranks = [rank for rank, seconds in silence.items() if seconds > limit - 2 * limits.interval]
        doing = self._beats[ranks[0]].doing
        return f"{silent_for(ranks, self._hosts, longest)}, last seen {doing}."

    def _stuck(self) -> str | None:
        """Name the ranks at the smallest milestone, once the rank at the largest has been there for `limits.stuck`.

        All ranks come to the same milestones in turn, and collectives hold the fastest until the slowest has come.
        """
        milestones = {rank: beat.milestone for rank, beat in enumerate(self._beats) if not beat.finished}
        if not milestones:
            return None
        fastest, smallest = max(milestones, key=milestones.__getitem__), min(milestones.values())
        if milestones[fastest] == smallest or self._now - self._last_progress[fastest] <= self._limits.stuck:
            return None
        slowest = [rank for rank, milestone in milestones.items() if milestone == smallest]
        seconds = self._now - max(self._last_progress[rank] for rank in slowest)
        verb = "has" if len(slowest) == 1 else "have"
        doing = self._beats[slowest[0]].doing
        return f"{named(slowest, self._hosts)} {verb} been {doing} for {seconds:.0f} s, while the others waited."

    def _silence(self, rank: int) -> float:
        return self._now - self._last_seen[rank]


def silent_for(ranks: Sequence[int], hosts: Sequence[str], seconds: float) -> str:
    """Return the sentence, without its end, that these ranks are silent."""
    return f"{named(ranks, hosts)} {'has' if len(ranks) == 1 else 'have'} been silent for {seconds:.0f} s"


def named(ranks: Iterable[int], hosts: Sequence[str]) -> str:
    """Return the ranks in words, with their hosts: `ranks 2, 3 on node-b and 4 on node-c`."""
    ranks = list(ranks)
    of_host: dict[str, list[int]] = {}
    for rank in ranks:
        of_host.setdefault(hosts[rank], []).append(rank)
    parts = (f"{', '.join(map(str, those))} on {host}" for host, those in of_host.items())
    return f"{'rank' if len(ranks) == 1 else 'ranks'} {' and '.join(parts)}"
