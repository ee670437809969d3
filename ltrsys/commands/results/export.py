"""A run's network and a classifier of it as files that run without ltrsys: folded, written, tried, described."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ltrsys.data.index.dataset import Dataset
from ltrsys.data.index.difference import difference_of_classes
from ltrsys.data.index.records import DatasetRecord, SplitName
from ltrsys.data.reading.opening import open_dataset, open_named
from ltrsys.data.shards.attribution import licences_in
from ltrsys.data.shards.build_folder import ATTRIBUTION
from ltrsys.errors import DataError, UsageError
from ltrsys.evaluation.opening import open_trained
from ltrsys.evaluation.results import Line, Results, read_results
from ltrsys.evaluation.split import line_fingerprint
from ltrsys.export.companions import (
    Accuracies,
    copy_attribution,
    write_card,
    write_classes,
    write_preprocessing,
    write_record,
)
from ltrsys.export.comparison import Comparison, accuracy_lines, compare, lost
from ltrsys.export.folding import FoldedModel
from ltrsys.export.formats.base import EXPORTERS, Exporter, require
from ltrsys.export.images import Noise, ShardImages, TrialImages, as_bytes
from ltrsys.export.model_card import ModelCard
from ltrsys.export.releasing import check_target, released
from ltrsys.export.subject import Precision, Subject
from ltrsys.metrics.accuracy import shot_of_class
from ltrsys.prediction.loading import LoadedModel, load_model
from ltrsys.runs.folder import RunFolder
from ltrsys.runs.trained_on import kept_record

log = logging.getLogger("ltrsys")

CPU = torch.device("cpu")
PARITY_IMAGES = 256
"""On which run and export are compared."""
ACCURACY_IMAGES = 2000
"""On which accuracy before and after is measured, where precision is lost."""
CALIBRATION_IMAGES = 256
"""From which the ranges of int8 follow."""
NOISE_IMAGES = 16


@dataclass(frozen=True)
class ExportOptions:
    """What the command line says, beside the run."""

    format: str
    classifier: str | None = None
    out: Path | None = None
    precision: Precision = "float32"
    takes_bytes: bool = False
    force: bool = False
    overwrite: bool = False
    shards: str | None = None
    """Where the run's shards are now, if not where its config says."""
    licence: str = "unknown"
    plugins: Sequence[str] = ()


def export_run(folder: Path, options: ExportOptions) -> None:
    """Write the export beside its place, try it, and release it if it gives what the run gives.

    Raises:
        UsageError: For a folder that is no finished run; a classifier that is not fitted, or that the format cannot
            hold; shards of other classes; a place that may not be written over.
        DataError: For damaged files, and for an export that does not give what the run gives.
    """
    open_trained(folder, (), options.plugins)  # only now are its plug-ins known
    exporter = EXPORTERS.get(options.format)
    require(exporter, options.precision, takes_bytes=options.takes_bytes)
    model = load_model(folder, options.classifier, CPU).in_float32()
    target = options.out or _default_target(model, options)
    check_target(target, overwrite=options.overwrite)
    exporter.check(model)
    dataset = _shards_of(model, options.shards)
    subject = _subject(model, options, dataset)
    trial = _trial_images(model, dataset, options.precision)
    with released(target) as beside:
        exporter.write(subject, beside)
        labelled = not isinstance(trial, Noise)
        comparison = compare(model, subject.folded, exporter.open(beside), trial, labelled=labelled)
        print(f"{exporter.name}, {options.precision}: {comparison.line()}")
        if outside := comparison.outside(options.precision):
            advice = "Try another --format." if options.precision == "float32" else "Export it in float32."
            raise DataError(
                f"{target}: the export does not give what the run gives: {outside}. Nothing was written. {advice}"
            )
        accuracies = _accuracies(model, comparison) if options.precision != "float32" and labelled else None
        loss = _check_loss(target, comparison, accuracies, options)
        _write_companions(subject, exporter, comparison, accuracies, loss, dataset, options.licence, beside)
        size = sum(path.stat().st_size for path in beside.iterdir())
    print(f"Export: {target} ({size / 1e6:.1f} MB). Its README.md says how to load it.")


def _default_target(model: LoadedModel, options: ExportOptions) -> Path:
    precision = "" if options.precision == "float32" else f"-{options.precision}"
    return model.run.exports / f"{model.classifier.name}-{options.format}{precision}"


def _shards_of(model: LoadedModel, given: str | None) -> Dataset | None:
    """Open the run's shards; None, with a warning, where they are not there.

    Raises:
        UsageError: Where their classes are others than the model's.
        DataError: Where they are given, and are not there; or damaged.
    """
    config = model.config.data
    if given is not None:
        dataset = open_named(given, config.cache)
    elif isinstance(config.shards, Path) and not (config.shards / "dataset.json").exists():
        log.warning(
            "%s: the run's shards are not there: the export is not tried on images, but on noise. --shards says where "
            "they are.",
            config.shards,
        )
        return None
    else:
        dataset = open_dataset(config)
    classes = model.signature.classes
    trained = classes[: len(classes) - model.added]
    if changes := difference_of_classes(trained, dataset.record.classes).classes:
        raise UsageError(
            f"{dataset.place}: these shards have other classes than the model: {'; '.join(changes)}. Give those it was "
            "trained on by --shards."
        )
    return dataset


def _subject(model: LoadedModel, options: ExportOptions, dataset: Dataset | None) -> Subject:
    temperature = 1.0 if model.calibration is None else model.calibration.temperature
    folded = FoldedModel.of(model, temperature)
    preprocessing = model.signature.preprocessing
    if options.takes_bytes:
        folded.normalise(preprocessing.mean, preprocessing.std)
    if options.precision == "float16":
        folded.to_float16()
    if options.precision != "int8":
        return Subject(model, folded, options.precision)
    name = None if dataset is None else _calibration_split(dataset)
    if dataset is None or name is None:
        raise UsageError(
            "--int8 needs images of the run's shards, from which the ranges follow. Say by --shards where they are, or "
            "use --float16."
        )
    chosen = ShardImages.choose(
        dataset.split(name), CALIBRATION_IMAGES, model.config.data, preprocessing, seed=model.config.seed
    )
    images = torch.cat([pixels for pixels, _ in chosen.batches()])
    log.info("int8: ranges from %s.", chosen)
    given = as_bytes(images, preprocessing) if folded.takes_bytes else images
    return Subject(model, folded, options.precision, given)


def _reported_split(dataset: Dataset) -> SplitName | None:
    return next((name for name in ("test", "val", "train") if dataset.has(name)), None)


def _calibration_split(dataset: Dataset) -> SplitName | None:
    """Return val, or train where accuracy is measured on val: never the images that are reported on, if it can be."""
    reported = _reported_split(dataset)
    return next((name for name in ("val", "train") if dataset.has(name) and name != reported), reported)


def _trial_images(model: LoadedModel, dataset: Dataset | None, precision: Precision) -> TrialImages:
    preprocessing = model.signature.preprocessing
    name = None if dataset is None else _reported_split(dataset)
    if dataset is None or name is None:
        return Noise(NOISE_IMAGES, preprocessing)
    number = PARITY_IMAGES if precision == "float32" else ACCURACY_IMAGES
    return ShardImages.choose(dataset.split(name), number, model.config.data, preprocessing, seed=model.config.seed)


def _accuracies(model: LoadedModel, comparison: Comparison) -> Accuracies:
    counts = np.array(model.signature.train_counts, dtype=np.int64)
    before, after = comparison.accuracies(shot_of_class(counts, model.config.shots))
    accuracies = {"before": before, "after": after}
    print("\n".join(accuracy_lines(accuracies)))
    return accuracies


def _check_loss(
    target: Path, comparison: Comparison, accuracies: Accuracies | None, options: ExportOptions
) -> str | None:
    """Refuse an int8 export that loses too much, unless that is accepted; return what it loses."""
    if options.precision != "int8" or accuracies is None:
        return None
    loss = lost(accuracies["before"], accuracies["after"])
    if loss is None:
        return None
    if not options.force:
        raise DataError(
            f"{target}: int8 loses {loss}, on {comparison.images}. Nothing was written. Use --float16, or accept it by "
            "--force."
        )
    log.warning("%s: int8 loses %s, on %s, which --force accepts.", target, loss, comparison.images)
    return loss


def _write_companions(
    subject: Subject,
    exporter: type[Exporter],
    comparison: Comparison,
    accuracies: Accuracies | None,
    loss: str | None,
    dataset: Dataset | None,
    licence: str,
    folder: Path,
) -> None:
    write_classes(subject, folder)
    write_preprocessing(subject, folder)
    licences = None
    if dataset is not None and (attribution := dataset.folder / ATTRIBUTION).exists():
        licences = licences_in(attribution)
        copy_attribution(dataset.folder, folder)
    model = subject.model
    results = read_results(model.run.results) if model.run.results.exists() else None
    card = ModelCard(
        subject=subject,
        exporter=exporter,
        comparison=comparison,
        accuracies=accuracies,
        loss=loss,
        record=_record_of(model.run, dataset),
        results=results,
        line=None if results is None else _line_of(results, model),
        licences=licences,
        licence=licence,
    )
    write_card(card.text(), folder)
    write_record(subject, exporter, comparison, accuracies, folder)


def _record_of(run: RunFolder, dataset: Dataset | None) -> DatasetRecord | None:
    record = kept_record(run)
    return dataset.record if record is None and dataset is not None else record


def _line_of(results: Results, model: LoadedModel) -> Line | None:
    """Return the line of this very classifier: not that of an earlier fit."""
    line = results.line(model.classifier.name)
    if line is None:
        return None
    current = line_fingerprint(model.fitted.fingerprint, results.split, model.config.shots)
    return line if line.fingerprint == current else None
