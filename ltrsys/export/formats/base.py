"""What an exporter is: it writes a model in one format, and runs what it wrote as its users will.

N images, C classes, S their side in pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar

from ltrsys.errors import UsageError
from ltrsys.export.subject import Precision, Runner, Subject
from ltrsys.registry import Method, Registry

if TYPE_CHECKING:
    from pathlib import Path

    from ltrsys.prediction.loading import LoadedModel


class Exporter(Method, ABC):
    """A format."""

    precisions: ClassVar[tuple[Precision, ...]] = ("float32",)
    """In which a model can be written."""
    takes_bytes: ClassVar[bool] = True
    """Whether its models may take pixels of 0 to 255 and normalise them themselves."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Modules that it imports, which are not among what ltrsys always installs."""

    @classmethod
    def check(cls, model: LoadedModel) -> None:
        """Refuse a model that this format cannot hold; called before all work.

        Raises:
            UsageError: Says why, and which formats can.
        """
        return

    @classmethod
    @abstractmethod
    def write(cls, subject: Subject, folder: Path) -> None:
        """Write the model's files into a folder; what its inputs and outputs mean goes into them.

        Raises:
            UsageError: Where the format cannot hold this model, which only writing it showed.
        """

    @classmethod
    @abstractmethod
    def open(cls, folder: Path) -> Runner:
        """Load what `write` wrote, as its users will, and return what runs it."""

    @classmethod
    @abstractmethod
    def loading_code(cls, subject: Subject) -> str:
        """Return Python for the model card, run in the folder: it defines `probabilities_of`.

        That is a function of images as the exported model takes them, a NumPy array [N, 3, S, S], which returns
        one, float32 [N, C].
        """


EXPORTERS: Registry[type[Exporter]] = Registry("exporter", "ltrsys.export.formats")


def require(exporter: type[Exporter], precision: Precision, *, takes_bytes: bool) -> None:
    """Refuse what a format has not, or lacks the modules for.

    Raises:
        UsageError: Says which format has it, or how to install them.
    """
    if precision not in exporter.precisions:
        able = [other.name for other in EXPORTERS if precision in other.precisions]
        raise UsageError(f"--{precision}: format {exporter.name} has none. Use --format {' or '.join(able)}.")
    if takes_bytes and not exporter.takes_bytes:
        able = [other.name for other in EXPORTERS if other.takes_bytes]
        raise UsageError(
            f"--uint8: a model of format {exporter.name} takes normalised images. Use --format {' or '.join(able)}."
        )
    if missing := [name for name in exporter.needs if find_spec(name) is None]:
        raise UsageError(
            f"--format {exporter.name} needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not "
            "installed: pip install 'ltrsys[export]'."
        )
