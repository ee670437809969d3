"""What a process of the quarantine's tests does; a module of its own, since it imports little."""

import os

import numpy as np

from ltrsys.data.index import Dataset
from ltrsys.data.quarantine import Quarantine
from ltrsys.data.reader import BadSample


def note_all(shards, path, start):
    """Note 100 samples in an order of this process's own, from when all processes have come to `start`."""
    split = Dataset.open(shards).split("train")
    quarantine = Quarantine(split, max_share=1.0, path=path)
    start.wait()
    for sample in np.random.default_rng(os.getpid()).permutation(100).tolist():
        quarantine.add(BadSample(split, sample, "bad."))
