"""What is said of an image: its classes, best first, and how sure that is."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

Status = Literal["ok", "not sure", "unreadable"]


@dataclass(frozen=True)
class Answer:
    """One class that an image may be of."""

    class_id: int
    """The class's place in the model's outputs."""
    name: str
    probability: float
    train_images: int
    """Training images of the class."""
    shot: str
    """`many`, `medium` or `few`, by these."""
    taxonomy: Mapping[str, str] = field(default_factory=dict)
    """Names of the groups that the class belongs to, by rank; empty where they are not known."""


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
        """Return it as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Make it from what `to_json` returned."""
        return cls(**values | {"answers": tuple(Answer(**answer) for answer in values["answers"])})
