"""The section `balance`."""

from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from ltrsys.classifiers.base import CLASSIFIERS
from ltrsys.method_section import EachOf
from ltrsys.metrics.config import SelectBy
from ltrsys.registry import nearest
from ltrsys.second_stage.grids import Grid, combinations, with_values
from ltrsys.section import Count, Section

_FINE = [0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.07]
_TILTS = sorted([*(round(0.1 * step, 1) for step in range(-10, 21)), *_FINE, *(-t for t in _FINE)])


class BalanceConfig(Section):
    """The second stage: classifiers on the frozen backbone. Each classifier with settings has a section of its name."""

    classifiers: list[str] = Field(default=["joint", "ncm", "crt", "tau", "lws"], min_length=1)
    feature_batch_size: Count = 256
    """Images that go through the backbone at once while the feature bank is made."""
    select_by: SelectBy = "mean_class_accuracy"
    """What is chosen on val, such as tau, is the best by this: the mean over the classes of their accuracies, or the
    accuracy over all images, which a val split with the frequencies of the training images gives to the frequent
    classes. On a balanced split they are one."""
    tilt_grid: list[float] = Field(default=_TILTS)
    """The t of the curve of each classifier whose scores are tilted by -t log pi; empty for no curve. By default in
    steps of 0.1, and in finer ones near 0, for classifiers such as NCM, whose scores differ by hundredths."""
    calibrate: bool = True
    """Fit for each classifier how sure its answers are: temperature, thresholds, prediction sets, novelty."""
    select: bool = False
    """Choose the settings of each classifier among those of its grid, in place of taking those of its section: the best
    on val by `select_by`; where there is no val split, of the best mean class accuracy on train by cross-validation."""
    grids: dict[str, dict[str, list[Any]]] = Field(default={})
    """What is tried of a classifier in place of its own grid: the values of each setting; `{}` to try nothing."""
    val_is_test: bool = False
    """Let tau be chosen on the test split where there is no other val (as the paper did on iNaturalist)."""
    bn: Literal["eval", "recalibrate"] = "eval"
    """BatchNorm of the frozen backbone: its running statistics, or statistics measured again on a
    class-balanced pass before the bank is made (what the paper's code drifts to)."""

    @field_validator("classifiers")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        for name in names:
            if name not in CLASSIFIERS:
                hint = nearest(name, CLASSIFIERS.names()).rstrip(".")
                raise PydanticCustomError(
                    "unknown_method", "`{name}`: unknown classifier. {hint}", {"name": name, "hint": hint}
                )
        return names

    @model_validator(mode="after")
    def _grids_fit(self) -> Self:
        for name, grid in self.grids.items():
            if name not in CLASSIFIERS:
                raise ValueError(f"grids: `{name}`: unknown classifier. {nearest(name, CLASSIFIERS.names())}")
            if empty := [key for key, values in grid.items() if not values]:
                raise ValueError(f"grids.{name}.{empty[0]}: give it a value at least")
            for values in combinations(grid):
                try:
                    with_values(self.of(name), values)
                except ValidationError as error:
                    said = error.errors()[0]
                    key = ".".join(map(str, said["loc"]))
                    raise ValueError(f"grids.{name}.{key}: {said['msg']}") from None
        return self

    def grid_of(self, classifier: str) -> Grid:
        """Return the settings of a classifier that are tried, the values of each; empty where nothing is chosen."""
        method = CLASSIFIERS.get(classifier)
        return self.grids.get(classifier, method.grid) if self.select or method.always_selects else {}

    def of(self, classifier: str) -> Section:
        """Return the settings of a classifier."""
        section = getattr(self, classifier, None)
        return section if isinstance(section, Section) else CLASSIFIERS.get(classifier).Config()


BALANCE: EachOf[BalanceConfig] = EachOf(CLASSIFIERS, BalanceConfig)
