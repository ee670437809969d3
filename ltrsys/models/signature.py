"""What a model takes and what its outputs mean. It travels with the weights, so that nobody has to guess it.

It lies as JSON in the metadata of a safetensors file, under `ltrsys.signature`, with its SHA-256 beside it.
"""

import hashlib
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ltrsys.data.config import DataConfig, Interpolation
from ltrsys.data.index.difference import difference_of_classes
from ltrsys.data.index.records import ClassRecord, DatasetRecord
from ltrsys.errors import DataError, first_problem
from ltrsys.models.stored.weights import metadata_of

KEY, DIGEST_KEY = "ltrsys.signature", "ltrsys.signature.sha256"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Preprocessing(_Record):
    """What is done to an upright RGB image before the network sees it, in this order.

    Resizing is with antialiasing, as torchvision's; the crop is that of the centre.
    """

    reduced_to: int | None
    """Pixels that the short side was reduced to before the image was stored as a JPEG, if it was longer; None where
    images were stored in their own size."""
    resize: int
    """Pixels of the short side, to which the image is resized."""
    image_size: int
    """Side of the square that is cropped, in pixels."""
    mean: tuple[float, float, float]
    """Subtracted from the channels, on a scale of 0 to 1."""
    std: tuple[float, float, float]
    """The channels are then divided by this."""
    interpolation: Interpolation = Field(default="bilinear", exclude_if=lambda value: value == "bilinear")
    """How it is resized. Not written where it is bilinear: it was always that before it could be chosen."""


class Signature(_Record):
    """Inputs and outputs of a model: C classes, in the order of its outputs."""

    format: Literal[1] = 1
    classes: list[ClassRecord]
    """Names and taxonomy, [C]."""
    train_counts: list[int]
    """Training images of each class, [C]."""
    preprocessing: Preprocessing

    @classmethod
    def of(cls, record: DatasetRecord, config: DataConfig) -> Self:
        """Return that of a model which is trained on a dataset as the section `data` says."""
        train = record.splits.get("train")
        return cls(
            classes=record.classes,
            train_counts=[0] * len(record.classes) if train is None else train.class_counts,
            preprocessing=Preprocessing(
                reduced_to=record.resize,
                resize=config.resize,
                image_size=config.image_size,
                mean=tuple(config.mean),
                std=tuple(config.std),
                interpolation=config.interpolation,
            ),
        )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.classes) != len(self.train_counts):
            raise ValueError(f"{len(self.classes)} classes and {len(self.train_counts)} counts of training images")
        return self

    @property
    def sha256(self) -> str:
        """SHA-256 of all of it."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def metadata(self) -> dict[str, str]:
        """Return what is written into a safetensors file beside the tensors."""
        return {KEY: self.model_dump_json(), DIGEST_KEY: self.sha256}

    def difference(self, other: Self) -> str | None:
        """Say what makes a model of this signature answer otherwise than one of the other; None if nothing does.

        Numbers of training images do not: they say how a model came to be. Nor do classes that are called otherwise
        now, where their source's id says that they are the same.
        """
        told = [*difference_of_classes(self.classes, other.classes).classes]
        pairs = zip(self.classes, other.classes, strict=False)
        renamed = [(one.name, two.name) for one, two in pairs if one.name != two.name and one.source_id is None]
        if renamed and not told:
            told = [f"a class is called {renamed[0][0]} here and {renamed[0][1]} there"]
        for name in Preprocessing.model_fields:
            here, there = getattr(self.preprocessing, name), getattr(other.preprocessing, name)
            if here != there:
                told.append(f"{name} is {here} here and {there} there")
        return "; ".join(told) or None


def signature_in(path: Path) -> Signature | None:
    """Return the signature in a safetensors file; None where it holds none, as those of ltrsys 0.2.0 and earlier.

    Raises:
        DataError: Where the file, or the signature in it, is damaged.
    """
    metadata = metadata_of(path)
    if KEY not in metadata:
        return None
    try:
        signature = Signature.model_validate_json(metadata[KEY])
    except ValidationError as error:
        raise DataError(
            f"{path}: its names of the classes cannot be read ({first_problem(error)}): the file is damaged, or of a "
            "later version of ltrsys. Copy it again, or use that version."
        ) from None
    if signature.sha256 != metadata.get(DIGEST_KEY):
        raise DataError(
            f"{path}: its names of the classes are not those that it was written with (their SHA-256 differs). Copy "
            "the file again."
        )
    return signature
