from ltrsys.data.config import DataConfig
from ltrsys.data.index.dataset import Dataset
from ltrsys.first_stage.telling import describe_fetching


def large(shards, train_bytes, val_bytes):
    """The dataset with shards of other sizes in its record."""
    dataset = Dataset.open(shards)
    sizes = {"train": train_bytes, "val": val_bytes, "test": 10**15}
    splits = {
        name: split.model_copy(update={"shards": [split.shards[0].model_copy(update={"bytes": sizes[name]})]})
        for name, split in dataset.record.splits.items()
    }
    return Dataset(dataset.folder, dataset.record.model_copy(update={"splits": splits}))


def test_shards_that_came_again_and_again_are_told_with_the_size_that_holds_them(tiny_shards):
    dataset = large(tiny_shards, 100 * 10**9, 3 * 10**9)
    config = DataConfig(shards="https://host/shards", cache_gb=50.0)
    told = describe_fetching(dataset, config, 400 * 10**9, nodes=1)
    assert told is not None
    assert "400.0 GB of training shards came over the network, and there are only 100.0 GB" in told
    assert "data.cache_gb=50 does not hold" in told
    assert told.endswith("data.cache_gb=103 holds all of it.")


def test_shards_that_came_once_to_each_node_are_no_news(tiny_shards):
    dataset = large(tiny_shards, 100 * 10**9, 3 * 10**9)
    small, enough = (DataConfig(shards="https://host/shards", cache_gb=size) for size in (50.0, 103.0))
    assert describe_fetching(dataset, small, 0, nodes=1) is None
    assert describe_fetching(dataset, small, 100 * 10**9, nodes=1) is None
    assert describe_fetching(dataset, small, 400 * 10**9, nodes=4) is None
    assert describe_fetching(dataset, enough, 400 * 10**9, nodes=1) is None
