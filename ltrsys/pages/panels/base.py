"""What a panel of the page is."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ltrsys.errors import UsageError
from ltrsys.registry import Method, Registry

if TYPE_CHECKING:
    from ltrsys.evaluation.balanced_run import BalancedRun
    from ltrsys.pages.model import Part
    from ltrsys.pages.thumbnails import Thumbnails


@dataclass(frozen=True)
class Material:
    """What a panel is made of."""

    run: BalancedRun
    thumbnails: Thumbnails
    """Of the whole page."""


class Panel(Method, ABC):
    """A section of the page. Its script stands beside its Python file, with the suffix `.js`.

    The script calls `ltrsys.panel(name, (body, data, run) => { ... })`: the function fills the element `body` for a
    run of `ltrsys.pages.model.RunPart`, `data` being what `data` returned for it.
    """

    title: ClassVar[str]
    """Its heading."""
    explanation: ClassVar[str]
    """What is to be seen, in a few sentences for someone who has not trained the run."""
    missing: ClassVar[str] = "This run has nothing to show here."
    """What stands in its place for a run that `data` returns None for."""

    @classmethod
    @abstractmethod
    def data(cls, material: Material) -> Part | None:
        """Return what its script needs beside what every run has; None where it does not apply to a run.

        Raises:
            DataError: Where files of the run are damaged.
        """

    @classmethod
    def script(cls) -> str:
        """Return the text of its script.

        Raises:
            UsageError: Where there is none.
        """
        path = Path(inspect.getfile(cls)).with_suffix(".js")
        try:
            return path.read_text(encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"{path}: the script of the panel {cls.name} cannot be read ({error.strerror}). Put it there."
            ) from None


PANELS: Registry[type[Panel]] = Registry("panel", "ltrsys.pages.panels")
