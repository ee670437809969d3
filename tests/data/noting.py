"""What a process of the quarantine's tests does; a module of its own, since it imports little."""

from ltrsys.data.index.dataset import Dataset
from ltrsys.data.reading.quarantine import Quarantine
from ltrsys.data.reading.reader import BadSample


def note_all(shards, path, start):
    """Note 100 samples, the same ones as the other processes at the same time: when all have come to `start`."""
    split = Dataset.open(shards).split("train")
    quarantine = Quarantine(split, max_share=1.0, path=path)
    start.wait()
    for sample in range(100):
        quarantine.add(BadSample(split, sample, "bad."))
