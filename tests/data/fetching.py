"""What a process of the tests of remote shards does; a module of its own, since it imports little."""

import hashlib

import numpy as np

from ltrsys.data.config import DataConfig
from ltrsys.data.reading.opening import open_dataset
from ltrsys.data.reading.reader import ShardReader


def read_everything(config: DataConfig) -> str:
    """Read every training image; return the SHA-256 of them all."""
    split = open_dataset(config).split("train")
    reader = ShardReader(split)
    samples = np.arange(len(split))
    reader.announce(samples)
    digest = hashlib.sha256(b"".join(reader.read(samples))).hexdigest()
    reader.close()
    return digest
