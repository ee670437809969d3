"""What is asked of images, and what is said of each: its classes, best first, and how sure that is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

Status = Literal["ok", "not sure", "unreadable"]

AUTO = "auto"
"""The rank of a taxonomy that stands for the finest one that is sure enough."""
PRECISION_OF_GROUPS = 0.9
"""How sure a group must be where `rank` is auto and no precision is asked for."""


@dataclass(frozen=True)
class Wanted:
    """What is asked."""

    top: int = 5
    """How many classes to name, if no coverage is asked for."""
    min_precision: float | None = None
    """The share of the answers that should be right, between 0 and 1: others are "not sure"."""
    coverage: float | None = None
    """Name as many classes as it takes for the right one to be among them so often, between 0 and 1."""
    adjusted: bool = False
    """Whether rare classes come into these with a smaller probability, so that they are covered as well."""
    rank: str | None = None
    """Name groups of this rank of the taxonomy instead of classes; `auto` names, beside the classes, the finest group
    that is sure enough."""
    novelty: bool = False
    """Whether to tell how unlike the known images each is."""


@dataclass(frozen=True)
class Answer:
    """One class that an image may be of, or one group of classes."""

    class_id: int | None
    """The class's place in the model's outputs; None for a group."""
    name: str
    probability: float
    train_images: int
    """Training images of it."""
    shot: str | None
    """`many`, `medium` or `few`, by these; None for a group."""
    taxonomy: Mapping[str, str] = field(default_factory=dict)
    """Names of the groups that it belongs to, by rank; empty where they are not known."""


@dataclass(frozen=True)
class Taxon:
    """The finest of a class and its groups that is sure enough."""

    rank: str
    """Such as genus; `class` of a class itself, whatever its own rank."""
    name: str
    probability: float
    """Of all its classes together."""


@dataclass(frozen=True)
class Unlikeness:
    """How unlike the known images one is: near 0 it may be of no class at all."""

    energy_share: float
    """Share of the calibration images whose scores are at least as low (by their energy)."""
    distance_share: float
    """Share of the calibration images whose features are at least as far from the nearest class mean."""


@dataclass(frozen=True)
class Prediction:
    """What is said of one image."""

    path: str
    """Its path; `image N` for the N-th of those that were given as pixels."""
    answers: Sequence[Answer]
    """The best classes, best first; empty where the image cannot be read."""
    status: Status = "ok"
    problem: str | None = None
    """Why it cannot be read; None where it can."""
    taxon: Taxon | None = None
    """With `rank` auto; None where not even the widest group is sure enough."""
    unlikeness: Unlikeness | None = None
    """Where it was asked for."""

    @classmethod
    def unreadable(cls, path: str, problem: str) -> Self:
        """Return what is said of an image that cannot be read."""
        return cls(path, (), "unreadable", problem)

    @property
    def best(self) -> Answer:
        """The best class.

        Raises:
            ValueError: Where the image cannot be read.
        """
        if not self.answers:
            raise ValueError(f"{self.path}: {self.problem}")
        return self.answers[0]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values, which share what they hold with it."""
        # dataclasses.asdict copies the taxonomy of each answer, and takes a sixth of all the time of `ltrsys predict`.
        return vars(self) | {
            "answers": [dict(vars(answer)) for answer in self.answers],
            "taxon": self.taxon and dict(vars(self.taxon)),
            "unlikeness": self.unlikeness and dict(vars(self.unlikeness)),
        }
