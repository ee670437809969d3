"""What every rank tells of itself, and what the first one concludes: who is silent, has ended, or is waited for.

Nothing here has a clock, a thread or a socket: `watchdog` brings them.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Limits:
    """How long to wait for what, in seconds, so that all ranks have ended within `train.timeout_seconds`."""

    interval: float
    """Between two beats of a rank."""
    silent: float
    """Without a beat: the rank is silent."""
    silent_once_disconnected: float
    """The same, once communication has failed on some rank: that of the dead is told at once, but not whose it was."""
    stuck: float
    """Waited for in one place by those who are further on: the rank is stuck, though its beats go on."""

    @classmethod
    def within(cls, timeout_seconds: float) -> "Limits":
        """Return the limits that fit into a time-out."""
        interval = min(timeout_seconds / 30, 2.0)
        return cls(interval, timeout_seconds * 2 / 3, 4 * interval, timeout_seconds * 0.85)


@dataclass(frozen=True)
class Beat:
    """The state of a rank at one moment."""

    count: int
    """Grows from beat to beat."""
    milestone: int = 0
    """How many places of the training loop its main thread has come to; the ranks come to the same ones in turn."""
    doing: str = "starting"
    """The last of these places, in words."""
    connected: bool = True
    """False once communication with the other ranks has failed."""
    finished: bool = False
    """Whether it has left, in order or with `last_words`, and beats no more."""
    last_words: str | None = None
    """The error that it ended with."""

    def encode(self) -> str:
        """Return the beat as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: bytes) -> "Beat":
        """Return the beat that `encode` made `text` of."""
        return cls(**json.loads(text))


class Judge:
    """Hears all beats, and says which rank ends the run and why."""

    def __init__(self, hosts: Sequence[str], limits: Limits, now: float) -> None:
        """Begin at the time `now`, in seconds.

        Args:
            hosts: Name of every rank's host.
            limits: How long to wait.
            now: The time, as for the other methods: of any clock that goes forward.
        """
        self._hosts, self._limits = hosts, limits
        self._beats = [Beat(-1) for _ in hosts]
        self._heard = [now] * len(hosts)
        """When each rank's last new beat came."""
        self._moved = [now] * len(hosts)
        """When each rank was first seen in its place."""
        self._now = now

    def hear(self, beats: Sequence[Beat], now: float) -> None:
        """Take in the newest beat of every rank, new or not."""
        pause = now - self._now
        if pause > 2 * self._limits.interval:
            # This process itself stood still, stopped or starved: what it did not hear meanwhile says nothing.
            self._heard = [heard + pause for heard in self._heard]
            self._moved = [moved + pause for moved in self._moved]
        self._now = now
        for rank, (before, beat) in enumerate(zip(self._beats, beats, strict=True)):
            if beat.count != before.count:
                self._heard[rank] = now
            if beat.milestone != before.milestone:
                self._moved[rank] = now
        self._beats = list(beats)

    def verdict(self) -> str | None:
        """Return a sentence that names the rank which ends the run, or None while all is well."""
        return self._ended() or self._silent() or self._stuck()

    def all_have_left(self) -> bool:
        """Return whether no rank beats any more, as far as they have said so."""
        return all(beat.finished for beat in self._beats)

    def _ended(self) -> str | None:
        for rank, beat in enumerate(self._beats):
            # The others may have met the same error: they get the time to tell it themselves.
            if beat.last_words and self._silence(rank) > self._limits.silent_once_disconnected:
                return f"{named([rank], self._hosts)} has ended: {beat.last_words}"
        return None

    def _silent(self) -> str | None:
        limits = self._limits
        limit = limits.silent if all(beat.connected for beat in self._beats) else limits.silent_once_disconnected
        silence = {rank: self._silence(rank) for rank, beat in enumerate(self._beats) if not beat.finished}
        if not silence or max(silence.values()) <= limit:
            return None
        # Those of one host fall silent together, and yet not at the same moment.
        ranks = [rank for rank, seconds in silence.items() if seconds > limit - 2 * limits.interval]
        doing = self._beats[ranks[0]].doing
        return f"{silent_for(ranks, self._hosts, max(silence.values()))}, last seen {doing}."

    def _stuck(self) -> str | None:
        present = [rank for rank, beat in enumerate(self._beats) if not beat.finished]
        foremost = max(present, key=lambda rank: self._beats[rank].milestone, default=0)
        last = min((self._beats[rank].milestone for rank in present), default=0)
        if last == self._beats[foremost].milestone or self._now - self._moved[foremost] <= self._limits.stuck:
            return None
        ranks = [rank for rank in present if self._beats[rank].milestone == last]
        seconds = self._now - max(self._moved[rank] for rank in ranks)
        verb = "has" if len(ranks) == 1 else "have"
        doing = self._beats[ranks[0]].doing
        return f"{named(ranks, self._hosts)} {verb} been {doing} for {seconds:.0f} s, while the others waited."

    def _silence(self, rank: int) -> float:
        return self._now - self._heard[rank]


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
