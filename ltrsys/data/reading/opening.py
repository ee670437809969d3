"""Opens datasets and their shards, wherever they are: on a disk, or behind a URL."""

import os
import tempfile
from pathlib import Path

from pydantic import ValidationError

from ltrsys.data.config import DataConfig
from ltrsys.data.index.dataset import Dataset, Split
from ltrsys.data.reading.remote.cache import ShardCache
from ltrsys.data.reading.remote.dataset import RemoteFolder
from ltrsys.data.reading.shard_files import LocalShards, ShardFiles
from ltrsys.errors import UsageError


def open_dataset(config: DataConfig) -> Dataset:
    """Open `data.shards`: a folder, or the URL of one, whose index is then fetched into the cache.

    Raises:
        DataError: Where there is no dataset, or its server is gone for good.
        UsageError: Where the clients for URLs are not installed.
    """
    if isinstance(config.shards, Path):
        return Dataset.open(config.shards)
    folder = config.cache or Path(tempfile.gettempdir()) / f"ltrsys-shards-{os.getuid()}"
    cache = ShardCache(folder, int(config.cache_gb * 1e9))
    return RemoteFolder(config.shards, cache, config.retry_seconds).open()


def open_named(shards: str, cache: Path | None = None) -> Dataset:
    """Open what a command line names: a folder or a URL, whose index is then fetched into `cache`.

    Raises:
        UsageError: Where it is neither.
        DataError: Where there is no dataset.
    """
    try:
        config = DataConfig(shards=shards, cache=cache)
    except ValidationError as error:
        raise UsageError(error.errors()[0]["msg"].removeprefix("Value error, ") + ".") from None
    return open_dataset(config)


def open_files(split: Split) -> ShardFiles:
    """Return the shards of a split, wherever they are."""
    return split.origin.shards(split) if isinstance(split.origin, RemoteFolder) else LocalShards(split)
