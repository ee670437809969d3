"""Samples that go bad in the middle of a run: replaced by others of their class, whoever meets them and when."""

import dataclasses
import io
import json
import multiprocessing
import os
import shutil
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.photographs import photograph_source
from ltrsys.data.config import DataConfig, make_sampler
from ltrsys.data.index.columns import checksum
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.loading.loader import EvaluationLoader, TrainLoader
from ltrsys.data.plan.batching import Batching
from ltrsys.data.plan.planner import Planner
from ltrsys.data.reading.quarantine import Quarantine, quarantined, replacements
from ltrsys.data.reading.reader import BadSample
from ltrsys.data.shards.build_folder import BuildOptions
from ltrsys.data.shards.building import build_shards
from ltrsys.errors import DataError
from ltrsys.world import World
from tests.data.loading.test_pipeline import damage_somehow
from tests.data.noting import note_all

CPU = torch.device("cpu")
LANES = 12


@pytest.fixture
def shards(tiny_shards, tmp_path):
    """A copy to damage."""
    return shutil.copytree(tiny_shards, tmp_path / "shards")


def overwrite(split, sample, edit):
    """Change the encoded image of a sample where it stands; what is too long is cut off."""
    offset, size = int(split.offset[sample]), int(split.size[sample])
    with open(split.shard_path(int(split.shard[sample])), "r+b") as shard:
        shard.seek(offset)
        damaged = edit(shard.read(size))
        shard.seek(offset)
        shard.write(damaged[:size])


def rot(shards, *samples, name="train"):
    split = Dataset.open(shards).split(name)
    for sample in samples:
        overwrite(split, sample, lambda encoded: bytes(len(encoded)))
    return split


@pytest.fixture
def open_loader(shards):
    made = []

    def train(rank=0, ranks=1, path=None, kind="class_balanced", split=None, share=0.2, **options):
        split = split or Dataset.open(shards).split("train")
        config = DataConfig(
            shards=shards,
            image_size=28,
            resize=32,
            threads=2,
            lanes=LANES,
            on_error="skip",
            max_bad_share=share,
            **options,
        )
        planner = Planner(split, make_sampler(kind=kind), seed=5, num_epochs=4, lanes=LANES)
        batching = Batching(32, 16, World(rank, ranks), LANES, planner.samples_per_draw)
        quarantine = Quarantine.of(split, config, path)
        made.append(
            TrainLoader(split, config, planner=planner, batching=batching, seed=5, device=CPU, quarantine=quarantine)
        )
        return made[-1]

    yield train
    for loader in made:
        loader.close()


BAD = (0, 3, 40, 41, 42, 200, 424)


def test_a_bad_sample_is_replaced_by_another_of_its_class_and_nothing_else_changes(open_loader, shards, tmp_path):
    whole = list(open_loader().epoch(1))
    split = rot(shards, *BAD)
    path = tmp_path / "quarantine.jsonl"
    changed = 0
    for before, after in zip(whole, open_loader(path=path).epoch(1), strict=True):
        np.testing.assert_array_equal(before.positions, after.positions)
        assert torch.equal(before.labels, after.labels)
        bad = torch.isin(before.samples, torch.tensor(BAD))
        assert torch.equal(before.samples != after.samples, bad)
        assert not torch.isin(after.samples, torch.tensor(BAD)).any()
        assert torch.equal(before.images[~bad], after.images[~bad])
        changed += int(bad.sum())
    assert changed > len(BAD)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    drawn = {int(sample) for batch in whole for sample in batch.samples}
    assert sorted(line["sample"] for line in lines) == sorted(drawn & set(BAD))
    first = lines[0]
    assert first["label"] == split.label[first["sample"]]
    assert first["shard"] == split.shard_path(int(split.shard[first["sample"]])).name
    assert "its bytes do not have the checksum of the index" in first["reason"]


def test_neither_ranks_nor_resuming_nor_what_is_known_change_a_bit(open_loader, shards, tmp_path):
    rot(shards, *BAD)
    path = tmp_path / "quarantine.jsonl"
    alone = list(open_loader(path=path).epoch(2))
    ranks = [list(open_loader(rank=rank, ranks=2).epoch(2)) for rank in range(2)]
    ranks = [batch for pair in zip(*ranks, strict=True) for batch in pair]
    resumed = list(open_loader(path=path).epoch(2, 4))  # knows all of them from the start
    late = list(open_loader().epoch(2, 4))  # meets others first
    for expected, *others in zip(alone, ranks, strict=True):
        assert all(torch.equal(expected.images, other.images) for other in others)
        assert all(torch.equal(expected.samples, other.samples) for other in others)
    for expected, *others in zip(alone[8:], resumed, late, strict=True):
        assert all(torch.equal(expected.images, other.images) for other in others)


@pytest.mark.parametrize("damage", ["missing", "truncated", "read error"])
def test_a_shard_that_is_lost_costs_its_samples(open_loader, shards, damage, monkeypatch):
    split = Dataset.open(shards).split("train")
    number = int(np.argmin([shard.samples for shard in split.record.shards[:-1]]))
    lost = np.flatnonzero(split.shard == number)
    path = split.shard_path(number)
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        os.truncate(path, int(split.offset[lost[0]]))
    else:
        inode, read = path.stat().st_ino, os.pread

        def fail_there(descriptor, *arguments):
            if os.fstat(descriptor).st_ino == inode:
                raise OSError(5, "Input/output error")
            return read(descriptor, *arguments)

        monkeypatch.setattr(os, "pread", fail_there)
    classes = np.unique(split.label[lost])
    others = np.isin(split.label, classes) & ~np.isin(np.arange(len(split)), lost)
    loader = open_loader(kind="instance")
    if others.any():
        seen = np.concatenate([batch.samples.numpy() for batch in loader.epoch(0)])
        assert not np.isin(seen, lost).any()
    else:
        with pytest.raises(DataError, match="no other of its class"):
            list(loader.epoch(0))


def test_a_class_of_which_no_image_is_left_ends_the_epoch(open_loader, shards):
    split = Dataset.open(shards).split("train")
    rot(shards, *np.flatnonzero(split.label == 1).tolist())
    with pytest.raises(DataError, match="this sample is bad, and no other of its class 1 is left to replace it"):
        list(open_loader().epoch(0))


def test_too_many_bad_samples_end_the_epoch(open_loader, shards, tmp_path):
    rot(shards, *range(100, 140))
    path = tmp_path / "quarantine.jsonl"
    with pytest.raises(DataError, match=r"\d of 425 train images are bad, more than data.max_bad_share=0\.01\."):
        list(open_loader(path=path, share=0.01, kind="instance").epoch(0))
    assert len(path.read_text().splitlines()) == 5  # the last one makes it too many


def test_what_other_ranks_have_noted_counts(shards, tmp_path):
    split = Dataset.open(shards).split("train")
    path = tmp_path / "quarantine.jsonl"
    one, other = (Quarantine(split, max_share=3 / 425, path=path) for _ in range(2))
    for sample in (1, 2):
        one.add(BadSample(split, sample, "bad."))
    other.add(BadSample(split, 2, "bad."))
    other.add(BadSample(split, 3, "bad."))
    assert 1 in other
    with pytest.raises(DataError, match="4 of 425"):
        one.add(BadSample(split, 4, "bad."))
    assert quarantined(path, split) == {1, 2, 3, 4}


@pytest.mark.long
def test_processes_that_note_at_once_note_each_sample_once(shards, tmp_path):
    path = tmp_path / "quarantine.jsonl"
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(4)
    processes = [context.Process(target=note_all, args=(shards, path, start)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert sorted(json.loads(line)["sample"] for line in path.read_text().splitlines()) == list(range(100))


def test_a_line_that_a_kill_left_half_written_is_left_out(shards, tmp_path):
    split = Dataset.open(shards).split("train")
    path = tmp_path / "quarantine.jsonl"
    Quarantine(split, max_share=1.0, path=path).add(BadSample(split, 1, "bad."))
    path.write_bytes(path.read_bytes() + b'{"split": "train", "sam')
    quarantine = Quarantine(split, max_share=1.0, path=path)
    assert len(quarantine) == 1
    quarantine.add(BadSample(split, 2, "bad."))
    assert quarantined(path, split) == {1, 2}


def test_replacements_are_the_rest_of_the_class_in_an_order_of_the_position(tiny_shards):
    split = Dataset.open(tiny_shards).split("train")
    sample = 300
    orders = [list(replacements(split, sample, seed=1, epoch=0, position=position)) for position in range(40)]
    expected = set(np.flatnonzero(split.label == split.label[sample]).tolist()) - {sample}
    assert all(set(order) == expected and len(order) == len(expected) for order in orders)
    assert len({order[0] for order in orders}) > 10
    assert orders[3] == list(replacements(split, sample, seed=1, epoch=0, position=3))


# What the checksum does not tell: images that were bad when the index was made.


def test_an_image_that_cannot_be_decoded_is_replaced_too(open_loader, shards):
    """Batches after it are in DALI's hands already; they come in their order all the same."""
    split = Dataset.open(shards).split("train")
    whole = list(open_loader(prefetch=3).epoch(1))
    small = io.BytesIO()
    Image.new("RGB", (9, 9)).save(small, "JPEG")
    checksums = np.array(split.checksum)
    for sample, encoded in ((3, bytes(10**5)), (200, small.getvalue()), (201, b"no image at all")):
        overwrite(split, sample, lambda before, encoded=encoded: encoded)
        with open(split.shard_path(int(split.shard[sample])), "rb") as shard:
            shard.seek(int(split.offset[sample]))
            checksums[sample] = checksum(shard.read(int(split.size[sample])))
    split = dataclasses.replace(split, checksum=checksums)
    after = list(open_loader(prefetch=3, split=split).epoch(1))
    bad = torch.tensor([3, 200, 201])
    for one, other in zip(whole, after, strict=True):
        assert not torch.isin(other.samples, bad).any()
        assert torch.equal(one.labels, other.labels)
        kept = ~torch.isin(one.samples, bad)
        assert torch.equal(one.images[kept], other.images[kept])
        assert torch.equal(one.samples[kept], other.samples[kept])


@pytest.mark.long
def test_a_thousand_damaged_images_are_replaced(tmp_path):
    """Bit flips, cuts, swaps, noise, damaged headers: not one of them is trained on, and the process lives."""
    counts = np.array([700, 500])
    shards = build_shards(photograph_source(counts, short_side=40), tmp_path / "shards", BuildOptions()).folder
    split = Dataset.open(shards).split("train")
    random = np.random.default_rng(0)
    damaged = random.choice(len(split), 1000, replace=False)
    unchanged = []
    for sample in damaged.tolist():

        def edit(encoded, sample=sample):
            changed = damage_somehow(encoded, random)
            changed += bytes(max(0, len(encoded) - len(changed)))  # what is cut off is zeros
            if changed == encoded:
                unchanged.append(sample)
            return changed

        overwrite(split, sample, edit)
    damaged = np.setdiff1d(damaged, unchanged)
    assert len(damaged) > 950
    config = DataConfig(
        shards=shards, image_size=32, resize=32, threads=2, lanes=LANES, on_error="skip", max_bad_share=1.0
    )
    planner = Planner(split, make_sampler(), seed=0, num_epochs=1, lanes=LANES)
    quarantine = Quarantine.of(split, config, tmp_path / "quarantine.jsonl")
    loader = TrainLoader(
        split,
        config,
        planner=planner,
        batching=Batching(48, 48, World(), LANES),
        seed=0,
        device=CPU,
        quarantine=quarantine,
    )
    seen = []
    for batch in loader.epoch(0):
        assert batch.images.isfinite().all()
        seen += batch.samples.tolist()
    loader.close()
    assert len(seen) == len(split)
    assert not np.isin(seen, damaged).any()
    assert quarantined(tmp_path / "quarantine.jsonl", split) == set(damaged.tolist())


# Evaluation


def evaluate(shards, name, on_error):
    split = Dataset.open(shards).split(name)
    config = DataConfig(shards=shards, image_size=28, resize=32, threads=2, on_error=on_error, max_bad_share=0.2)
    quarantine = Quarantine.of(split, config) if name == "train" else None
    loader = EvaluationLoader(split, config, batch_size=32, world=World(), device=CPU, quarantine=quarantine)
    try:
        return torch.cat([batch.samples for batch in loader])
    finally:
        loader.close()


@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_a_bad_test_image_is_an_error_whatever_is_skipped_in_training(shards, on_error):
    rot(shards, 17, name="test")
    with pytest.raises(DataError, match=r"\(sample 17\): its bytes do not have the checksum"):
        evaluate(shards, "test", on_error)


def test_a_bad_training_image_that_is_evaluated_is_replaced_by_another_of_its_class(shards):
    split = rot(shards, 17)
    with pytest.raises(DataError, match=r"\(sample 17\)"):
        evaluate(shards, "train", "stop")
    samples = evaluate(shards, "train", "skip").numpy()
    assert np.flatnonzero(samples != np.arange(len(split))).tolist() == [17]
    assert split.label[samples[17]] == split.label[17]


def test_what_will_end_the_epoch_is_known_steps_before(open_loader, shards):
    """All ranks have to agree on the last step, which takes the time of two."""
    split = Dataset.open(shards).split("train")
    planner = Planner(split, make_sampler(), seed=5, num_epochs=4, lanes=LANES)
    rot(shards, int(planner.epoch(0).samples(np.array([32 * 8 + 5]))[0]))
    loader = open_loader(share=0.0, kind="instance")
    batches = loader.epoch(0)
    known = []
    for _ in range(8):
        assert len(list(islice(batches, 2))) == 2
        known.append(loader.failure is not None)
    assert known == [False] * 4 + [True] * 4
    with pytest.raises(DataError, match="max_bad_share=0"):
        list(batches)
