"""Images behind URLs: each is fetched once, and only what is an image and whole is kept."""

import errno
import pickle
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import numpy as np
import pytest

from ltrsys import __version__
from ltrsys.data.index.records import ClassRecord
from ltrsys.data.shards.building import build_shards
from ltrsys.data.sources.fetching import http_client
from ltrsys.data.sources.fetching.politeness import LONGEST_WAIT, Politeness
from ltrsys.data.sources.fetching.reader import FetchedImages
from ltrsys.data.sources.source import Items, Source
from ltrsys.errors import DataError, LtrsysError
from tests.data.sources.image_server import Answer, ImageServer
from tests.data.sources.pictures import encode, picture

pytestmark = pytest.mark.usefixtures("waits")

HTML = {"Content-Type": "text/html; charset=utf-8"}


def kept(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and ".fetching" not in path.parts]


def test_what_is_fetched_is_never_fetched_again(images_online: ImageServer, tmp_path: Path) -> None:
    url = images_online.give("/a.jpg", Answer(b"jpeg"))
    read = FetchedImages(tmp_path)
    assert read(url) == b"jpeg"
    assert pickle.loads(pickle.dumps(read))(url) == b"jpeg"
    assert images_online.requests == {"/a.jpg": 1}
    assert images_online.user_agents == {http_client.USER_AGENT}
    assert f"ltrsys/{__version__}" in http_client.USER_AGENT


def test_with_a_base_images_are_kept_by_their_path_and_those_that_are_there_not_fetched(
    images_online: ImageServer, tmp_path: Path
) -> None:
    images_online.give("/bucket/photos/1/medium.jpg", Answer(b"one"))
    (tmp_path / "photos/2").mkdir(parents=True)
    (tmp_path / "photos/2/medium.jpg").write_bytes(b"two")
    read = FetchedImages(tmp_path, base=f"{images_online.url}/bucket")
    assert [read("photos/1/medium.jpg"), read("photos/2/medium.jpg")] == [b"one", b"two"]
    assert (tmp_path / "photos/1/medium.jpg").read_bytes() == b"one"
    assert images_online.requests == {"/bucket/photos/1/medium.jpg": 1}


def test_paths_are_read_below_the_root_and_never_fetched(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"a")
    read = FetchedImages(None, tmp_path)
    assert read("a.jpg") == b"a"
    assert read.version("a.jpg").startswith("1 ")
    with pytest.raises(FileNotFoundError):
        read("b.jpg")
    with pytest.raises(FileNotFoundError):
        read.version("b.jpg")


def test_redirects_are_followed(images_online: ImageServer, tmp_path: Path) -> None:
    url = images_online.give("/old.jpg", Answer(status=302, headers={"Location": "/new.jpg"}))
    images_online.give("/new.jpg", Answer(b"jpeg"))
    assert FetchedImages(tmp_path)(url) == b"jpeg"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(b"no", 404), "the server answers 404"),
        (Answer(b"no", 403), "the server answers 403"),
        (Answer(status=302, headers={"Location": "/a.jpg"}), "redirects more than 5 times"),
        (
            Answer(status=301, headers={"Location": "file:///etc/passwd"}),
            "redirects to file:///etc/passwd, which is no",
        ),
        (Answer(status=301, headers={}), "redirects, and does not say where to"),
        (Answer(b"<p>Please log in", headers=HTML), "the server sends text/html and no image"),
        (Answer(b" <!DOCTYPE HTML><p>Please log in"), "the server sends a page and no image"),
        (Answer(b"<html>", headers={}), "the server sends a page and no image"),
        (Answer(b"{}", headers={"Content-Type": "application/json"}), "the server sends application/json and no image"),
        (Answer(b"", headers={}), "the server sends nothing"),
        (Answer(b"x", headers={"Content-Encoding": "gzip"}), "sends it compressed"),
        (Answer(b"x", length=10**12), "it has 1000000000000 bytes, more than"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_image_is_refused_at_once_and_not_kept(
    images_online: ImageServer, tmp_path: Path, answer: Answer, message: str
) -> None:
    url = images_online.give("/a.jpg", answer)
    with pytest.raises(OSError, match=message):
        FetchedImages(tmp_path)(url)
    assert images_online.requests["/a.jpg"] == (6 if "more than 5" in message else 1)
    assert [path.suffix for path in kept(tmp_path)] == [".failed"]


def test_a_body_that_never_ends_is_cut_off_at_a_size(
    images_online: ImageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "MOST_BYTES", 100_000)
    url = images_online.give("/a.jpg", Answer(b"x" * 1000, endless=True))
    with pytest.raises(OSError, match="it has more than 100000 bytes"):
        FetchedImages(tmp_path)(url)


def test_a_body_that_never_ends_is_cut_off_at_a_time(
    images_online: ImageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "LONGEST_FETCH", 0.0)
    url = images_online.give("/a.jpg", Answer(b"x", endless=True))
    with pytest.raises(OSError, match="it was not there after 0 s"):
        FetchedImages(tmp_path)(url)


def test_a_body_may_come_in_chunks(images_online: ImageServer, tmp_path: Path) -> None:
    body = bytes(range(256)) * 1000
    url = images_online.give("/a.jpg", Answer(body, chunks=7))
    assert FetchedImages(tmp_path)(url) == body


@pytest.mark.parametrize(
    "passing",
    [
        Answer(status=429),
        Answer(status=503),
        Answer(status=500),
        Answer(status=408),
        Answer(b"half", length=8),
        Answer(b"half", chunks=2, whole=False),
    ],
    ids=["429", "503", "500", "408", "cut", "cut between chunks"],
)
def test_what_passes_is_asked_for_again(
    images_online: ImageServer, tmp_path: Path, waits: list[float], passing: Answer
) -> None:
    url = images_online.give("/a.jpg", passing, passing, Answer(b"jpeg"))
    assert FetchedImages(tmp_path, requests_per_second=1e6)(url) == b"jpeg"
    assert images_online.requests["/a.jpg"] == 3
    assert [seconds for seconds in waits if seconds > 0.5] == [1.0, 2.0]


def test_a_server_that_names_the_time_is_asked_then(
    images_online: ImageServer, tmp_path: Path, waits: list[float]
) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=400), usegmt=True)
    busy = [Answer(status=429, headers={"Retry-After": text}) for text in ("100", later, "rather later")]
    url = images_online.give("/a.jpg", *busy, Answer(b"jpeg"))
    assert FetchedImages(tmp_path)(url) == b"jpeg"
    # 1 s is the pause after the answer that names none; the others hold for everybody, so the next turn waits.
    assert [round(seconds, -2) for seconds in waits if seconds > 50] == [100, 400, 400]
    assert 1.0 in waits or 4.0 in waits


def test_a_server_that_wants_hours_is_not_waited_for(
    images_online: ImageServer, tmp_path: Path, waits: list[float]
) -> None:
    url = images_online.give("/a.jpg", Answer(status=503, headers={"Retry-After": "7200"}))
    with pytest.raises(OSError, match="answers 503, and wants to be asked again in 7200 s"):
        FetchedImages(tmp_path)(url)
    assert max(waits) < LONGEST_WAIT


def test_a_server_that_never_answered_costs_three_images(tmp_path: Path, waits: list[float]) -> None:
    with socket.socket() as bound:  # to a port where nobody listens
        bound.bind(("127.0.0.1", 0))
        read = FetchedImages(tmp_path)
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        for number in range(3):
            with pytest.raises(OSError, match=r"no connection \(.*refused.*\), 5 times"):
                read(f"{url}/{number}.jpg")
        waited = len(waits)
        with pytest.raises(OSError, match="has not given 3 images in a row, and is not asked for more"):
            read(f"{url}/3.jpg")
    assert len(waits) == waited


def test_a_server_that_stops_answering_ends_the_build_and_loses_no_image(
    images_online: ImageServer, tmp_path: Path
) -> None:
    read = FetchedImages(tmp_path)
    read(images_online.give("/a.jpg", Answer(b"jpeg")))
    urls = [images_online.give(f"/{number}.jpg", Answer(status=503)) for number in range(4)]
    for url in urls[:2]:
        with pytest.raises(OSError, match="the server answers 503, 5 times"):
            read(url)
    for url in urls[2:]:
        with pytest.raises(LtrsysError, match=r"no longer gives images: .*run the same command again later"):
            read(url)


def test_images_that_a_server_stumbles_over_do_not_end_the_build(images_online: ImageServer, tmp_path: Path) -> None:
    read = FetchedImages(tmp_path)
    read(images_online.give("/a.jpg", Answer(b"jpeg")))
    for number in range(5):
        with pytest.raises(OSError, match="the server answers 500, 5 times"):
            read(images_online.give(f"/{number}.jpg", Answer(status=500)))


@pytest.mark.parametrize(
    "url", ["http://", "http://[x/a.jpg", "http://a b/x\n.jpg", "http://\x00/", "http://x:99999/a"]
)
def test_what_is_no_url_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(OSError, match=r".") as error:
        FetchedImages(tmp_path)(url)
    assert str(error.value).isprintable()


def test_turns_are_a_rate_apart_and_those_of_another_server_are_its_own(tmp_path: Path, waits: list[float]) -> None:
    polite = Politeness(tmp_path, requests_per_second=0.01)
    for host in ("a", "a", "a", "b"):
        with polite.turn(host):
            pass
    assert [round(seconds, -1) for seconds in waits] == [0, 100, 200, 0]


def test_a_clock_that_was_set_back_stops_nothing(tmp_path: Path, waits: list[float]) -> None:
    (tmp_path / "a.time").write_text("99999999999.0")
    with Politeness(tmp_path).turn("a"):
        pass
    assert waits == [0.0]


def test_a_server_gets_no_more_requests_at_a_time_than_it_is_meant_to(
    images_online: ImageServer, tmp_path: Path
) -> None:
    two = threading.Barrier(2, timeout=30)  # so that two do come at a time
    images_online.during = two.wait
    urls = [images_online.give(f"/{number}.jpg", Answer(b"jpeg")) for number in range(6)]
    read = FetchedImages(tmp_path, connections=2, requests_per_second=1e6)
    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(read, urls)) == [b"jpeg"] * 6
    assert images_online.most_at_once == 2


def test_a_disk_that_fills_while_fetching_is_no_rejected_image(
    images_online: ImageServer, small_disk: Callable[[str], Path]
) -> None:
    disk = small_disk("200k")
    url = images_online.give("/a.jpg", Answer(b"x" * 300_000))
    with pytest.raises(LtrsysError, match="the disk is full") as error:
        FetchedImages(disk)(url)
    assert not isinstance(error.value, DataError)
    assert not any(path.is_file() and path.stat().st_size > 100 for path in disk.rglob("*"))


def test_a_disk_that_is_full_at_the_first_request_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    with pytest.raises(LtrsysError, match="the disk is full"):
        FetchedImages(tmp_path)("http://127.0.0.1:1/a.jpg")


def test_a_build_lists_what_it_could_not_fetch_and_asks_for_that_alone_again(
    images_online: ImageServer, tmp_path: Path
) -> None:
    urls = [images_online.give(f"/{number}.jpg", Answer(encode(picture(40 + number), "JPEG"))) for number in range(4)]
    images_online.give("/2.jpg", Answer(b"<p>", headers=HTML), Answer(encode(picture(42), "JPEG")))
    read = FetchedImages(tmp_path / "images")
    items = Items(urls, np.array([0, 0, 1, 1], dtype=np.int32))
    source = Source("table", "web", [ClassRecord(name=name) for name in "ab"], {"train": items}, read, read.version)
    with pytest.raises(
        DataError, match=r"1 of 4 images cannot be used: .*/2.jpg: it cannot be read \(the server sends"
    ):
        build_shards(source, tmp_path / "out")
    assert "the server sends text/html and no image" in (tmp_path / "out/rejected.jsonl").read_text()
    assert build_shards(source, tmp_path / "out").record.splits["train"].samples == 4
    assert images_online.requests == {"/0.jpg": 1, "/1.jpg": 1, "/2.jpg": 2, "/3.jpg": 1}


@pytest.mark.long
def test_processes_share_the_turns_and_fetch_each_image_once(images_online: ImageServer, tmp_path: Path) -> None:
    content = encode(picture(), "JPEG")
    urls = [images_online.give(f"/{number}.jpg", Answer(content)) for number in range(300)]  # of two tasks
    read = FetchedImages(tmp_path / "images", connections=1, requests_per_second=1000)
    items = Items(urls, np.zeros(300, dtype=np.int32))
    source = Source("table", "web", [ClassRecord(name="a")], {"train": items}, read, read.version)
    assert build_shards(source, tmp_path / "out", workers=2).record.splits["train"].samples == 300
    assert images_online.requests == {f"/{number}.jpg": 1 for number in range(300)}
    assert images_online.most_at_once == 1
