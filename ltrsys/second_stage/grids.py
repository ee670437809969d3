"""The settings of a classifier that are tried, and those that were chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, Literal

from ltrsys.classifiers.base import CLASSIFIERS, SelectedOn
from ltrsys.section import Section

Grid = Mapping[str, Sequence[Any]]
"""The values that are tried of each setting."""


@dataclass(frozen=True)
class Choice:
    """Settings that were chosen among others."""

    values: dict[str, Any]
    on: Literal["val", "train"]
    val_is_test: bool = False
    """Whether that val split is the one that results are reported on."""

    def params(self) -> dict[str, Any]:
        """Return what `results.json` says of it."""
        chosen = {"chosen": self.values, "chosen_on": self.on}
        return chosen | ({"val_is_test": True} if self.val_is_test else {})

    def record(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)

    def applied(self, section: Section) -> Section:
        """Return a section with these settings."""
        return with_values(section, self.values)


def with_values(section: Section, values: Mapping[str, Any]) -> Section:
    """Return a section with other values of some of its keys.

    Raises:
        ValidationError: Where it has no such key, or the value does not fit.
    """
    return type(section).model_validate({**section.model_dump(), **values})


def combinations(grid: Grid) -> list[dict[str, Any]]:
    """Return every combination of a grid's values; those that stand first in it are tried first."""
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def described(classifier: str, params: Mapping[str, Any], selected_on: SelectedOn | None) -> str:
    """Say the settings of a line of the results in a few words, with those that were chosen among others."""
    own = CLASSIFIERS.get(classifier).describe(params, selected_on)
    if "chosen" not in params:
        return own
    named = [key if key in params else f"{key} = {value}" for key, value in params["chosen"].items()]
    warning = ", which is the reported split" if params.get("val_is_test") else ""
    return "; ".join(filter(None, (own, f"{', '.join(named)} chosen on {params['chosen_on']}{warning}")))
