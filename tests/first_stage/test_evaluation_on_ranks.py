"""An evaluation counts each test image once, on any number of ranks.

Real: 24,426 JPEGs of 8,142 classes, three each, in shards with their index, read and decoded by the loader; one to
four processes over gloo; iNaturalist's training counts for many, medium and few. Not real: the images, of 8 x 8
pixels, and the network, which finds the nearest colours, in arithmetic without rounding.
"""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.plan import inaturalist_counts
from ltrsys.config.schema import Config
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.index.records import ClassRecord
from ltrsys.data.shards.building import build_shards
from ltrsys.data.sources.source import Items, Source
from ltrsys.metrics.accuracy import accuracy_by_column, shot_of_class
from tests.first_stage.evaluating_ranks import NUM_CLASSES, TEST_IMAGES, evaluate_rank, nearest_colours, read_image
from tests.trainings import finish, start_processes

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    labels = np.tile(np.arange(NUM_CLASSES, dtype=np.int32), 3)
    names = [f"{label}-{number // NUM_CLASSES}" for number, label in enumerate(labels)]
    train = Items(names[:NUM_CLASSES:1000], labels[:NUM_CLASSES:1000])
    source = Source(
        kind="colours",
        name="colours",
        classes=[ClassRecord(name=str(label)) for label in range(NUM_CLASSES)],
        splits={"train": train, "test": Items(names, labels)},
        read=read_image,
    )
    folder = tmp_path_factory.mktemp("colours")
    build_shards(source, folder)
    return folder


def evaluate(ranks: int, config: Config, results: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return predictions and features as so many ranks make them."""
    results.mkdir()
    features = np.full((TEST_IMAGES, nearest_colours().feature_dim), np.nan, dtype=np.float32)
    np.save(results / "features.npy", features)
    finish(start_processes(evaluate_rank, ranks, config, results))
    first, *others = (np.load(results / f"predictions-{rank}.npy") for rank in range(ranks))
    assert all((other == first).all() for other in others)
    return first, np.load(results / "features.npy")


def test_24426_images_give_the_same_numbers_on_1_2_3_and_4_ranks(shards, tmp_path):
    config = Config.model_validate(
        {
            "name": "colours",
            "data": {
                "shards": str(shards),
                "image_size": 8,
                "resize": 8,
                "threads": 1,
                "mean": [0.0] * 3,
                "std": [1.0] * 3,
            },
            "train": {"precision": "float32"},
        }
    )
    labels = Dataset.open(shards).split("test").label.astype(np.int64)
    assert len(labels) == TEST_IMAGES == 24_426
    assert (np.bincount(labels) == 3).all()
    alone, features = evaluate(1, config, tmp_path / "1")
    shots = shot_of_class(inaturalist_counts(), config.shots)
    accuracies = accuracy_by_column(labels, alone, shots)
    assert all(20 < accuracy < 99 for accuracy in accuracies.values()), accuracies  # neither chance nor trivial
    assert np.isfinite(features).all()
    for ranks in (2, 3, 4):
        predictions, features_of_ranks = evaluate(ranks, config, tmp_path / str(ranks))
        np.testing.assert_array_equal(predictions, alone)
        np.testing.assert_array_equal(features_of_ranks, features)
        assert accuracy_by_column(labels, predictions, shots) == accuracies
