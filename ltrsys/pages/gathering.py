"""Balanced runs in, the values of the page out."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from ltrsys import __version__
from ltrsys.classifiers.base import CLASSIFIERS
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.index.records import ClassRecord
from ltrsys.evaluation.balanced_run import BalancedRun, labels_of
from ltrsys.evaluation.results import Line, Results, columns_of
from ltrsys.metrics.accuracy import ALL_COLUMNS, SHOTS, heading
from ltrsys.pages.model import Cell, Classes, ClassifierPart, Page, PanelPart, ResultRow, RunPart, packed
from ltrsys.pages.panels.base import PANELS, Material
from ltrsys.pages.thumbnails import Thumbnails
from ltrsys.reporting.table import caption, fair_column, p_value, p_value_of, parameters


def gather(runs: Sequence[BalancedRun], thumbnails: Thumbnails) -> Page:
    """Compute or read all that the page shows; the pictures are in `thumbnails`, each panel's scripts in `PANELS`.

    Raises:
        DataError: Where files of a run are damaged.
    """
    classes: list[Classes] = []
    labels = labels_of(runs)
    parts = [_run(run, label, classes, thumbnails) for run, label in zip(runs, labels, strict=True)]
    return Page(
        title=", ".join(labels),
        version=__version__,
        made_on=datetime.now(UTC).date().isoformat(),
        panels=[
            PanelPart(name=panel.name, title=panel.title, explanation=panel.explanation, missing=panel.missing)
            for panel in PANELS
        ],
        classes=classes,
        runs=parts,
    )


def _run(run: BalancedRun, label: str, classes: list[Classes], thumbnails: Thumbnails) -> RunPart:
    reported, num_classes = run.reported, run.dataset.num_classes
    material = Material(run, thumbnails)
    return RunPart(
        label=label,
        dataset=run.dataset.record.name,
        split=reported.name,
        summary=caption(run.results).split("\n"),
        columns=[*(heading(column) for column in ALL_COLUMNS), "p"],
        rows=[_row(run.results, line) for line in run.results.results],
        classes=_place_of_classes(run.dataset, classes),
        many=run.config.shots.many,
        few=run.config.shots.few,
        shots=packed(np.array([SHOTS.index(shot) for shot in reported.shot_of_class.tolist()], dtype=np.int64)),
        train_images=packed(reported.train_counts),
        images=packed(reported.split.class_counts),
        classifiers=[_classifier(run, line, num_classes) for line in run.results.results],
        panels={panel.name: panel.data(material) for panel in PANELS},
    )


def _place_of_classes(dataset: Dataset, classes: list[Classes]) -> int:
    """Return the place of a dataset's classes in the list, added if they are not there."""
    own = _classes(dataset.record.classes)
    if own not in classes:
        classes.append(own)
    return classes.index(own)


def _classifier(run: BalancedRun, line: Line, num_classes: int) -> ClassifierPart:
    kind, labels = CLASSIFIERS.get(line.classifier), run.reported.split.labels
    right = run.predictions.of(run.fitted[line.classifier]) == labels
    return ClassifierPart(
        name=kind.name,
        label=kind.label,
        color=kind.color,
        marker=kind.marker,
        parameters=parameters(line),
        correct=packed(np.bincount(labels[right], minlength=num_classes)),
    )


def _row(results: Results, line: Line) -> ResultRow:
    cells = []
    for column, value in columns_of(line).items():
        others = [other for one in results.results if (other := columns_of(one)[column]) is not None]
        interval = line.confidence_95.get(column)
        cells.append(
            Cell(
                text="–" if value is None else f"{value:.1f}",
                best=value is not None and value == max(others),
                interval=None if interval is None else f"{interval[0]:.1f} to {interval[1]:.1f}",
            )
        )
    return ResultRow(
        label=CLASSIFIERS.get(line.classifier).label,
        parameters=parameters(line),
        cells=cells,
        p_value=p_value(p_value_of(line, fair_column(results))),
    )


def _classes(records: Sequence[ClassRecord]) -> Classes:
    lineages: dict[str, int] = {}
    places = [lineages.setdefault(_lineage(record), len(lineages)) for record in records]
    return Classes(
        names=[record.name for record in records],
        lineages=list(lineages),
        lineage_of_class=packed(np.array(places, dtype=np.int64)),
    )


def _lineage(record: ClassRecord) -> str:
    """Name the groups of a class, from the widest to the narrowest, without the class itself."""
    groups = [name for name in record.taxonomy.values() if name != record.name]
    if not groups and record.supercategory is not None:
        groups = [record.supercategory]
    return " › ".join(groups)
