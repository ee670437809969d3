"""What trackers are given of a balancing: its numbers, plots and tables, and the files that it has made."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ltrsys.classifiers.base import Classifier
from ltrsys.config.schema import Config
from ltrsys.data.index.dataset import Dataset
from ltrsys.errors import LtrsysError
from ltrsys.evaluation.results import Results, columns_of
from ltrsys.evaluation.split import EvaluatedSplit
from ltrsys.reporting.balance_report import BalanceReport, read_per_class
from ltrsys.reporting.predictions import prediction_table
from ltrsys.runs.artifacts import (
    classifiers_artifact,
    dataset_artifact,
    model_artifact,
    report_artifact,
    results_artifact,
)
from ltrsys.runs.folder import RunFolder
from ltrsys.runs.metric_names import result_key
from ltrsys.runs.tracking import MetricsLog
from ltrsys.second_stage.store import classifier_path
from ltrsys.training.checkpoints.folder import tracking_runs_of
from ltrsys.world import World

log = logging.getLogger("ltrsys")


def track_balancing(
    run: RunFolder,
    config: Config,
    dataset: Dataset,
    reported: EvaluatedSplit,
    classifiers: Sequence[Classifier[Any]],
    report: BalanceReport,
    results: Path,
) -> None:
    """Log a balancing into the run that the training was logged into.

    Args:
        run: The run.
        config: Its config, as changed for the balancing.
        dataset: The images.
        reported: The reported split, as evaluated.
        classifiers: Those of the results.
        report: The report, whose files are written.
        results: The file of the results.
    """
    tracker = MetricsLog(run, config, World(), name="balance", run_ids=tracking_runs_of(run.checkpoints))
    try:
        tracker.rewind()
        step = tracker.log_results(_numbers(report.results))
        if tracker.tracked:
            tracker.log_images(step, {f"balance/{name}": path for name, path in report.plots.items()})
            tracker.log_table("balance/per_class", *read_per_class(report.per_class))
            try:
                tracker.log_table("balance/predictions", *prediction_table(dataset, reported, classifiers, config.seed))
            except LtrsysError as error:  # the shards may have gone since the bank was made
                log.warning("No table of predictions, whose images cannot be read: %s", error)
            files = {one.name: classifier_path(run.classifiers, one.name) for one in classifiers}
            images = dataset_artifact(run, dataset)
            for artifact in (
                images,
                model_artifact(run, {}, images),
                classifiers_artifact(run, files),
                results_artifact(run, results, report.per_class, _numbers(report.results)),
                report_artifact(run),
            ):
                tracker.log_artifact(artifact)
    except BaseException:
        tracker.note_failure(1)
        raise
    finally:
        tracker.close()


def _numbers(results: Results) -> dict[str, float | None]:
    return {
        result_key(results.split, line.classifier, column): value
        for line in results.results
        for column, value in columns_of(line).items()
    }
