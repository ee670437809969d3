import io
import shutil
import subprocess
import sys
import textwrap
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from ltrsys.data.config import AugmentationConfig, DataConfig, ProgressiveConfig, make_sampler
from ltrsys.data.index.columns import checksum
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.loading.augmentation import evaluation_augmentation
from ltrsys.data.loading.feed import Feed
from ltrsys.data.loading.loader import EvaluationLoader, TrainLoader
from ltrsys.data.plan.batching import Batching
from ltrsys.data.plan.planner import Planner
from ltrsys.errors import DataError, UsageError
from ltrsys.world import World

CPU = torch.device("cpu")
LANES = 12


@pytest.fixture
def open_loader(tiny_shards):
    """Make loaders of the tiny dataset, and close them."""
    made = []

    def keep(loader):
        made.append(loader)
        return loader

    def config(**options):
        return DataConfig(
            shards=tiny_shards, **({"image_size": 28, "resize": 32, "threads": 2, "lanes": LANES} | options)
        )

    def train(rank=0, ranks=1, micro_batch_size=16, sampler=None, channels_last=False, shards=tiny_shards, **options):
        split = Dataset.open(shards).split("train")
        planner = Planner(split, sampler or make_sampler(kind="class_balanced"), seed=5, num_epochs=4, lanes=LANES)
        batching = Batching(32, micro_batch_size, World(rank, ranks), LANES, planner.samples_per_draw)
        return keep(
            TrainLoader(
                split,
                config(**options),
                planner=planner,
                batching=batching,
                seed=5,
                device=CPU,
                channels_last=channels_last,
            )
        )

    def evaluate(rank=0, ranks=1, batch_size=32, shards=tiny_shards, name="test", **options):
        split = Dataset.open(shards).split(name)
        return keep(
            EvaluationLoader(split, config(**options), batch_size=batch_size, world=World(rank, ranks), device=CPU)
        )

    yield lambda kind="train", **options: {"train": train, "evaluate": evaluate}[kind](**options)
    for loader in made:
        loader.close()


def assert_same(left, right):
    left, right = list(left), list(right)
    assert len(left) == len(right) > 0
    for one, other in zip(left, right, strict=True):
        assert torch.equal(one.samples, other.samples)
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(one.images, other.images)


def test_batches_are_what_the_interface_says(open_loader, tiny_shards):
    batch = next(open_loader().epoch(0))
    assert batch.images.shape == (16, 3, 28, 28)
    assert (batch.images.dtype, batch.labels.dtype, batch.samples.dtype) == (torch.float32, torch.int64, torch.int64)
    labels = Dataset.open(tiny_shards).split("train").label[batch.samples.numpy()]
    np.testing.assert_array_equal(batch.labels.numpy(), labels)


@pytest.mark.parametrize(
    "sampler", [make_sampler(), make_sampler(kind="progressive"), make_sampler(kind="class_aware")], ids=str
)
def test_an_epoch_is_the_plans(open_loader, tiny_shards, sampler):
    loader = open_loader(sampler=sampler)
    drawn = [set_of(batch) for batch in loader.epoch(2)]
    plan = Planner(Dataset.open(tiny_shards).split("train"), sampler, seed=5, num_epochs=4, lanes=LANES).epoch(2)
    steps = len(plan) // 32
    planned = plan.samples(np.arange(steps * 32)).reshape(steps, 32)
    assert len(drawn) == 2 * steps
    for step in range(steps):
        assert sorted(drawn[2 * step] + drawn[2 * step + 1]) == sorted(planned[step].tolist())


def set_of(batch):
    return batch.samples.tolist()


EVERYTHING = {
    "augmentation": AugmentationConfig(
        brightness=0.4,
        policy={"kind": "rand_augment", "magnitude": 15},
        blur={"probability": 0.5},
        erasing={"probability": 0.5},
    ),
    "interpolation": "bicubic",
    "progressive": ProgressiveConfig(from_size=12, until_epoch=3, step=8),
}


@pytest.mark.parametrize(("epoch", "side"), [(0, 12), (1, 12), (2, 20), (3, 28)])
@pytest.mark.long
def test_with_everything_on_it_resumes_bit_for_bit_in_the_size_of_the_epoch(open_loader, epoch, side):
    whole = list(open_loader(**EVERYTHING).epoch(epoch))
    assert whole[0].images.shape == (16, 3, side, side)
    assert_same(open_loader(**EVERYTHING, threads=1, prefetch=3).epoch(epoch, 5), whole[10:])


@pytest.mark.long
def test_one_loader_goes_through_all_sizes(open_loader):
    loader = open_loader(**EVERYTHING)
    for epoch in (1, 2, 3, 0):
        assert_same(list(loader.epoch(epoch))[:3], list(open_loader(**EVERYTHING).epoch(epoch))[:3])


def test_two_ranks_see_what_one_sees_with_everything_on(open_loader):
    alone = list(open_loader(**EVERYTHING).epoch(2))
    ranks = [list(open_loader(rank=rank, ranks=2, **EVERYTHING).epoch(2)) for rank in range(2)]
    assert_same([batch for pair in zip(*ranks, strict=True) for batch in pair], alone)


def test_evaluation_is_not_touched_by_what_is_done_in_training(open_loader):
    plain = open_loader("evaluate", interpolation="bicubic")
    assert_same(open_loader("evaluate", **EVERYTHING), plain)


@pytest.mark.parametrize("first_step", [1, 5, 12, 13])
def test_resuming_continues_bit_for_bit(open_loader, first_step):
    jitter = AugmentationConfig(brightness=0.4, contrast=0.4, saturation=0.4)
    whole = list(open_loader(augmentation=jitter).epoch(3))
    rest = list(open_loader(augmentation=jitter).epoch(3, first_step))
    assert len(rest) == len(whole) - 2 * first_step
    if rest:
        assert_same(rest, whole[2 * first_step :])


def test_neither_threads_nor_prefetching_change_a_bit(open_loader):
    reference = list(open_loader(threads=1, prefetch=1).epoch(1))
    assert_same(open_loader(threads=3, prefetch=5).epoch(1), reference)


def test_two_ranks_see_what_one_sees(open_loader):
    alone = list(open_loader().epoch(1))
    ranks = [list(open_loader(rank=rank, ranks=2).epoch(1)) for rank in range(2)]
    assert_same([batch for pair in zip(*ranks, strict=True) for batch in pair], alone)


def test_epochs_differ(open_loader):
    loader = open_loader()
    one, other = next(loader.epoch(0)), next(loader.epoch(1))
    assert not torch.equal(one.samples, other.samples)


def test_leaving_an_epoch_early_leaves_nothing_behind(open_loader):
    loader = open_loader()
    expected = list(open_loader().epoch(1))
    for taken in (1, 3):
        abandoned = loader.epoch(0)
        assert len(list(islice(abandoned, taken))) == taken
        assert_same(loader.epoch(1), expected)
        assert next(abandoned, None) is None


def test_channels_last_is_a_memory_format(open_loader):
    plain, last = next(open_loader().epoch(0)), next(open_loader(channels_last=True).epoch(0))
    assert last.images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(plain.images, last.images)


def test_waiting_is_counted(open_loader):
    loader = open_loader(sampler=make_sampler())
    assert list(loader.epoch(0))
    waited = loader.stall_seconds
    assert waited > 0
    next(loader.epoch(1))
    assert loader.stall_seconds > waited


def test_no_more_batches_are_in_work_than_asked_for(tiny_shards):
    split = Dataset.open(tiny_shards).split("train")
    config = DataConfig(shards=tiny_shards, image_size=28, resize=32, threads=1, prefetch=3)
    begun = []

    class Recorded:
        def __len__(self):
            return 10

        def samples(self, batch):
            return np.arange(4) + 4 * batch

        def augmentation(self, batch, samples):
            begun.append(batch)
            return evaluation_augmentation(split.width[samples], split.height[samples], resize=32, image_size=28)

    feed = Feed(split, config, batch_size=4, device=CPU)
    for taken, _ in enumerate(feed.batches(Recorded()), start=1):
        assert begun == list(range(min(taken + 3, 10)))
    feed.close()


@pytest.mark.parametrize("ranks", [1, 3, 7])
@pytest.mark.parametrize("batch_size", [1, 32, 1000])
def test_evaluation_sees_each_sample_once(open_loader, tiny_shards, ranks, batch_size):
    split = Dataset.open(tiny_shards).split("val")
    seen = []
    for rank in range(ranks):
        loader = open_loader("evaluate", rank=rank, ranks=ranks, batch_size=batch_size, name="val")
        batches = list(loader)
        assert len(batches) == len(loader)
        assert {len(batch.images) for batch in batches[:-1]} <= {batch_size}
        assert all(len(batch.images) == len(batch.labels) == len(batch.samples) for batch in batches)
        seen += [sample for batch in batches for sample in batch.samples.tolist()]
        labels = torch.cat([batch.labels for batch in batches]).numpy()
        np.testing.assert_array_equal(labels, split.label[rank::ranks])
    assert sorted(seen) == list(range(len(split)))


def test_evaluation_images_do_not_depend_on_batches_or_ranks(open_loader):
    reference = torch.cat([batch.images for batch in open_loader("evaluate", batch_size=50)])
    for rank in range(3):
        images = torch.cat([batch.images for batch in open_loader("evaluate", rank=rank, ranks=3, batch_size=7)])
        assert torch.equal(images, reference[rank::3])


def test_evaluation_can_be_repeated(open_loader):
    loader = open_loader("evaluate")
    next(iter(loader))
    assert_same(loader, loader)


def test_a_rank_without_samples_has_no_batches(open_loader):
    loader = open_loader("evaluate", rank=999, ranks=1000)
    assert len(loader) == 0
    assert list(loader) == []


def test_an_epoch_shorter_than_a_batch_is_refused(tiny_shards):
    split = Dataset.open(tiny_shards).split("train")
    planner = Planner(split, make_sampler(), seed=0, num_epochs=1, samples_per_epoch=8, lanes=1)
    config = DataConfig(shards=tiny_shards, image_size=28, resize=32)
    loader = TrainLoader(split, config, planner=planner, batching=Batching(16, 16, World(), 1), seed=0, device=CPU)
    with pytest.raises(UsageError, match="an epoch has 8 samples, fewer than"):
        next(loader.epoch(0))
    loader.close()


# Damage


@pytest.fixture
def rot(tiny_shards, tmp_path):
    """Overwrite the image of a test sample in a copy of the tiny dataset."""
    shutil.copytree(tiny_shards, tmp_path / "shards")
    split = Dataset.open(tmp_path / "shards").split("test")

    def overwrite(sample, damaged, since_the_build=True):
        size, offset = int(split.size[sample]), int(split.offset[sample])
        with open(split.shard_path(int(split.shard[sample])), "r+b") as shard:
            shard.seek(offset)
            shard.write(damaged[:size])
            shard.seek(offset)
            now = shard.read(size)
        if not since_the_build:
            checksums = np.load(split.folder / "index" / "checksum.npy")
            checksums[sample] = checksum(now)
            np.save(split.folder / "index" / "checksum.npy", checksums)
        return split

    return overwrite


@pytest.mark.parametrize("sample", [0, 100, 239])
def test_a_rotten_image_is_named(open_loader, rot, sample):
    split = rot(sample, bytes(10**6))
    with pytest.raises(DataError) as caught:
        list(open_loader("evaluate", shards=split.folder.parent))
    message = str(caught.value)
    assert message.startswith(f"{split.describe(sample)}: its bytes do not have the checksum of the index")
    assert "inspect --verify" in message
    assert "\n" not in message


def test_an_image_that_was_never_readable_is_named(open_loader, rot):
    split = rot(50, bytes(10**6), since_the_build=False)
    with pytest.raises(DataError, match=r"\(sample 50\): not a readable image \(cannot identify image file\)\. Build"):
        list(open_loader("evaluate", shards=split.folder.parent))


def test_an_image_of_another_size_than_the_index_says_is_named(open_loader, rot):
    small = io.BytesIO()
    Image.new("RGB", (9, 9)).save(small, "JPEG")
    split = rot(7, small.getvalue(), since_the_build=False)
    with pytest.raises(DataError, match=r"\(sample 7\): is 9 x 9 pixels, but the index says 32 x 32"):
        list(open_loader("evaluate", shards=split.folder.parent, resize=28))


def test_after_an_error_the_loader_starts_again(open_loader, rot):
    split = rot(100, bytes(10**6))
    loader = open_loader("evaluate", shards=split.folder.parent)
    for _ in range(2):
        with pytest.raises(DataError, match=r"sample 100\)"):
            list(loader)


def test_a_shard_that_vanishes_is_named(open_loader, rot):
    split = rot(0, b"")
    shutil.rmtree(split.folder / "shards")
    with pytest.raises(DataError, match="this shard is missing"):
        list(open_loader("evaluate", shards=split.folder.parent))


@pytest.mark.long
def test_a_process_that_leaves_an_epoch_ends_at_once_and_in_silence(tiny_shards):
    script = f"""
        import torch
        from pathlib import Path
        from ltrsys.data.config import DataConfig
        from ltrsys.data.index.dataset import Dataset
        from ltrsys.data.loading.loader import EvaluationLoader
        from ltrsys.world import World

        split = Dataset.open(Path({str(tiny_shards)!r})).split("test")
        config = DataConfig(shards=Path("."), image_size=28, resize=32, threads=2)
        loader = EvaluationLoader(split, config, batch_size=8, world=World(), device=torch.device("cpu"))
        batches = iter(loader)
        next(batches)
        print("left")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "left\n", "")
