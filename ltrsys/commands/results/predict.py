"""Naming photographs: a run and images in, a table out."""

import hashlib
import logging
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from ltrsys.errors import UsageError
from ltrsys.evaluation.opening import open_trained
from ltrsys.features.ranks import barrier, joined
from ltrsys.prediction.answering import Answerer
from ltrsys.prediction.answers import AUTO, Prediction, Wanted
from ltrsys.prediction.class_lists import read_frequencies, read_species
from ltrsys.prediction.images.collections import Images
from ltrsys.prediction.images.finding import find_images
from ltrsys.prediction.job import Job
from ltrsys.prediction.predictor import Predictor
from ltrsys.prediction.tables import CSVWriter, Layout, writer_for
from ltrsys.progress import progress
from ltrsys.section import DeviceName
from ltrsys.world import World

log = logging.getLogger("ltrsys")

RANKS = ("kingdom", "phylum", "class", "order", "family", "genus", "species")
"""Ranks of a taxonomy in their usual order; others come after them."""
TRAIN, UNIFORM = "train", "uniform"
"""What `--prior` takes besides a file."""
PROBLEMS_SHOWN = 3
PATIENCE = timedelta(days=30)
"""Ranks wait for one another for however long one of them takes."""


@dataclass(frozen=True)
class PredictOptions:
    """What the command line says."""

    classifier: str | None = None
    wanted: Wanted = field(default_factory=Wanted)
    out: Path | None = None
    species: Path | None = None
    prior: str | None = None
    split: str | None = None
    device: DeviceName = "auto"
    batch_size: int | None = None
    overwrite: bool = False
    null: bool = False
    plugins: Sequence[str] = ()


def predict(run: Path, arguments: Sequence[str], options: PredictOptions) -> None:
    """Name the images that arguments lead to, into a file or onto standard output.

    Raises:
        UsageError: For a folder that is no balanced run, arguments that lead nowhere, options that do not fit, or a
            file at `out` that is of something else.
        DataError: For files of the run, or lists of classes, that are damaged or do not belong together.
    """
    world = World.detect()
    if options.out is not None:
        writer_for(options.out)
    elif world.world_size > 1:
        raise UsageError("several ranks need a file to write to: give --out.")
    open_trained(run, (), options.plugins)  # what is no run is told before images are sought
    images = find_images(arguments, split=options.split, separator="\0" if options.null else "\n")
    predictor = Predictor.load(run, classifier=options.classifier, device=options.device, batch_size=options.batch_size)
    with _fitted_to(predictor, options) as predictor:
        if options.classifier is None and world.is_main:
            log.info("%s: the classifier is %s.", run, predictor.classifier)
        answerer = predictor.answerer(options.wanted)
        answerer.check_precision()
        _warn(predictor, options, world)
        if options.out is None:
            _print(predictor, images, answerer)
        else:
            _write(predictor, images, answerer, options, world)


def _warn(predictor: Predictor, options: PredictOptions, world: World) -> None:
    """Say where probabilities are worth less than they seem."""
    if not world.is_main:
        return
    name, run, wanted = predictor.classifier, predictor.model.run.path, options.wanted
    if predictor.model.calibration is None:
        log.warning(
            "%s: the probabilities of %s are not calibrated. `ltrsys balance %s --classifiers %s "
            "balance.calibrate=true` does that.",
            run,
            name,
            run,
            name,
        )
    elif (options.prior or options.species) and (wanted.min_precision or wanted.coverage or wanted.rank):
        log.warning(
            "How sure %s is was measured on images of all classes (%s): with --species or --prior, take precision and "
            "coverage as approximate.",
            name,
            predictor.model.calibration.fitted_on,
        )


def _fitted_to(predictor: Predictor, options: PredictOptions) -> Predictor:
    """Return a predictor for the species and their frequencies that are asked for."""
    classes = predictor.signature.classes
    if options.prior is not None:
        counts = np.array(predictor.signature.train_counts, dtype=np.float64)
        named = {TRAIN: counts, UNIFORM: np.ones(len(counts))}.get(options.prior)
        predictor = predictor.with_frequencies(
            read_frequencies(Path(options.prior), classes) if named is None else named
        )
    if options.species is not None:
        predictor = predictor.only(read_species(options.species, classes))
    return predictor


def _ranks(predictor: Predictor) -> list[str]:
    """Return the ranks of the taxonomy that any class has."""
    known = dict.fromkeys(rank for record in predictor.signature.classes for rank in record.taxonomy)
    return sorted(known, key=lambda rank: RANKS.index(rank) if rank in RANKS else len(RANKS))


def _layout(predictor: Predictor, wanted: Wanted) -> Layout:
    """Return the columns of the table."""
    return Layout(_ranks(predictor), taxon=wanted.rank == AUTO, unlikeness=wanted.novelty)


def _print(predictor: Predictor, images: Images, answerer: Answerer) -> None:
    """Print as they come: for people on a terminal, as CSV elsewhere."""
    readable = sys.stdout.isatty()
    table = None if readable else CSVWriter(sys.stdout.buffer, _layout(predictor, answerer.wanted))
    for scored in predictor.run(images, range(len(images))):
        for prediction in predictor.answers(images, scored, answerer):
            if table is None:
                _print_readable(prediction)
            else:
                table.write(prediction)
    if table is not None:
        table.close()
        sys.stdout.buffer.flush()


def _print_readable(prediction: Prediction) -> None:
    print(prediction.path.encode(errors="backslashreplace").decode())
    if prediction.problem is not None:
        print(f"     cannot be read: {prediction.problem}")
    if prediction.status == "not sure":
        print("     not sure; it may be:")
    if prediction.taxon is not None:
        print(f"     {prediction.taxon.rank}: {prediction.taxon.name} ({prediction.taxon.probability:.1%})")
    for answer in prediction.answers:
        images = "1 training image" if answer.train_images == 1 else f"{answer.train_images:,} training images"
        shot = "" if answer.shot is None else f"{answer.shot}: "
        print(f"  {answer.probability:6.1%}  {answer.name}   ({shot}{images})")
    if prediction.unlikeness is not None:
        found = prediction.unlikeness
        print(
            f"     of the known images {found.energy_share:.1%} score as low, {found.distance_share:.1%} lie as far off"
        )


def _write(predictor: Predictor, images: Images, answerer: Answerer, options: PredictOptions, world: World) -> None:
    """Write the table; what was done by an earlier call is not done again."""
    assert options.out is not None
    job = Job(options.out, _made_with(predictor, options), images)
    done = job.is_done(overwrite=options.overwrite)
    if done:
        if world.is_main:
            log.info("%s: all %d images have been named. There is nothing to do.", options.out, len(images))
        return
    with job.alone() if world.is_main else nullcontext(), joined(world, PATIENCE):
        if world.is_main:
            job.begin()
        barrier(world)
        missing = job.missing()
        barrier(world)  # nobody writes before all have read what there is
        predict_missing(predictor, job, missing, answerer, world)
        barrier(world)
        if world.is_main:
            problems = job.finish(_layout(predictor, options.wanted), answerer.answer)
            print(_conclusion(options.out, len(images), problems))


def predict_missing(predictor: Predictor, job: Job, missing: list[int], answerer: Answerer, world: World) -> None:
    """Name this rank's part of what is missing: whole batches, so that an image is in one of the same size always."""
    size = predictor.batch_size
    batches = range(world.rank, -(-len(missing) // size), world.world_size)
    own = [place for batch in batches for place in missing[batch * size : (batch + 1) * size]]
    parts = job.parts(world.rank)
    with progress("predict", len(own), shown=world.is_main) as advance:
        try:
            for scored in predictor.run(job.images, own):
                parts.add(scored.places, predictor.answers(job.images, scored, answerer))
                advance(len(scored.places))
        finally:
            parts.flush()  # after Ctrl-C, too


def _made_with(predictor: Predictor, options: PredictOptions) -> dict[str, Any]:
    """Return all that predictions depend on besides the images."""
    calibration = predictor.model.calibration
    return {
        "classifier": predictor.classifier,
        "model": predictor.model.fitted.bank,
        "fit": predictor.model.fitted.fingerprint,
        "classes": predictor.signature.sha256,
        "calibration": calibration and calibration.fingerprint,
        **asdict(options.wanted),
        "prior": _content(options.prior),
        "species": _content(options.species),
        "batch_size": predictor.batch_size,
    }


def _content(named: str | Path | None) -> str | None:
    """Return the SHA-256 of a file, or the word that stands in its place."""
    if named is None or str(named) in (TRAIN, UNIFORM):
        return None if named is None else str(named)
    return hashlib.sha256(Path(named).read_bytes()).hexdigest()


def _conclusion(out: Path, images: int, problems: Sequence[Prediction]) -> str:
    said = f"{out}: {images:,} {'image' if images == 1 else 'images'}"
    if not problems:
        return f"{said}."
    first = "; ".join(f"{one.path}: {one.problem}" for one in problems[:PROBLEMS_SHOWN])
    return f"{said}, of which {len(problems):,} could not be read ({first})."
