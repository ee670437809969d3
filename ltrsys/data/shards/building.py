"""From a source to shards: checked, split, class-stratified, in parallel, resumable, and brought up to date.

    1. every image is checked, and what passes is staged;         OUT/.build/images/
    2. images are given to splits, and duplicates are looked for;
    3. the order of the samples follows from what passed;
    4. shards are written from what is staged;                    OUT/<split>/shards/
    5. the index is written beside;                               OUT/.build/ready/
    6. it takes the place of an earlier one, `dataset.json` last.

Until the end what is staged takes as much space again as the shards.
"""

import logging
import math
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.index.dataset import Dataset
from ltrsys.data.index.records import SPLITS, DatasetRecord, SplitName
from ltrsys.data.shards.assigning import groups_of, with_splits
from ltrsys.data.shards.attribution import write_attribution
from ltrsys.data.shards.build_folder import (
    DUPLICATES,
    REJECTED,
    BuildOptions,
    claimed,
    describe_build,
    finished_dataset,
    ready_folder,
    release,
    same_layout,
)
from ltrsys.data.shards.layout import class_bands, stratified_order
from ltrsys.data.shards.listed import Listed, different_names, usable_images, warn_of_empty_classes, write_rejected
from ltrsys.data.shards.manifest import staged_in_shards
from ltrsys.data.shards.updating import (
    KeptStratum,
    changes,
    keep_classes,
    keep_strata,
    most_images,
    places_with_kept,
)
from ltrsys.data.shards.writing import Samples, following, write_split
from ltrsys.data.sources.source import Source
from ltrsys.data.validation.duplicates import Duplicates, confirmed, find_duplicates, surplus, write_duplicates
from ltrsys.data.validation.staging import CHUNK, NOTHING, Staged, stage
from ltrsys.data.validation.workers import RunTasks, run_tasks
from ltrsys.files import read_json

log = logging.getLogger("ltrsys")


def build_shards(
    source: Source,
    out: Path,
    options: BuildOptions | None = None,
    *,
    workers: int = 1,
    on_reject: Literal["refuse", "list"] = "refuse",
    update: bool = False,
) -> Dataset:
    """Build the shards of `source` in the folder `out`, finish what was begun there, or bring it up to date.

    Without an update the bytes depend on the source and the options alone, not on the number of workers or on
    interruptions.

    Args:
        source: What to build from.
        out: A new folder, an empty one, or one of the same build.
        options: What decides the bytes.
        workers: Processes that decode and write.
        on_reject: Whether images that cannot be used end the build, once all are checked, or are left out. Either way
            they are listed in `rejected.jsonl`.
        update: Whether `out` is a finished build that is to follow changes of the photographs.

    Raises:
        UsageError: For options that do not fit the source.
        DataError: For rejected images, or a folder that holds something else.
        LtrsysError: For a full disk, or a build that is running in the same folder.
    """
    options = options or BuildOptions()
    options.shares.check()
    before = Dataset.open(out) if update and (out / "dataset.json").exists() else None
    if before is not None:
        source = keep_classes(source, before.record.classes)
    plan = describe_build(source, options)
    with claimed(out, plan, update=update, changeable=source.version is not None):
        before = finished_dataset(out)
        if before is not None and not update:
            log.info("%s: built already from this list of images with these options: nothing to do.", out)
            return before
        _Build(source, out, options, plan, before).run(workers, refuse=on_reject == "refuse")
    return Dataset.open(out)


@dataclass(frozen=True)
class _Build:
    source: Source
    out: Path
    options: BuildOptions
    plan: dict[str, Any]
    before: Dataset | None
    """What is brought up to date."""

    def run(self, workers: int, *, refuse: bool) -> None:
        """Do all of it."""
        groups = groups_of(self.source, self.options)
        earlier = NOTHING if self.before is None else staged_in_shards(self.before)
        num_chunks = sum(-(-len(items) // CHUNK) for items in self.source.splits.values())
        with run_tasks(max(1, min(workers, num_chunks))) as run:
            listed = self._checked(earlier, groups, run, refuse=refuse)
            wanted = self.options.duplicates != "off"
            found = find_duplicates(listed.staged.pixels, listed.staged.looks) if wanted else None
            listed = with_splits(listed, earlier, self.options, found)
            if found is not None:
                listed = self._without_duplicates(listed, found)
            warn_of_empty_classes(self.source, listed)
            if self.before is not None:
                log.info("%s: %s", self.out, changes(self.before, earlier, listed.staged, listed.labels, listed.splits))
            records = {}
            for place, name in enumerate(SPLITS):
                own = np.flatnonzero(listed.splits == place)
                if name in self.source.splits or len(own):
                    samples = self._laid_out(name, listed.take(own))
                    records[name] = write_split(
                        name, samples, self.out, len(self.source.classes), self.options.max_shard_bytes, run
                    )
        write_attribution(ready_folder(self.out), listed.staged.items.tolist(), listed.details)
        record = DatasetRecord(
            name=self.source.name,
            source=self.source.kind,
            seed=self.options.seed,
            resize=self.options.resize,
            bands_per_octave=self.options.bands_per_octave,
            classes=self.source.classes,
            splits=records,
        )
        release(self.out, record, self.plan)

    def _checked(self, earlier: Staged, groups: NDArray[np.object_], run: RunTasks, *, refuse: bool) -> Listed:
        """Return the images that can be used; writes down the others."""
        staged = stage(
            different_names(self.source),
            self.source.read,
            self.source.version,
            self.out / ".build" / "images",
            run,
            resize=self.options.resize,
            earlier=earlier,
        )
        write_rejected(self.out / REJECTED, self.source, staged, refuse=refuse)
        return usable_images(self.source, staged, groups)

    def _without_duplicates(self, listed: Listed, found: Duplicates) -> Listed:
        """Report the images that are the same picture, and leave them out where that is wanted."""
        found = confirmed(found, listed.staged)
        dropped = surplus(found, listed.splits) if self.options.duplicates == "drop" else np.zeros(len(listed), bool)
        classes = [self.source.classes[label].name for label in listed.labels]
        count = write_duplicates(
            ready_folder(self.out) / DUPLICATES,
            found,
            listed.staged.items.tolist(),
            listed.splits,
            classes,
            dropped,
        )
        path = self.out / DUPLICATES
        if dropped.any():
            log.warning("%d images were left out: duplicates of images of a later split. See %s.", dropped.sum(), path)
        elif count:
            log.warning(
                "%d images of val and test are, or look, the same as images of another split: %s lists them. The same "
                "command with --update --duplicates drop leaves out those of the earlier split.",
                count,
                path,
            )
        return listed.take(np.flatnonzero(~dropped))

    @cached_property
    def _same_layout(self) -> bool:
        """Whether what is brought up to date was laid out by the same rules."""
        return self.before is not None and same_layout(self.plan, read_json(self.out / "build.json", "build"))

    def _laid_out(self, name: SplitName, listed: Listed) -> Samples:
        """Give the images of a split their order."""
        num_classes, per_octave = len(self.source.classes), self.options.bands_per_octave
        in_bands = name == "train"  # val and test are one stratum, in the order of the source
        bands = class_bands(np.bincount(listed.labels, minlength=num_classes), per_octave)
        bands = bands if in_bands else np.zeros(num_classes, np.int64)
        split = self.before.split(name) if self.before is not None and self.before.has(name) else None
        kept: list[KeptStratum] = []
        if split is not None and self._same_layout:
            most = partial(most_images, bands_per_octave=per_octave) if in_bands else lambda band: math.inf
            bands, kept = keep_strata(split, listed.staged, listed.labels, bands, most)
        if in_bands or kept:
            places = places_with_kept(listed.labels, kept, num_classes, seed=self.options.seed)
        else:
            places = np.arange(len(listed), dtype=np.float64)
        order, strata = stratified_order(listed.labels, bands, places)
        shards = {stratum.record.band: stratum.shards for stratum in kept}
        written = np.ones(len(listed), dtype=bool)
        for stratum in kept:
            written[stratum.images] = False
        next_key, next_shard = (0, 0) if split is None else following(split)
        return Samples(
            listed.staged.take(order),
            listed.labels[order],
            strata,
            [shards.get(stratum.band, []) for stratum in strata],
            written[order],
            next_key,
            next_shard,
        )
