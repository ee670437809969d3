"""The image behind a URL, asked for until it comes whole; whatever else a server may send is refused."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from ltrsys import __version__
from ltrsys.data.sources.fetching.politeness import LONGEST_WAIT, Politeness, wait
from ltrsys.data.sources.files.text_files import one_line
from ltrsys.errors import LtrsysError

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

USER_AGENT = f"ltrsys/{__version__} (fetches a data set of images; python-urllib3)"
TRIES = 5
FIRST_PAUSE = 1.0
"""Seconds before the second try, doubled before every other, unless the server names them (`Retry-After`)."""
LONGEST_SILENCE = 30.0
"""Seconds without a byte before a connection counts as dead."""
LONGEST_FETCH = 300.0
"""Seconds that one image may take."""
MOST_BYTES = 200 * 2**20
"""A longer image is refused."""
MOST_REDIRECTS = 5
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""What a server answers that may answer otherwise later."""
MOST_UNANSWERED = 3
"""Images in a row that a server does not give, though asked `TRIES` times for each, before it counts as gone."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PIECE = 2**16

_answered: set[str] = set()
_unanswered: dict[str, int] = {}
"""Servers that have answered this process, and how many images in a row they have not."""


class FetchError(OSError):
    """An image that cannot be fetched; the message says why, not which."""


class _PassingError(Exception):
    """What may go well another time, perhaps after `seconds` that the server has named."""

    def __init__(self, reason: str, *, seconds: float | None = None, of_server: bool = False) -> None:
        super().__init__(reason)
        self.seconds = seconds
        self.of_server = of_server
        """Whether it is the whole server that does not answer; else it may be this image alone."""


def fetch(url: str, politeness: Politeness) -> bytes:
    """Return the image behind a URL.

    Raises:
        FetchError: Where the server has none, sends something else or too much, or does not answer.
        LtrsysError: Where a server that did answer no longer does: what it has is not to be taken for lost.
    """
    host = _host(url)
    if _unanswered.get(host, 0) >= MOST_UNANSWERED:
        reason = f"{host} has not given {MOST_UNANSWERED} images in a row, and is not asked for more"
        raise _given_up(host, reason, of_server=True)
    pause = FIRST_PAUSE
    for tries in range(1, TRIES + 1):
        try:
            with politeness.turn(host):
                content = _follow(url)
        except _PassingError as error:
            if error.seconds is not None:
                if error.seconds > LONGEST_WAIT:
                    reason = f"{error}, and wants to be asked again in {error.seconds:.0f} s"
                    raise _given_up(host, reason, of_server=error.of_server) from None
                politeness.hold_back(host, error.seconds)
            elif tries < TRIES:
                wait(pause)
                pause *= 2
            reason, of_server = f"{error}, {TRIES} times", error.of_server
            continue
        except FetchError:
            _has_answered(host)
            raise
        _has_answered(host)
        return content
    raise _given_up(host, reason, of_server=of_server)


def _has_answered(host: str) -> None:
    _answered.add(host)
    _unanswered.pop(host, None)


def _given_up(host: str, reason: str, *, of_server: bool) -> Exception:
    if of_server:
        _unanswered[host] = _unanswered.get(host, 0) + 1
    if host in _answered and _unanswered.get(host, 0) >= MOST_UNANSWERED:
        return LtrsysError(
            f"{host} no longer gives images: {reason}. What was fetched is kept: run the same command again later, "
            "perhaps with fewer --requests-per-second."
        )
    return FetchError(reason)


def _follow(url: str) -> bytes:
    """Ask once, and wherever that leads."""
    import urllib3

    deadline = time.monotonic() + LONGEST_FETCH
    for _ in range(MOST_REDIRECTS + 1):
        try:
            response = _pools(_proxy(url)).request("GET", url, redirect=False, retries=False, preload_content=False)
        except urllib3.exceptions.LocationParseError:
            raise FetchError("this is no URL") from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _PassingError(f"no connection ({_said(error)})", of_server=True) from None
        except ValueError as error:  # http.client's on control characters, and of names that are no host's
            raise FetchError(f"this is no URL ({_said(error)})") from None
        try:
            if response.status not in _REDIRECTS:
                return _body(response, deadline)
            target = response.headers.get("Location")
        finally:
            response.close()
        if not target:
            raise FetchError("the server redirects, and does not say where to")
        url = _redirected(url, target)
    raise FetchError(f"the server redirects more than {MOST_REDIRECTS} times")


def _redirected(url: str, target: str) -> str:
    try:
        new = urljoin(url, target)
        scheme = urlsplit(new).scheme
    except ValueError:
        scheme = ""
    if scheme not in ("http", "https"):
        raise FetchError(f"the server redirects to {one_line(target[:200])}, which is no http or https URL")
    return new


def _body(response: "BaseHTTPResponse", deadline: float) -> bytes:
    """Return what was sent, if it is an image as far as can be told here, and whole."""
    import urllib3

    headers = response.headers
    if response.status in PASSING:
        raise _PassingError(
            f"the server answers {response.status}",
            seconds=_seconds(headers.get("Retry-After")),
            of_server=response.status in (429, 503),
        )
    if response.status != 200:
        raise FetchError(f"the server answers {response.status}")
    kind = one_line(headers.get("Content-Type", "").split(";")[0].strip().lower()[:100])
    if kind.startswith("text/") or kind in ("application/json", "application/xml", "application/xhtml+xml"):
        raise FetchError(f"the server sends {kind} and no image")
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise FetchError("the server sends it compressed, which it was not asked to")
    length = headers.get("Content-Length", "")
    if length.isdecimal() and int(length[:20]) > MOST_BYTES:
        raise FetchError(f"it has {length[:20]} bytes, more than {MOST_BYTES}")
    try:
        content = _read(response.read1, deadline)  # which raises where the body is shorter than its Content-Length
    except (urllib3.exceptions.HTTPError, OSError) as error:
        if isinstance(error, FetchError):
            raise
        raise _PassingError(f"the connection ended early ({_said(error)})") from None
    if not content:
        raise FetchError("the server sends nothing")
    if content[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html", b"<head")):
        raise FetchError("the server sends a page and no image")
    return content


def _read(read: Callable[[int], bytes], deadline: float) -> bytes:
    pieces = []
    size = 0
    while piece := read(_PIECE):  # what has come, and not all that is asked for: a server may send a byte a second
        pieces.append(piece)
        size += len(piece)
        if size > MOST_BYTES:
            raise FetchError(f"it has more than {MOST_BYTES} bytes")
        if time.monotonic() > deadline:
            raise FetchError(f"it was not there after {LONGEST_FETCH:.0f} s, {size} bytes of it")
    return b"".join(pieces)


def _seconds(retry_after: str | None) -> float | None:
    """Return the seconds that a `Retry-After` names, as a number or as a date."""
    if retry_after is None:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after.strip()[:9])
    try:
        then = parsedate_to_datetime(retry_after)
        return max(0.0, (then.replace(tzinfo=then.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    except (ValueError, OverflowError):
        return None


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc.rpartition("@")[2] or "?"
    except ValueError:
        raise FetchError("this is no URL") from None


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())
    return one_line(text.rpartition(": ")[2][:200] or type(error).__name__)


def _proxy(url: str) -> str | None:
    """Return the proxy that the environment names for a URL."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)


@cache
def _pools(proxy: str | None) -> "PoolManager":
    import urllib3

    silence = urllib3.Timeout(connect=LONGEST_SILENCE, read=LONGEST_SILENCE)
    # `identity`: an image is compressed, and what Content-Length counts is what comes.
    headers = {"User-Agent": USER_AGENT, "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}
    if proxy is not None:
        return urllib3.ProxyManager(proxy, headers=headers, timeout=silence)
    return urllib3.PoolManager(headers=headers, timeout=silence)
