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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.index.dataset import Dataset
from ltrsys.data.index.records import SPLITS, DatasetRecord, SplitName, StratumRecord
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
from ltrsys.data.shards.layout import stratified_order
from ltrsys.data.shards.manifest import splits_of, staged_in_shards
from ltrsys.data.shards.splitting import TEST, TRAIN, VAL, groups_by, make_splits, position
from ltrsys.data.shards.updating import changes, keep_classes, keep_strata
from ltrsys.data.shards.writing import Samples, following, write_split
from ltrsys.data.sources.source import Source
from ltrsys.data.validation.duplicates import confirmed, find_duplicates, joined, surplus, write_duplicates
from ltrsys.data.validation.staging import CHUNK, NOTHING, Staged, refusal, stage
from ltrsys.data.validation.workers import RunTasks, run_tasks
from ltrsys.errors import DataError, UsageError
from ltrsys.files import json_text, read_json, replaced

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
class _Listed:
    """Images of a source, in its order; arrays of shape [images]."""

    staged: Staged
    labels: NDArray[np.int64]
    splits: NDArray[np.int64]
    """Place in `SPLITS`."""
    groups: NDArray[np.object_]
    """What an image must not be parted from by a split that is made here, if there is such a thing."""
    details: dict[str, NDArray[np.object_]]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, places: NDArray[np.int64]) -> "_Listed":
        """Return the images at `places`."""
        details = {column: values[places] for column, values in self.details.items()}
        return _Listed(self.staged.take(places), self.labels[places], self.splits[places], self.groups[places], details)


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
        groups = self._groups()
        earlier = NOTHING if self.before is None else staged_in_shards(self.before)
        num_chunks = sum(-(-len(items) // CHUNK) for items in self.source.splits.values())
        with run_tasks(max(1, min(workers, num_chunks))) as run:
            listed = self._checked(earlier, groups, run, refuse=refuse)
            listed = self._split(listed, earlier)
            listed = self._without_duplicates(listed)
            self._warn_of_empty_classes(listed)
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
        write_attribution(ready_folder(self.out), listed.staged.items, listed.details)
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

    def _groups(self) -> NDArray[np.object_]:
        """Return the group of each image of the source; called before all work, since a wrong option ends it here."""
        shares = {"val": self.options.shares.val, "test": self.options.shares.test}
        made = [name for name, share in shares.items() if share > 0]
        for name in made:
            if name in self.source.splits:
                raise UsageError(f"--{name} {shares[name]:g}: {self.source.kind} has a {name} split already.")
        total = sum(map(len, self.source.splits.values()))
        groups = np.full(total, None, dtype=object)
        if self.options.group_by is not None:
            if not made:
                raise UsageError("--group-by is for splits that are made here: give --val 0.1 or --test 0.1 too.")
            first = 0
            for name, items in self.source.splits.items():
                if name == "train":
                    groups[first : first + len(items)] = groups_by(items, self.options.group_by)
                first += len(items)
        return groups

    def _checked(self, earlier: Staged, groups: NDArray[np.object_], run: RunTasks, *, refuse: bool) -> _Listed:
        """Return the images that can be used; writes down the others."""
        source = self.source
        names = [name for items in source.splits.values() for name in items.names]
        different = list(dict.fromkeys(names))
        staged = stage(
            different,
            source.read,
            source.version,
            self.out / ".build" / "images",
            run,
            resize=self.options.resize,
            earlier=earlier,
        )
        self._write_rejected(staged, refuse=refuse)
        columns = sorted({column for items in source.splits.values() for column in items.details})
        details = {
            column: np.concatenate(
                [items.details.get(column, np.full(len(items), None, object)) for items in source.splits.values()]
            )
            for column in columns
        }
        labels = np.concatenate([items.labels.astype(np.int64) for items in source.splits.values()])
        splits = np.repeat([SPLITS.index(name) for name in source.splits], [*map(len, source.splits.values())])
        place_of = {name: place for place, name in enumerate(different)}
        places = np.array([place_of[name] for name in names], dtype=np.int64)
        usable = np.flatnonzero(staged.sizes[places] > 0)
        return _Listed(
            staged.take(places[usable]),
            labels[usable],
            splits[usable],
            groups[usable],
            {column: values[usable] for column, values in details.items()},
        )

    def _write_rejected(self, staged: Staged, *, refuse: bool) -> None:
        path = self.out / REJECTED
        if not staged.rejected:
            path.unlink(missing_ok=True)
            return
        split_of = {name: split for split, items in self.source.splits.items() for name in items.names}
        with replaced(path, "w") as file:
            for place, reason in sorted(staged.rejected.items()):
                item = staged.items[place]
                file.write(json_text({"split": split_of[item], "item": item, "reason": reason}) + "\n")
        if refuse:
            raise refusal(staged, path)
        if len(staged.rejected) == len(staged):
            raise DataError(f"{self.source.name}: no image is left; {path} says why.")
        log.warning("%d images were left out; %s says which and why.", len(staged.rejected), path)

    def _split(self, listed: _Listed, earlier: Staged) -> _Listed:
        """Give images to the splits that are made here."""
        shares = self.options.shares
        if not (shares.val or shares.test):
            return listed
        train = np.flatnonzero(listed.splits == TRAIN)
        own = listed.take(train)
        before = dict(zip(earlier.items, splits_of(earlier), strict=True))
        fixed = np.array([before.get(item, -1) for item in own.staged.items], dtype=np.int64)
        had = set(before.values())
        if any(share and split not in had for split, share in ((VAL, shares.val), (TEST, shares.test))):
            fixed[fixed == TRAIN] = -1  # a split that is new takes its images from there
        units, positions = self._units(own)
        splits = listed.splits.copy()
        splits[train] = make_splits(units, positions, own.labels, shares, fixed)
        return replace(listed, splits=splits)

    def _units(self, listed: _Listed) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the number of what an image is not parted from, [images], and the positions of these, [units]."""
        keys = [
            b"image " + bytes(pixels) if group is None else b"group " + str(group).encode(errors="surrogateescape")
            for group, pixels in zip(listed.groups, listed.staged.pixels, strict=True)
        ]
        if self.options.group_by is not None and (alone := sum(group is None for group in listed.groups)):
            log.warning("%d of %d images are in no group of --group-by: each goes its own way.", alone, len(listed))
        number: dict[bytes, int] = {}
        units = np.array([number.setdefault(key, len(number)) for key in keys], dtype=np.int64)
        positions = np.array([position(key, self.options.seed) for key in number])
        if self.options.duplicates == "together":
            found = find_duplicates(listed.staged.pixels, listed.staged.looks)
            return joined(units, positions, found.cluster)
        return units, positions

    def _without_duplicates(self, listed: _Listed) -> _Listed:
        """Report the images that are the same picture, and leave them out where that is wanted."""
        if self.options.duplicates == "off":
            return listed
        found = confirmed(find_duplicates(listed.staged.pixels, listed.staged.looks), listed.staged)
        dropped = surplus(found, listed.splits) if self.options.duplicates == "drop" else np.zeros(len(listed), bool)
        classes = [self.source.classes[label].name for label in listed.labels]
        count = write_duplicates(
            ready_folder(self.out) / DUPLICATES,
            found,
            listed.staged.items,
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

    def _warn_of_empty_classes(self, listed: _Listed) -> None:
        num_classes = len(self.source.classes)
        everywhere = np.bincount(listed.labels, minlength=num_classes)
        train = np.bincount(listed.labels[listed.splits == TRAIN], minlength=num_classes)
        if not train.any():
            raise DataError(f"{self.source.name}: no training image is left.")
        if len(gaps := np.flatnonzero(everywhere == 0)):
            log.warning("No image at all of %s: the class ids stay as they are.", self._some_classes(gaps))
        if len(untrained := np.flatnonzero((train == 0) & (everywhere > 0))):
            log.warning("No training image of %s: no classifier can learn them.", self._some_classes(untrained))

    def _some_classes(self, labels: NDArray[np.int64], most: int = 5) -> str:
        named = ", ".join(f"{label} ({self.source.classes[label].name})" for label in labels[:most])
        return f"class {named}" + (f" and {len(labels) - most} more" if len(labels) > most else "")

    def _laid_out(self, name: SplitName, listed: _Listed) -> Samples:
        """Give the images of a split their order."""
        if name == "train":
            order, strata = stratified_order(
                listed.labels.astype(np.int32),
                len(self.source.classes),
                bands_per_octave=self.options.bands_per_octave,
                seed=self.options.seed,
            )
        else:
            order = np.arange(len(listed))
            strata = [StratumRecord(band=0, first=0, samples=len(listed))] if len(listed) else []
        split = self.before.split(name) if self.before is not None and self.before.has(name) else None
        same = self.before is not None and same_layout(self.plan, read_json(self.out / "build.json", "build"))
        order, kept = keep_strata(order, strata, listed.staged, listed.labels, split if same else None)
        next_key, next_shard = (0, 0) if split is None else following(split)
        return Samples(listed.staged.take(order), listed.labels[order], strata, kept, next_key, next_shard)
