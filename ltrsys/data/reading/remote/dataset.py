"""Datasets behind a URL: the index fetched once, shards fetched ahead of use into a cache of bounded size."""

import hashlib
import json
import queue
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np

from ltrsys.data.index.columns import COLUMNS, column_path
from ltrsys.data.index.dataset import Dataset, Split
from ltrsys.data.index.records import DatasetRecord, SplitRecord, parse_record
from ltrsys.data.reading.remote.cache import ShardCache, WrongBytes
from ltrsys.data.reading.remote.transfer import Closed, Transfer
from ltrsys.data.reading.shard_files import ShardFile
from ltrsys.errors import DataError
from ltrsys.files import explained, replaced
from ltrsys.progress import progress
from ltrsys.world import World

FETCHED_AT_ONCE = 4
"""Shards that one loader fetches at the same time."""
_NPY_HEADER = 128
"""Bytes before the values of a one-dimensional array in an .npy file."""


@dataclass(frozen=True)
class RemoteFolder:
    """The folder of a dataset on a server."""

    place: str
    """Its URL, without a last slash."""
    cache: ShardCache
    retry_seconds: float

    def url(self, *parts: str) -> str:
        """Return the URL of a file in it."""
        # s3 takes keys as they are; http takes them quoted. Names of files are plain: this changes none.
        return "/".join((self.place, *(quote(part) for part in parts)))

    def open(self) -> Dataset:
        """Fetch what is missing of the index, and open it."""
        transfer = Transfer(self.retry_seconds)
        place = self.url("dataset.json")
        try:
            content = transfer.whole(place)
        except FileNotFoundError:
            raise DataError(
                f"{place}: there is no dataset index here. Copy the whole folder of the shards there."
            ) from None
        try:
            record = parse_record(json.loads(content), place)
        except ValueError as error:
            raise DataError(f"{place}: not a dataset index: {error}.") from None
        folder = self.cache.root / hashlib.sha256(self.place.encode() + b"\n" + content).hexdigest()[:20]
        columns = [column_path(folder / name, column) for name in _with_samples(record) for column in COLUMNS]
        with explained(folder):  # one by one: what cleans temporary folders takes files, not datasets
            complete = all(path.exists() for path in (folder / "dataset.json", *columns))
        if not complete:
            self._fetch_index(transfer, record, folder)
            with replaced(folder / "dataset.json") as file:
                file.write(content)
        return Dataset(folder, record, self)

    def shards(self, split: Split) -> "RemoteShards":
        """Return the shards of a split, to be fetched."""
        return RemoteShards(split, self)

    def _fetch_index(self, transfer: Transfer, record: DatasetRecord, folder: Path) -> None:
        splits = _with_samples(record)
        with progress("fetching the index", len(splits) * len(COLUMNS)) as advance:
            for name, split in splits.items():
                for column, dtype in COLUMNS.items():
                    size = _NPY_HEADER + split.samples * np.dtype(dtype).itemsize
                    path = column_path(folder / name, column)
                    try:
                        self.fetch(transfer, path, size, split.columns.get(column, ""), counted=False)
                    except FileNotFoundError:
                        raise DataError(
                            f"{self.url(name, 'index', path.name)}: this column of the index is missing. Copy the "
                            "whole folder of the shards there."
                        ) from None
                    advance()

    def fetch(self, transfer: Transfer, path: Path, size: int, sha256: str, *, counted: bool = True) -> None:
        """Have a file of the dataset in the cache.

        Raises:
            FileNotFoundError: Where the server says that there is none.
            DataError: Where the server is gone for good, or goes on sending other bytes.
        """
        url = self.url(path.parent.parent.name, path.parent.name, path.name)
        patience = transfer.patience()
        while True:
            try:
                return self.cache.fetch(path, size, sha256, lambda: transfer.pieces(url, size), counted=counted)
            except WrongBytes as error:
                if not patience.wait():
                    raise DataError(
                        f"{url}: {error}, however often it is asked for. Copy this file there again, from a folder "
                        "that `ltrsys inspect --verify` finds whole."
                    ) from None


def _with_samples(record: DatasetRecord) -> dict[str, SplitRecord]:
    """Return the splits that have an index, by name."""
    return {name: split for name, split in record.splits.items() if split.samples}


class RemoteShards:
    """The shards of a split on a server, fetched by threads in the order in which they will be used."""

    block_bytes = 512 * 2**20
    advice = "Copy it there again, or build the shards again."

    def __init__(self, split: Split, remote: RemoteFolder) -> None:
        """Fetch nothing yet; half of the cache is for what this node's ranks hold open, half for what comes next."""
        self._split, self._remote = split, remote
        self._transfer = Transfer(remote.retry_seconds)
        largest = max(shard.bytes for shard in split.record.shards)
        fit = int(remote.cache.limit / max(1, largest) / World.detect().local_world_size)
        # One more may be fetched because it is wanted now.
        self._most_ahead = max(1, (fit - 1) // 2)
        self.most_open = min(256, self._most_ahead)
        self._coming: deque[int] = deque()
        self._ahead: dict[int, Future[None]] = {}
        """Fetched, or being fetched, and not opened yet."""
        self._tasks: queue.SimpleQueue[tuple[int, Future[None]] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._invalidated: set[int] = set()

    @property
    def bytes_fetched(self) -> int:
        """Bytes that have come from the server."""
        return self._transfer.bytes_received

    def begin_pass(self) -> None:
        """Forget what was announced; what is being fetched comes all the same."""
        self._coming.clear()
        self._ahead.clear()

    def announce(self, shards: Sequence[int]) -> None:
        """Have these fetched, in this order, as far ahead as the cache allows."""
        known = {*self._coming, *self._ahead}
        self._coming.extend(shard for shard in shards if shard not in known)
        self._schedule()

    def at_hand(self, shard: int) -> bool:
        """Whether the shard is in the cache."""
        return self._path(shard).exists()

    def open(self, shard: int) -> ShardFile:
        """Open a shard, fetching it first or waiting for it where it is not there yet."""
        ahead = self._ahead.pop(shard, None)
        if ahead is not None:
            ahead.result()
        while (file := self._remote.cache.open(self._path(shard))) is None:
            self._fetch(shard)
        self._schedule()
        return file

    def invalidate(self, shard: int) -> bool:
        """Drop the copy in the cache, once; False where that has been tried."""
        if shard in self._invalidated:
            return False
        self._invalidated.add(shard)
        with suppress(FileNotFoundError):
            self._path(shard).unlink()
        return True

    def close(self) -> None:
        """Have the threads end; they do when what they wait for comes or fails."""
        self._transfer.close()
        for _ in self._threads:
            self._tasks.put(None)

    def _schedule(self) -> None:
        """Give the threads as many of the shards that come next as the cache has room for."""
        while self._coming and len(self._ahead) < self._most_ahead:
            shard = self._coming.popleft()
            if self.at_hand(shard):
                continue
            self._ahead[shard] = Future()
            self._tasks.put((shard, self._ahead[shard]))
            if len(self._threads) < FETCHED_AT_ONCE:
                # daemons: a process that ends does not wait for a server
                self._threads.append(threading.Thread(target=self._work, daemon=True))
                self._threads[-1].start()

    def _work(self) -> None:
        while True:
            task = self._tasks.get()
            if task is None:
                return
            shard, done = task
            try:
                self._fetch(shard)
            except Closed:
                return
            except Exception as error:  # told to whoever opens the shard
                done.set_exception(error)
            else:
                done.set_result(None)

    def _fetch(self, shard: int) -> None:
        record = self._split.record.shards[shard]
        self._remote.fetch(self._transfer, self._path(shard), record.bytes, record.sha256)

    def _path(self, shard: int) -> Path:
        return self._split.shard_path(shard)
