"""What stands in the columns of a table: texts that rows share, and what stands for nothing."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

NOTHING = frozenset({"", "nan", "null", "none", "na", "n/a", "<na>", "\\n"})
"""What programs write, in letters of any case, where nothing is known."""
_MOST_SHARED = 2**20
"""Different texts of a column that are kept in mind; a column with more has hardly one twice."""


def coded(values: "pa.Array") -> tuple[NDArray[np.int64], list[str | None]]:
    """Return each row's place in a list of texts without repetitions, and that list; None where nothing is known."""
    encoded = values.dictionary_encode()
    texts = [_known(text) for text in encoded.dictionary.to_pylist()]
    codes = encoded.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, [*texts, None]


def _known(text: str) -> str | None:
    stripped = text.strip()
    return None if stripped.lower() in NOTHING else stripped


class SharedTexts:
    """Turns columns into arrays of texts, and rows with the same text into ones that share it."""

    def __init__(self) -> None:
        self._shared: dict[str, str] = {}

    def __call__(self, values: "pa.Array") -> NDArray[np.object_]:
        """Return the texts of a column, [rows]; None where nothing is known."""
        codes, texts = coded(values)
        if len(self._shared) < _MOST_SHARED:
            texts = [None if text is None else self._shared.setdefault(text, text) for text in texts]
        return np.array(texts, dtype=np.object_)[codes]
