"""Artifacts as wandb keeps them: names that it takes, and files that stay as they are until they are sent."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

from ltrsys.files import write_with
from ltrsys.runs.folder import RunFolder
from ltrsys.runs.tracker_ids import read_tracker_ids
from ltrsys.runs.trackers.base import Artifact, TrackedJob

NAME_LENGTH = 128
"""Longest name of an artifact."""
FILES_ENVIRONMENT = "WANDB_DATA_DIR"
"""Where wandb keeps what is still to be sent of artifacts; by default below the home folder."""
WEIGHTS = ".safetensors"


def files_below(folder: Path) -> str | None:
    """Have wandb keep what is to be sent below `folder`, unless the user says where; return what was said before.

    An offline run is then all in its run folder.
    """
    before = os.environ.get(FILES_ENVIRONMENT)
    if before is None:
        os.environ[FILES_ENVIRONMENT] = str((folder / "data").absolute())
    return before


def restore(before: str | None) -> None:
    """Have wandb keep files where it did before `files_below`, which returned `before`: another run may follow."""
    if before is None:
        os.environ.pop(FILES_ENVIRONMENT, None)
    else:
        os.environ[FILES_ENVIRONMENT] = before


def wandb_artifact(artifact: Artifact, job: TrackedJob, run_id: str) -> Any:
    """Return wandb's own artifact, ready to be logged.

    Args:
        artifact: The files.
        job: Of the run that logs it.
        run_id: wandb's id of that run.
    """
    import wandb

    metadata = {**artifact.metadata, "uses": list(artifact.uses)}
    own_name = artifact_name(artifact, job.folder, run_id)
    made = wandb.Artifact(own_name, type=artifact.kind, metadata=metadata)
    for name, path in artifact.files.items():
        if job.files == "references" and path.suffix == WEIGHTS:
            made.add_reference(path.absolute().as_uri(), name=name)
        else:
            kept = _kept(path, job.folder / "wandb" / "artifacts" / own_name)
            made.add_file(str(kept), name=name, policy="immutable", skip_cache=True)
    return made


def artifact_name(artifact: Artifact, folder: Path, run_id: str) -> str:
    """Return a name that wandb takes; what a run has made is told from that of other runs by the run's id."""
    name = artifact.name
    if artifact.made_by is not None:
        theirs = (
            run_id if not artifact.is_input_of(folder) else read_tracker_ids(RunFolder(artifact.made_by)).get("wandb")
        )
        name = f"{name}-{theirs or artifact.made_by.absolute().name}"
    return re.sub(r"[^A-Za-z0-9_.-]", "-", name)[-NAME_LENGTH:].lstrip(".") or artifact.kind


def _kept(path: Path, folder: Path) -> Path:
    """Return the file under a place where it stays as it is: wandb may read it only days later, on `wandb sync`.

    It is another link to the same bytes, since ltrsys never writes into a file that is there but puts another in its
    place; a copy where the file system has no such links.
    """
    state = path.stat()
    kept = folder / f"{state.st_mtime_ns}-{state.st_size}" / path.name
    kept.parent.mkdir(parents=True, exist_ok=True)
    if not kept.exists():
        try:
            os.link(path, kept)
        except OSError:
            write_with(kept, lambda beside: shutil.copyfile(path, beside))
    return kept.absolute()
