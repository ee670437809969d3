"""`trackers.json`: by which ids trackers know a run, so that training and every balancing go on in the same one."""

import json
import logging
from collections.abc import Mapping

from ltrsys.files import write_json
from ltrsys.runs.folder import RunFolder

log = logging.getLogger("ltrsys")


def read_tracker_ids(run: RunFolder) -> dict[str, str]:
    """Return the trackers' own ids of a run, by the tracker's name; none for a run of ltrsys 0.2.0.

    A damaged file is a warning: the trackers begin anew, and nothing else depends on it.
    """
    try:
        ids = json.loads(run.trackers.read_text(encoding="utf-8"))["run_ids"]
        return {str(name): str(run_id) for name, run_id in ids.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError):
        log.warning("%s: damaged. Trackers such as wandb begin a new run for this folder.", run.trackers)
        return {}


def write_tracker_ids(run: RunFolder, ids: Mapping[str, str]) -> None:
    """Write `trackers.json`, unless it says the same."""
    if ids and (not run.trackers.exists() or read_tracker_ids(run) != ids):
        write_json(run.trackers, {"run_ids": dict(ids)})
