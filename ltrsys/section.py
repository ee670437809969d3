"""What every section of a config is, and the types that sections share."""

from enum import IntEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
DeviceName = Literal["auto", "cuda", "cpu"]


class MayChange(IntEnum):
    """Until when a key of the config may change; stands in the annotation of its field. Others never may."""

    ON_RESUME = 1
    """A run that goes on may have another value: its result stays the same."""
    AFTER_TRAINING = 2
    """The second stage may have another value too."""


class Section(BaseModel):
    """A part of the config: every key known, every type exact, nothing changed after loading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)
