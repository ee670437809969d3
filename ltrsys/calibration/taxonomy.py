"""Probabilities summed up the tree of life, and the finest group that is sure enough.

A node is told by its path from the widest group, not by its name: Prunella is a genus of birds and one of plants. N
images, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ltrsys.data.index.records import ClassRecord
from ltrsys.data.sources.tables.values import NOTHING

Path = tuple[tuple[str, str], ...]
"""Rank and name of each group, from the widest to the node itself."""

_ROUNDING = 1e-9
"""By which a sum of probabilities may be too small: that of all classes is 1 only up to rounding."""


@dataclass(frozen=True)
class Node:
    """A group of classes, or one class."""

    path: Path
    """A class stands at the end of the path of its groups, with an empty rank."""
    classes: tuple[int, ...]
    """What belongs to it, ascending."""

    @property
    def rank(self) -> str | None:
        """Its rank, such as genus; None of a class itself."""
        return self.path[-1][0] or None

    @property
    def name(self) -> str:
        """Its name; of a class, the class's."""
        return self.path[-1][1]


@dataclass(frozen=True)
class Sure:
    """A node that is sure enough."""

    node: Node
    probability: float
    """Of all classes of the node together."""


@dataclass(frozen=True)
class Taxonomy:
    """The tree over the classes."""

    nodes: tuple[Node, ...]
    """All of them: the classes in their order, then the groups."""
    lineages: tuple[tuple[int, ...], ...]
    """Places in `nodes` of each class and its groups, from the class itself to the widest group."""
    ranks: tuple[str, ...]
    """From the widest to the narrowest that any class has."""

    @classmethod
    def of(cls, classes: Sequence[ClassRecord]) -> "Taxonomy":
        """Build it; a rank without a name, or of a name such as "NA", is not known and left out of the path.

        Two classes for which different ranks are known so share a node only down to where their paths part. That is on
        the safe side: the sum is then too small rather than too large.
        """
        members: dict[Path, list[int]] = {}
        paths = [_path(record) for record in classes]
        for class_id, path in enumerate(paths):
            for depth in range(1, len(path) + 1):
                members.setdefault(path[:depth], []).append(class_id)
        leaves = [
            Node((*path, ("", record.name)), (number,))
            for number, (path, record) in enumerate(zip(paths, classes, strict=True))
        ]
        place = {path: len(leaves) + number for number, path in enumerate(members)}
        lineages = [
            (class_id, *(place[path[:depth]] for depth in range(len(path), 0, -1)))
            for class_id, path in enumerate(paths)
        ]
        groups = [Node(path, tuple(ids)) for path, ids in members.items()]
        return cls((*leaves, *groups), tuple(lineages), _ranks(paths))

    @property
    def known(self) -> bool:
        """Whether any class has a group."""
        return len(self.nodes) > len(self.lineages)

    def nodes_of(self, rank: str) -> tuple[Node, ...]:
        """Return the nodes of a rank, in the order of the columns of `sums`."""
        return tuple(node for node in self.nodes if node.rank == rank)

    def sums(self, probabilities_NC: Tensor) -> dict[str, Tensor]:
        """Return for each rank the probabilities of its nodes, [N, nodes], in the order of `nodes_of`.

        A class for which the rank is not known is in none of them, so a row may add up to less than 1.
        """
        sums = {}
        for rank in self.ranks:
            nodes = self.nodes_of(rank)
            column_C = torch.full((len(self.lineages),), len(nodes))  # of none, which is cut off again
            for place, node in enumerate(nodes):
                column_C[list(node.classes)] = place
            sums_NM = probabilities_NC.new_zeros((len(probabilities_NC), len(nodes) + 1))
            sums[rank] = sums_NM.index_add_(1, column_C.to(sums_NM.device), probabilities_NC)[:, :-1]
        return sums

    def finest(self, probabilities_C: Tensor, threshold: float) -> Sure | None:
        """Return the finest of the most probable class and its groups whose probability is at least the threshold.

        None where not even the widest group has it. Of equally probable classes the first is the most probable.
        """
        for place in self.lineages[int(probabilities_C.argmax())]:
            node = self.nodes[place]
            probability = float(probabilities_C[list(node.classes)].sum())
            if probability >= threshold - _ROUNDING:
                return Sure(node, probability)
        return None


def _path(record: ClassRecord) -> Path:
    named = ((rank, name.strip()) for rank, name in record.taxonomy.items())
    return tuple((rank, name) for rank, name in named if name.lower() not in NOTHING)


def _ranks(paths: Sequence[Path]) -> tuple[str, ...]:
    """Merge the orders of the ranks of all paths; one that a longer path lacks stands behind the one above it."""
    merged: list[str] = []
    for path in sorted(set(paths), key=len, reverse=True):
        place = 0
        for rank, _ in path:
            if rank not in merged:
                merged.insert(place, rank)
            place = merged.index(rank) + 1
    return tuple(merged)
