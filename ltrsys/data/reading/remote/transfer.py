"""Bytes behind URLs, asked for again until they come; fsspec's clients for http(s) and s3 do the transfer."""

import logging
import random
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from ltrsys.errors import DataError, UsageError

log = logging.getLogger("ltrsys")

BLOCK_BYTES = 16 * 2**20
"""A long file is asked for in pieces of this size, so that a cut connection costs one of them."""
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 30.0
"""Seconds before the second try, doubled before every other."""
TOLD_AFTER = 5
"""Tries after which a server that does not answer is told of, once: some seconds, if it refuses at once."""
LONGEST_SILENCE = 60.0
"""Seconds without a byte before a connection counts as dead."""


class Closed(Exception):
    """The transfer is no longer wanted."""


class Transfer:
    """Reads from servers that may be slow, cut connections or fail for a while."""

    def __init__(self, retry_seconds: float) -> None:
        """Connect to nothing yet.

        Args:
            retry_seconds: How long to go on trying without a byte before giving up.
        """
        self.retry_seconds = retry_seconds
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._bytes_received = 0

    @property
    def bytes_received(self) -> int:
        """Bytes of pieces that have come."""
        return self._bytes_received

    def close(self) -> None:
        """Have every thread that still waits here leave with `Closed`."""
        self._closed.set()

    def whole(self, url: str) -> bytes:
        """Return a short file.

        Raises:
            FileNotFoundError: Where the server says that there is none.
            DataError: After `retry_seconds` without success, or at once where access is denied.
        """
        return self._download(url, None, 0)

    def pieces(self, url: str, size: int) -> Iterator[bytes]:
        """Yield a file of `size` bytes, piece by piece; raises what `whole` raises."""
        done = 0
        while done < size:
            piece = self._download(url, (done, min(done + BLOCK_BYTES, size)), size)
            done += len(piece)
            with self._lock:
                self._bytes_received += len(piece)
            yield piece

    def patience(self) -> "Patience":
        """Begin to try something."""
        return Patience(self.retry_seconds, self._closed)

    def _download(self, url: str, part: tuple[int, int] | None, size: int) -> bytes:
        """Return a file, or bytes `part` of one of `size` bytes, asking until it comes or the time is up."""
        patience = self.patience()
        while True:
            try:
                return self._download_once(url, part, size)
            except FileNotFoundError:
                raise
            except Exception as error:  # of aiohttp, botocore, asyncio: whatever it is, the next try may succeed
                reason = f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")[:200]
                denied = isinstance(error, PermissionError) or getattr(error, "status", None) in (401, 403)
            if denied:
                raise DataError(
                    f"{url}: access is denied ({reason}). Check its spelling and your credentials (~/.netrc, or AWS_*)."
                )
            if patience.tries == TOLD_AFTER:
                log.warning("%s: %s. It is asked again for up to %g s.", url, reason, self.retry_seconds)
            if not patience.wait():
                raise DataError(
                    f"{url}: given up after {patience.tries} tries in {patience.waited:.0f} s ({reason}). When the "
                    "server answers again, the same command goes on; data.retry_seconds says how long to wait for it."
                )

    def _download_once(self, url: str, part: tuple[int, int] | None, size: int) -> bytes:
        client = _client(urlsplit(url).scheme, min(LONGEST_SILENCE, self.retry_seconds / 3))
        if part is None:
            return client.cat_file(url)
        begin, end = part
        content = client.cat_file(url, start=begin, end=end)
        if len(content) == end - begin:
            return content
        if len(content) == size:
            return content[begin:]  # a server that knows no ranges sends all there is
        raise OSError(f"{len(content)} bytes came instead of {end - begin}")


class Patience:
    """Pauses between tries, each twice as long as the one before, until the time is up."""

    def __init__(self, seconds: float, closed: threading.Event) -> None:
        self._seconds, self._closed = seconds, closed
        self._started, self._pause = time.monotonic(), FIRST_PAUSE
        self.tries = 1

    @property
    def waited(self) -> float:
        """Seconds since the first try began."""
        return time.monotonic() - self._started

    def wait(self) -> bool:
        """Wait before the next try; False at once where the time would be over before it.

        Not all ranks come back at the same moment.

        Raises:
            Closed: Where the transfer is closed meanwhile.
        """
        if self.waited + self._pause > self._seconds:
            return False
        if self._closed.wait(self._pause * random.uniform(0.5, 1)):
            raise Closed
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self.tries += 1
        return True


def _client(scheme: str, silence: float) -> Any:
    """Return fsspec's client, which fsspec keeps and shares."""
    try:
        import fsspec

        if scheme == "s3":
            patience = {"connect_timeout": silence, "read_timeout": silence, "retries": {"max_attempts": 1}}
            return fsspec.filesystem("s3", config_kwargs=patience, use_listings_cache=False)
        import aiohttp
    except ImportError as error:
        raise UsageError(
            f"data.shards is a URL, for which `{error.name}` is missing here: pip install 'ltrsys[remote]'."
        ) from None
    # trust_env: proxies from the environment and passwords from ~/.netrc
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=silence, sock_read=silence)
    return fsspec.filesystem("http", client_kwargs={"timeout": timeout, "trust_env": True}, use_listings_cache=False)
