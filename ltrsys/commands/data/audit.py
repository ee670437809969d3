"""What a run was trained on, put together from the records of all its attempts and ranks.

Each start of the run is an attempt. A later attempt trains again what followed the checkpoint that it went on from. So
the effective steps of an attempt end at that checkpoint; for the last attempt, at the newest one on disk. Over the
effective steps of all attempts every position must occur exactly once, with the sample of the plan, or with the one
that replaced it where that is in quarantine.

Records are on disk before the checkpoint of their step is. What a kill left of those after it says nothing.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltrsys import __version__
from ltrsys.config.reading import load_run_config
from ltrsys.config.schema import Config
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.plan.planner import VERSION as PLAN_VERSION
from ltrsys.data.plan.planner import Planner
from ltrsys.data.reading.opening import open_dataset
from ltrsys.data.reading.quarantine import quarantined, replacements
from ltrsys.errors import DataError
from ltrsys.files import read_json
from ltrsys.first_stage.resuming import check_same_experiment
from ltrsys.first_stage.starting import planner_of_training
from ltrsys.runs.audit_log import attempt_folders, row_type
from ltrsys.runs.folder import RunFolder
from ltrsys.training.checkpoints.folder import CheckpointFolder

SHOWN = 5
"""Findings that are told one by one."""


@dataclass(frozen=True)
class Attempt:
    """One start of the run."""

    number: int
    first_step: int
    """Steps that were done before it."""
    last_step: int
    """The last of its effective steps."""
    world_size: int


@dataclass(frozen=True)
class AuditReport:
    """What the records say."""

    attempts: list[Attempt]
    steps: int
    """Effective steps: those of the last checkpoint, or all where only the trained model is left."""
    samples: int
    """Samples that were trained on in these."""
    retrained_steps: int
    """Steps that were trained and then trained again, since no checkpoint held them."""
    unsaved_steps: int
    """Steps of the last attempt that no checkpoint holds: they would be trained again."""
    replaced: int
    """Of the samples, those that replaced a bad one, as `quarantine.jsonl` explains."""
    findings: list[str]
    """What is wrong, in words; empty where nothing is."""

    @property
    def complete(self) -> bool:
        """Whether every position up to the last step was trained on once, with the plan's sample or its replacement."""
        return not self.findings


def audit_run(path: Path) -> AuditReport:
    """Check the records of the run in `path` against its plan.

    Raises:
        UsageError: Where `path` is not a run folder, or its config names other shards than it was trained on.
        DataError: Where it has no records, or they or its checkpoints cannot be read.
    """
    run = RunFolder(path)
    config = load_run_config(run)
    folders = attempt_folders(run.audit)
    if not folders:
        raise DataError(f"{run.audit}: there are no records of a training here.")
    dataset = open_dataset(config.data)
    planner = planner_of_training(config, dataset.split("train"))
    batch_size = config.train.batch_size
    steps_per_epoch = planner.samples_per_epoch // batch_size
    # Before the records: those of its steps are on disk, also while the run goes on.
    last_saved = _last_saved_step(run, config, dataset, steps_per_epoch)
    facts = [_read_facts(folder) for folder in folders]
    first_steps = [fact["first_step"] for fact in facts]
    attempts: list[Attempt] = []
    parts: list[tuple[NDArray[np.int64], ...]] = []
    discarded: list[int] = []
    for i, (folder, fact, first) in enumerate(zip(folders, facts, first_steps, strict=True)):
        rows = _read_rows(folder, fact)
        last_logged = int(rows["step"].max(initial=first))
        last = min([last_logged, last_saved, *first_steps[i + 1 :]])
        effective = rows[(first < rows["step"]) & (rows["step"] <= last)]
        discarded.append(max(0, last_logged - max(last, first)))
        parts.append((effective["step"], effective["epoch"], effective["positions"], effective["samples"]))
        attempts.append(Attempt(i + 1, first, last, fact["world_size"]))
    steps, epochs, positions, samples = _one_entry_a_sample(parts)
    right = (steps - 1) // steps_per_epoch == epochs
    right &= positions // batch_size == (steps - 1) % steps_per_epoch
    findings = [f"step {step}: has positions of another step or epoch" for step in np.unique(steps[~right])[:SHOWN]]
    epochs, positions, samples = epochs[right], positions[right], samples[right]
    findings += _missed_and_repeated(last_saved, batch_size, steps_per_epoch, epochs, positions)
    bad = quarantined(run.quarantine, planner.split)
    replaced, unexplained = _compare_with_plan(planner, bad, epochs, positions, samples)
    findings += unexplained
    return AuditReport(
        attempts=attempts,
        steps=last_saved,
        samples=len(steps),
        retrained_steps=sum(discarded[:-1]),
        unsaved_steps=discarded[-1],
        replaced=replaced,
        findings=findings,
    )


def _last_saved_step(run: RunFolder, config: Config, dataset: Dataset, steps_per_epoch: int) -> int:
    """Return the step of the newest checkpoint, or the last of the run where only the trained model is left."""
    found = CheckpointFolder(run.checkpoints, kept=1).newest()
    if found is not None:
        path, checkpoint = found
        check_same_experiment(checkpoint.progress, config, dataset.fingerprint, path)
        return checkpoint.progress.step
    return steps_per_epoch * config.train.epochs if run.model.exists() else 0


def _missed_and_repeated(
    last_saved: int, batch_size: int, steps_per_epoch: int, epochs: NDArray[np.int64], positions: NDArray[np.int64]
) -> list[str]:
    """Tell which positions of the steps up to the last are not there once."""
    findings = []
    for epoch in range(-(-last_saved // steps_per_epoch)):
        own = epochs == epoch
        expected = min(steps_per_epoch, last_saved - epoch * steps_per_epoch) * batch_size
        times = np.bincount(positions[own], minlength=expected)
        for found, word in ((times[:expected] == 0, "missed"), (times > 1, "seen more than once")):
            if found.any():
                at = np.flatnonzero(found)
                findings.append(f"epoch {epoch + 1}: {len(at)} positions {word}, the first of them {at[0]}")
    return findings


def _compare_with_plan(
    planner: Planner,
    bad: set[int],
    epochs: NDArray[np.int64],
    positions: NDArray[np.int64],
    samples: NDArray[np.int64],
) -> tuple[int, list[str]]:
    """Count the replacements of bad samples, and tell what else is not the plan's."""
    replaced, findings = 0, []
    for epoch in np.unique(epochs).tolist():
        own = epochs == epoch
        planned = planner.epoch(epoch).samples(positions[own])
        differ = np.flatnonzero(planned != samples[own])
        rows = zip(*(values[differ].tolist() for values in (planned, samples[own], positions[own])), strict=True)
        unexplained = [row[2] for row in rows if not _is_replacement(planner, bad, epoch, *row)]
        replaced += len(differ) - len(unexplained)
        if unexplained:
            findings.append(
                f"epoch {epoch + 1}: {len(unexplained)} positions hold another sample than the plan's: "
                f"{min(unexplained)}"
            )
    return replaced, findings


def _is_replacement(planner: Planner, bad: set[int], epoch: int, planned: int, found: int, position: int) -> bool:
    """Whether the found sample is the replacement of a bad one: of its candidates, the first that is not bad too."""
    if planned not in bad:
        return False
    for candidate in replacements(planner.split, planned, seed=planner.seed, epoch=epoch, position=position):
        if candidate == found:
            return True
        if candidate not in bad:
            return False
    return False


def _read_facts(folder: Path) -> dict[str, int]:
    """Return what an attempt noted of itself when it began."""
    facts = read_json(folder / "attempt.json", "record of an attempt")
    needed = ("first_step", "world_size", "micro_batch_size")
    if not isinstance(facts, dict) or not all(isinstance(facts.get(key), int) for key in needed):
        raise DataError(f"{folder}: attempt.json is not of this version: {json.dumps(facts)[:80]}.")
    if (plan := facts.get("plan", 1)) != PLAN_VERSION:
        raise DataError(
            f"{folder}: was trained with version {plan} of the plan, and ltrsys {__version__} makes version "
            f"{PLAN_VERSION}: it cannot compare them. Audit the run with the version of ltrsys that trained it."
        )
    return facts


def _read_rows(folder: Path, facts: dict[str, int]) -> NDArray[np.void]:
    """Return all ranks' rows of one attempt; a row that a kill left half-written is left out."""
    row = row_type(facts["micro_batch_size"])
    ranks = [path.read_bytes() for path in sorted(folder.glob("rank-*.rows"))]
    return np.concatenate(
        [np.zeros(0, row), *(np.frombuffer(rows[: len(rows) // row.itemsize * row.itemsize], row) for rows in ranks)]
    )


def _one_entry_a_sample(parts: list[tuple[NDArray[np.int64], ...]]) -> tuple[NDArray[np.int64], ...]:
    """Lay the micro-batches of all attempts end to end, one entry a sample: steps, epochs, positions, samples."""
    columns: list[list[NDArray[np.int64]]] = [[], [], [], []]
    for step, epoch, positions, samples in parts:
        size = positions.shape[1]
        for column, values in zip(columns, (step.repeat(size), epoch.repeat(size), positions, samples), strict=True):
            column.append(values.reshape(-1).astype(np.int64))
    steps, epochs, positions, samples = (np.concatenate(column) for column in columns)
    return steps, epochs, positions, samples
