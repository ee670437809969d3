"""What is said of an image: its classes, best first, and how sure that is."""

from collections.abc import Sequence
from dataclasses import dataclass

RANKS = ("kingdom", "phylum", "class", "order", "family", "genus", "species")
"""The usual ranks of a taxonomy, from the widest to the narrowest."""


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
    taxonomy: dict[str, str]
    """Names of the groups that the class belongs to, by rank; empty where they are not known."""


@dataclass(frozen=True)
class Prediction:
    """What is said of one image."""

    path: str
    """Its path; `image N` for the N-th of those that were given as pixels."""
    answers: Sequence[Answer]
    """The best classes, best first; empty where the image cannot be read."""
    problem: str | None = None
    """Why it cannot be read; None where it can."""

    @property
    def best(self) -> Answer:
        """The best class.

        Raises:
            ValueError: Where the image cannot be read.
        """
        if not self.answers:
            raise ValueError(f"{self.path}: {self.problem}")
        return self.answers[0]
