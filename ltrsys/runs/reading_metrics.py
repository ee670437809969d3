"""Reading `metrics.jsonl` back."""

import json
import math
from collections.abc import Iterator
from pathlib import Path


def read_metrics(path: Path) -> Iterator[dict[str, float | None]]:
    """Yield the numbers of each line, null and what is not finite as None; nothing where there is no file.

    A line that a killed process left half-written is passed over.
    """
    try:
        file = open(path, encoding="utf-8", errors="replace")  # noqa: SIM115 (closed by `with`)
    except FileNotFoundError:
        return
    with file:
        for line in file:
            try:
                values = json.loads(line)
            except ValueError:
                continue
            if isinstance(values, dict):
                yield {
                    str(name): value if value is None or math.isfinite(value) else None
                    for name, value in values.items()
                    if value is None or (isinstance(value, int | float) and not isinstance(value, bool))
                }
