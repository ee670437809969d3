"""Scores → words: the classes of each image, or as many as it takes, or groups of them, and how sure that is.

B images of a batch, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ltrsys.calibration.calibration import Calibration
from ltrsys.calibration.taxonomy import Node, Taxonomy
from ltrsys.errors import UsageError
from ltrsys.kernels import top_classes
from ltrsys.metrics.accuracy import shot_of_class
from ltrsys.metrics.config import ShotsConfig
from ltrsys.models.signature import Signature
from ltrsys.prediction.answers import AUTO, PRECISION_OF_GROUPS, Answer, Prediction, Status, Taxon, Unlikeness, Wanted
from ltrsys.registry import nearest


@dataclass(frozen=True)
class Scored:
    """What the network and the classifier make of a batch."""

    places: Sequence[int]
    """Of the images among all, [B]."""
    problems: Sequence[str | None]
    """Why an image cannot be read, [B]; what else is said of it then means nothing."""
    features_BD: Tensor
    scores_BC: Tensor
    """The classifier's own."""
    probabilities_BC: Tensor
    """float64."""

    def row(self, row: int) -> "Scored":
        """Return what is made of one image of the batch."""
        part = slice(row, row + 1)
        return Scored(
            self.places[part],
            self.problems[part],
            self.features_BD[part],
            self.scores_BC[part],
            self.probabilities_BC[part],
        )


@dataclass(frozen=True)
class Answerer:
    """Puts what was scored into words, as it is asked for."""

    wanted: Wanted
    signature: Signature
    shots: ShotsConfig
    calibration: Calibration | None
    """None where it is not known how sure the classifier is."""
    advice: str = ""
    """What to do about that."""

    def __post_init__(self) -> None:
        """Refuse what cannot be answered.

        Raises:
            UsageError: Says what is missing.
        """
        wanted = self.wanted
        for name, value in (("min-precision", wanted.min_precision), ("coverage", wanted.coverage)):
            if value is not None and not 0 < value < 1:
                raise UsageError(f"--{name} {value:g}: give a number between 0 and 1, such as 0.9.")
        if wanted.top < 1:
            raise UsageError(f"--top {wanted.top}: give 1 or more.")
        if wanted.adjusted and wanted.coverage is None:
            raise UsageError("--adjusted is for --coverage: give both.")
        self._check_rank()
        needs = {
            "--min-precision": wanted.min_precision is not None,
            "--coverage": wanted.coverage is not None,
            "--novelty": wanted.novelty,
            f"--rank {AUTO}": wanted.rank == AUTO,
        }
        asked = next((name for name, is_asked in needs.items() if is_asked), None)
        if asked and self.calibration is None:
            raise UsageError(f"{asked} needs to know how sure the classifier is. {self.advice}")

    def check_precision(self) -> None:
        """Refuse a precision that nothing shows: all answers would be "not sure".

        Raises:
            UsageError: Says why.
        """
        precision = self.wanted.min_precision
        if precision is not None and self.wanted.rank != AUTO and self._threshold is None:
            assert self.calibration is not None
            why = self.calibration.why_not(precision)
            raise UsageError(f"--min-precision {precision:g}: {why} Give a lower one.")

    def _check_rank(self) -> None:
        wanted = self.wanted
        if wanted.rank is None:
            return
        if not self._taxonomy.known:
            raise UsageError(f"--rank {wanted.rank}: the taxonomy of the classes is not known. Leave it out.")
        if wanted.rank != AUTO and wanted.rank not in self._taxonomy.ranks:
            hint = nearest(wanted.rank, [AUTO, *self._taxonomy.ranks])
            raise UsageError(f"--rank {wanted.rank}: no class has such a rank. {hint}")
        if wanted.rank != AUTO and (wanted.coverage is not None or wanted.min_precision is not None):
            raise UsageError(
                f"--rank {wanted.rank} goes with --top alone; --coverage and --min-precision are of classes."
            )

    def predictions(self, names: Sequence[str], scored: Scored, ranking_BK: Tensor) -> list[Prediction]:
        """Return what is said of each image of a batch.

        Args:
            names: Their paths, [B].
            scored: What was made of them.
            ranking_BK: The classifier's best classes, int64 [B, K], best first.
        """
        listed = self._listed(scored, ranking_BK)
        unlikeness = self._unlikeness(scored)
        best_B = scored.probabilities_BC.gather(1, ranking_BK[:, :1])[:, 0].tolist()
        predictions = []
        for row, (name, problem) in enumerate(zip(names, scored.problems, strict=True)):
            if problem is not None:
                predictions.append(Prediction.unreadable(name, problem))
                continue
            taxon = (
                self._taxon(scored.probabilities_BC[row], int(ranking_BK[row, 0])) if self.wanted.rank == AUTO else None
            )
            status = self._status(best_B[row], taxon)
            predictions.append(Prediction(name, listed[row], status, None, taxon, unlikeness[row]))
        return predictions

    def answer(self, class_id: int, probability: float) -> Answer:
        """Return what is said of a class that an image is of with this probability."""
        known = self.signature.classes[class_id]
        return Answer(
            class_id,
            known.name,
            probability,
            self.signature.train_counts[class_id],
            self._shots[class_id],
            known.taxonomy,
        )

    @cached_property
    def _taxonomy(self) -> Taxonomy:
        return Taxonomy.of(self.signature.classes)

    @cached_property
    def _shots(self) -> list[str]:
        """The group of each class, [C]."""
        counts = np.array(self.signature.train_counts, dtype=np.int64)
        return list(shot_of_class(counts, self.shots).tolist())

    @cached_property
    def _threshold(self) -> float | None:
        """The confidence from which on an answer is sure."""
        precision = self.wanted.min_precision
        if precision is None and self.wanted.rank == AUTO:
            precision = PRECISION_OF_GROUPS
        return None if precision is None or self.calibration is None else self.calibration.threshold(precision)

    def _listed(self, scored: Scored, ranking_BK: Tensor) -> list[list[Answer]]:
        """Return the answers of each image."""
        wanted = self.wanted
        if wanted.coverage is not None:
            return self._sets(scored.probabilities_BC, ranking_BK)
        if wanted.rank not in (None, AUTO):
            return self._groups(scored.probabilities_BC)
        chosen = scored.probabilities_BC.gather(1, ranking_BK)
        return [self._named(*row) for row in zip(ranking_BK.tolist(), chosen.tolist(), strict=True)]

    def _named(self, classes: Sequence[int], probabilities: Sequence[float]) -> list[Answer]:
        return [self.answer(number, probability) for number, probability in zip(classes, probabilities, strict=True)]

    def _sets(self, probabilities_BC: Tensor, ranking_BK: Tensor) -> list[list[Answer]]:
        """Return the prediction set of each image, the most probable first; at least the best class."""
        assert self.calibration is not None
        assert self.wanted.coverage is not None
        chosen_BC = self.calibration.prediction_sets(
            probabilities_BC, self.wanted.coverage, adjusted=self.wanted.adjusted
        )
        chosen_BC.scatter_(1, ranking_BK[:, :1], True)
        answers = []
        for probabilities_C, chosen_C in zip(probabilities_BC, chosen_BC, strict=True):
            classes = chosen_C.nonzero()[:, 0]
            order = torch.argsort(probabilities_C[classes], descending=True, stable=True)
            classes = classes[order]
            answers.append(self._named(classes.tolist(), probabilities_C[classes].tolist()))
        return answers

    def _groups(self, probabilities_BC: Tensor) -> list[list[Answer]]:
        """Return the best groups of the rank that is asked for."""
        rank = str(self.wanted.rank)
        nodes, sums_BM = self._taxonomy.nodes_of(rank), self._taxonomy.sums(probabilities_BC)[rank]
        best_BK = top_classes(sums_BM.float(), min(self.wanted.top, len(nodes)))
        chosen = sums_BM.gather(1, best_BK)
        return [
            [self._group(nodes[place], value) for place, value in zip(places, values, strict=True) if value > 0]
            for places, values in zip(best_BK.tolist(), chosen.tolist(), strict=True)
        ]

    def _group(self, node: Node, probability: float) -> Answer:
        images = sum(self.signature.train_counts[place] for place in node.classes)
        return Answer(None, node.name, probability, images, None, dict(node.path))

    def _taxon(self, probabilities_C: Tensor, best: int) -> Taxon | None:
        """Return the finest of the best class and its groups that is sure enough.

        A class is by its threshold, found on calibration images; a group by the sum of its classes' probabilities.
        """
        probability = float(probabilities_C[best])
        if self._threshold is not None and probability >= self._threshold:
            return Taxon("class", self.signature.classes[best].name, probability)
        wanted = self.wanted.min_precision or PRECISION_OF_GROUPS
        found = self._taxonomy.finest(probabilities_C, wanted)
        if found is None or found.node.rank is None:
            return None if found is None else Taxon("class", found.node.name, found.probability)
        return Taxon(found.node.rank, found.node.name, found.probability)

    def _status(self, best: float, taxon: Taxon | None) -> Status:
        if self.wanted.rank == AUTO:
            return "ok" if taxon is not None else "not sure"
        if self.wanted.min_precision is None:
            return "ok"
        return "ok" if self._threshold is not None and best >= self._threshold else "not sure"

    def _unlikeness(self, scored: Scored) -> list[Unlikeness | None]:
        if not self.wanted.novelty:
            return [None] * len(scored.places)
        assert self.calibration is not None
        found = self.calibration.novelty(scored.features_BD, scored.scores_BC)
        rows = zip(found.energy_share_N.tolist(), found.distance_share_N.tolist(), strict=True)
        return [Unlikeness(*row) for row in rows]
