"""Whether a run may go on from a checkpoint: the same experiment, the same data, the same order of the samples."""

import logging
from pathlib import Path

from pydantic import ValidationError

from ltrsys import __version__
from ltrsys.config.changes import differences, may_change
from ltrsys.config.schema import Config
from ltrsys.data.index.difference import Difference
from ltrsys.data.plan.planner import VERSION as PLAN_VERSION
from ltrsys.errors import UsageError, first_problem
from ltrsys.section import MayChange
from ltrsys.training.checkpoints.checkpoint import Progress

log = logging.getLogger("ltrsys")


def check_same_experiment(
    progress: Progress, config: Config, dataset: str, path: Path, changes: Difference | None = None
) -> None:
    """Refuse to go on from the checkpoint of another experiment.

    Args:
        progress: Of the checkpoint.
        config: What is asked for now.
        dataset: Fingerprint of the dataset that it names.
        path: The checkpoint.
        changes: How that dataset differs from the run's, where the run knows.

    Raises:
        UsageError: Names the first key, or the dataset or the file of class weights, that differs.
    """
    without_meaning = {"data.shuffle_window"} if progress.plan == 1 else set()
    if _before_select_by(progress):
        without_meaning.add("train.select_by")
    for key, then, now in differences(_stored_config(progress, config, path), config, MayChange.ON_RESUME):
        if key not in without_meaning:
            raise UsageError(
                f"{path}: this run was begun with {key}={then}, but the config now says {now}. Put it back, or choose "
                "another name for the new run."
            )
    started_from = progress.config.get("train", {}).get("from_run")
    if (started_from is None) != (config.train.from_run is None):  # where that run is now, nobody needs to know
        raise UsageError(
            f"{path}: this run was begun with train.from_run={started_from}, but the config now says "
            f"{config.train.from_run}. Put it back, or choose another name for the new run."
        )
    if progress.dataset != dataset:
        differs = "their fingerprints differ" if changes is None else changes
        raise UsageError(
            f"{path}: this run was begun on other shards than data.shards={config.data.shards} ({differs}). Give it "
            "the shards it began with, or choose another name for the new run."
        )

    if progress.sampler_weights not in (None, config.data.sampler.digest()):
        raise UsageError(
            f"{path}: this run was begun with other class weights than {config.data.sampler.file} now holds. Put "
            "them back, or choose another name for the new run."
        )


def as_begun(config: Config, progress: Progress, *, told: bool) -> Config:
    """Return the config that the run of a checkpoint goes on with.

    Before `train.select_by` there was, the best checkpoint was chosen by the accuracy over all images: a run of that
    time has such an accuracy to compare with, and goes on so, whatever the config says now.

    Args:
        config: What the run would go on with.
        progress: Of the checkpoint, which `check_same_experiment` has let pass.
        told: Whether a line says where that differs.
    """
    if config.train.select_by == "accuracy" or not _before_select_by(progress):
        return config
    if told:
        log.warning(
            "%s: begun by ltrsys %s, before train.select_by: its best checkpoint goes on to be chosen by accuracy.",
            config.run_folder,
            progress.code,
        )
    return config.model_copy(update={"train": config.train.model_copy(update={"select_by": "accuracy"})})


def _before_select_by(progress: Progress) -> bool:
    return "select_by" not in progress.config.get("train", {})


def _stored_config(progress: Progress, config: Config, path: Path) -> Config:
    """Return the config of the run, with the defaults of keys that did not exist when it was written."""
    # What may change is not compared: there a plug-in that is no longer loaded may have had settings.
    now = config.dump()
    then = {
        key: now[key] if may_change(config, key, MayChange.ON_RESUME) else value
        for key, value in progress.config.items()
    }
    try:
        return Config.model_validate(then)
    except ValidationError as error:
        raise UsageError(
            f"{path}: this run was begun by ltrsys {progress.code} with a config that ltrsys {__version__} does not "
            f"read: {first_problem(error)}. Finish it with ltrsys {progress.code}, or choose another name for the new "
            "run."
        ) from None


def check_same_plan(progress: Progress, path: Path) -> None:
    """Refuse to go on with another order of the samples than the run was begun with.

    Raises:
        UsageError: Names both versions.
    """
    if progress.plan != PLAN_VERSION:
        raise UsageError(
            f"{path}: this run was begun by ltrsys {progress.code} with version {progress.plan} of the plan, and "
            f"ltrsys {__version__} makes version {PLAN_VERSION}: it would go on with other samples. Finish it with "
            f"ltrsys {progress.code}, or choose another name for the new run."
        )
