"""What the page is made of, as JSON: its script reads these very values.

C classes, T values of tau, K classifiers of a run.
"""

import base64
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, SerializeAsAny

Kind = Literal["uint8", "uint16", "uint32", "float32"]


class Part(BaseModel):
    """Any part of the page; a panel that needs nothing of its own has this one."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Packed(Part):
    """An array: a fifth of what it would take as JSON, and read by the browser without parsing numbers."""

    kind: Kind
    shape: list[int]
    data: str
    """Base64 of its little-endian bytes, in C order."""


class Classes(Part):
    """The classes of a dataset."""

    names: list[str]
    lineages: list[str]
    """Different texts: the groups that classes belong to, from the widest to the narrowest."""
    lineage_of_class: Packed
    """Place in `lineages`, [C]."""


class ClassifierPart(Part):
    """One classifier of a run."""

    name: str
    label: str
    color: str
    marker: str
    """matplotlib's name of it."""
    parameters: str
    correct: Packed
    """Images of each class that it recognises, [C]."""


class Cell(Part):
    """A cell of the table of results."""

    text: str
    best: bool = False
    interval: str | None = None
    """Its 95 % interval, in words."""


class ResultRow(Part):
    """A line of the table of results."""

    label: str
    parameters: str
    cells: list[Cell]
    p_value: str


class RunPart(Part):
    """One run."""

    label: str
    """Its name; with its folder, where two runs have one name."""
    dataset: str
    split: str
    summary: list[str]
    """What the table is of, in sentences."""
    columns: list[str]
    rows: list[ResultRow]
    classes: int
    """Place in `Page.classes`."""
    many: int
    """Many-shot classes have more training images."""
    few: int
    """Few-shot classes have fewer training images."""
    shots: Packed
    """Of each class: 0 for many, 1 for medium and 2 for few, [C]."""
    train_images: Packed
    images: Packed
    """Images of each class in the split, [C]."""
    classifiers: list[ClassifierPart]
    panels: dict[str, SerializeAsAny[Part] | None]
    """The data of each panel, by its name; None where the run has none for it."""


class PanelPart(Part):
    """What is told of a panel."""

    name: str
    title: str
    explanation: str
    missing: str


class Page(Part):
    """The whole page."""

    title: str
    version: str
    """Of ltrsys."""
    made_on: str
    """A date."""
    panels: list[PanelPart]
    classes: list[Classes]
    """Of all runs; those of the same classes share them."""
    runs: list[RunPart]


def packed(values: NDArray[Any], kind: Kind | None = None) -> Packed:
    """Pack an array; whole numbers, none negative, in as few bytes as they fit into unless `kind` is given."""
    if kind is None:
        largest = int(values.max(initial=0))
        kind = "uint8" if largest < 2**8 else "uint16" if largest < 2**16 else "uint32"
    plain = np.ascontiguousarray(values, dtype=np.dtype(kind).newbyteorder("<"))
    return Packed(kind=kind, shape=list(values.shape), data=base64.b64encode(plain.tobytes()).decode())
