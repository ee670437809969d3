"""Reading `metrics.jsonl`: the lines of this version and of older ones, by the names of `ltrsys.runs.metric_names`."""

import json
from pathlib import Path
from typing import Any

from ltrsys.runs.metric_names import BALANCING, OLDER_KEYS, STEP, is_result

Line = dict[str, Any]
"""`step` and the numbers that were logged after it; null for what is empty or was not finite."""


def read_metrics(path: Path) -> list[Line]:
    """Return the lines of a run's metrics, in their order; none where there is no such file.

    The half of a line that a killed process left is passed over. Where ltrsys 0.2.0 wrote a balancing, as step 0 and
    without a number, it gets the number and the step that it would have now.
    """
    if not path.exists():
        return []
    lines: list[Line] = []
    balancings = last_step = 0
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        line = _parsed(text)
        if line is None:
            continue
        if any(map(is_result, line)):
            balancings = max(int(line.get(BALANCING.key, 0)), balancings + 1)
            line = {**line, STEP.key: max(line[STEP.key], last_step), BALANCING.key: balancings}
        last_step = max(last_step, line[STEP.key])
        lines.append({OLDER_KEYS.get(key, key): value for key, value in line.items()})
    return lines


def _parsed(text: str) -> Line | None:
    try:
        line = json.loads(text, parse_constant=lambda name: None)
    except ValueError:
        return None
    return line if isinstance(line, dict) and isinstance(line.get(STEP.key), int) else None
