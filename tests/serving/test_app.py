"""What the server answers is what the predictor says, under the status that it should have."""

import io
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

import ltrsys
from ltrsys.features.bank import FeatureBank
from ltrsys.prediction.predictor import Predictor
from ltrsys.runs.folder import RunFolder
from ltrsys.serving.app import PAGE
from ltrsys.serving.guards.limits import Limits
from ltrsys.serving.served import Served
from tests.conftest import TINY_COUNTS
from tests.serving.conftest import Running, running

pytestmark = pytest.mark.long


def without_similar(prediction: dict) -> dict:
    answers = [{key: value for key, value in one.items() if key != "similar"} for one in prediction["answers"]]
    return prediction | {"answers": answers}


@pytest.mark.parametrize("classifier", ["crt", "ncm"])
def test_answers_are_those_of_the_predictor_to_the_bit(
    server: Running, named: RunFolder, test_files: list[str], photographs: list[bytes], classifier: str
) -> None:
    with Predictor.load(named.path, classifier=classifier) as predictor:
        for path, photograph in zip(test_files[:20], photographs, strict=False):
            answer = server.post(photograph, classifier=classifier, top=12)
            assert answer.status_code == 200
            (given,), (expected,) = answer.json()["predictions"], predictor.predict([path], top=12)
            expected = replace(expected, path="image 0").to_json() | {"answers": list(map(asdict, expected.answers))}
            assert without_similar(given) == {key: expected[key] for key in given}
            assert answer.json()["classifier"] == classifier


def test_several_files_are_answered_in_their_order_under_their_names(
    server: Running, served: Served, test_files: list[str], photographs: list[bytes]
) -> None:
    files = [(f"../{place} <b>é.jpg", photograph) for place, photograph in enumerate(photographs[:20])]
    predictions = server.post_form(*files, top=3).json()["predictions"]
    assert [prediction["path"] for prediction in predictions] == [name for name, _ in files]
    with Predictor.load(served.default.model.run.path, classifier="crt") as predictor:
        expected = predictor.predict(test_files[:20], top=3)
    for given, wanted in zip(predictions, expected, strict=True):
        assert [one["class_id"] for one in given["answers"]] == [one.class_id for one in wanted.answers]
        # the batches are others: float32 sums in another order
        assert [one["probability"] for one in given["answers"]] == pytest.approx(
            [one.probability for one in wanted.answers], rel=1e-4
        )


def test_pixels_of_any_format_and_rotation_are_taken(server: Running, photographs: list[bytes]) -> None:
    upright = Image.open(io.BytesIO(photographs[0]))
    for kind in ("PNG", "WEBP", "TIFF", "GIF", "BMP"):
        buffer = io.BytesIO()
        upright.save(buffer, kind)
        assert server.post(buffer.getvalue()).status_code == 200, kind


def test_a_picture_that_cannot_be_read_is_told_and_others_are_named(server: Running, photographs: list[bytes]) -> None:
    files = [("a.jpg", b"no image"), ("b.jpg", photographs[0]), ("c.jpg", photographs[0][:300]), ("d.jpg", b"")]
    answer = server.post_form(*files)
    assert answer.status_code == 200
    predictions = answer.json()["predictions"]
    assert [prediction["status"] for prediction in predictions] == ["unreadable", "ok", "unreadable", "unreadable"]
    assert predictions[0]["problem"] == "not an image of a known format"
    assert predictions[3]["problem"] == "the file is empty"
    answer = server.post_form(*files[2:])
    assert answer.status_code == 422
    assert re.fullmatch(
        r"None of these 2 images can be named\. c\.jpg: it cannot be decoded \(.*\)\.", answer.json()["detail"]
    )
    assert server.post(b"no image").json() == {"detail": "This image cannot be named: not an image of a known format."}


def test_bodies_of_other_kinds_are_refused(server: Running, photographs: list[bytes]) -> None:
    for kind in ("text/html", "application/json", "application/x-www-form-urlencoded"):
        answer = httpx.post(f"{server.url}predict", content=photographs[0], headers={"Content-Type": kind})
        assert answer.status_code == 415, kind
    for kind in ("image/tiff", "Application/Octet-Stream", "image/jpeg; a=b"):
        answer = httpx.post(f"{server.url}predict", content=photographs[0], headers={"Content-Type": kind})
        assert answer.status_code == 200, kind
    assert httpx.post(f"{server.url}predict", content=photographs[0]).status_code == 200


def test_forms_that_cannot_be_read_are_told(server: Running) -> None:
    for kind, body, status in (
        ("multipart/form-data", b"x", 400),
        ("multipart/form-data; boundary=a", b"no form", 400),
        ("multipart/form-data; boundary=a", b"--a\r\nContent-Disposition: form-data\r\n\r\nx\r\n--a--\r\n", 400),
        ("multipart/form-data; boundary=a", b'--a\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n--a--', 422),
        ("multipart/form-data; boundary=a", b"--a--\r\n", 422),
    ):
        answer = httpx.post(f"{server.url}predict", content=body, headers={"Content-Type": kind})
        assert answer.status_code == status, body
        assert isinstance(answer.json()["detail"], str)


@pytest.mark.parametrize("name", ["crtt", "../../classifiers/crt", "/etc/passwd", "..", "tau", ""])
def test_a_classifier_that_is_not_served_is_told_and_no_path(
    server: Running, photographs: list[bytes], name: str
) -> None:
    answer = server.post(photographs[0], classifier=name)
    assert answer.status_code == 404
    detail = answer.json()["detail"]
    assert detail.startswith("This server has no classifier of that name.")
    assert detail.endswith("Did you mean crt?" if name == "crtt" else "Choose from crt, ncm.") or "crt" in name
    assert "/" not in detail


@pytest.mark.parametrize(("query", "said"), [({"top": 0}, "`top`"), ({"top": "x"}, "`top`"), ({"similar": 99}, "`sim")])
def test_parameters_out_of_their_range_are_told(
    server: Running, photographs: list[bytes], query: dict, said: str
) -> None:
    answer = server.post(photographs[0], **query)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(said)


def test_similar_images_are_the_nearest_of_each_class(
    server: Running, named: RunFolder, test_files: list[str], photographs: list[bytes]
) -> None:
    train = FeatureBank.open(named.features).split("train")
    with Predictor.load(named.path, classifier="crt") as predictor:
        features = predictor.features(test_files[3])[0].double().numpy()
    (prediction,) = server.post(photographs[3], similar=4, top=12).json()["predictions"]
    rows = np.asarray(train.features, dtype=np.float64)
    cosines = rows @ features / np.linalg.norm(rows, axis=1) / np.linalg.norm(features)
    for place, answer in enumerate(prediction["answers"]):
        own = np.flatnonzero(train.labels == answer["class_id"])
        best = np.sort(cosines[own])[::-1][:4] if place < 10 else []
        assert [one["similarity"] for one in answer["similar"]] == pytest.approx(list(best), abs=1e-5)
        for one in answer["similar"]:
            assert one["sample"] in own
            assert one["thumbnail"] == f"thumbnails/train/{one['sample']}"
    assert [len(answer["similar"]) for answer in prediction["answers"][:2]] == [
        min(4, answer["train_images"]) for answer in prediction["answers"][:2]
    ]


def test_thumbnails_are_of_samples_that_exist(server: Running) -> None:
    answer = server.get("thumbnails/train/17")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert max(Image.open(io.BytesIO(answer.content)).size) <= 160
    assert server.get(f"thumbnails/train/{sum(TINY_COUNTS) - 1}").status_code == 200
    for path, status in (
        (f"thumbnails/train/{sum(TINY_COUNTS)}", 404),
        (f"thumbnails/train/{10**30}", 404),
        ("thumbnails/train/-1", 422),
        ("thumbnails/else/1", 422),
        ("thumbnails/..%2F..%2Fetc/passwd", 404),
    ):
        answer = server.get(path)
        assert answer.status_code == status, path
        assert set(answer.json()) == {"detail"}


def test_without_features_or_shards_photographs_are_named_all_the_same(
    named: RunFolder, photographs: list[bytes], tmp_path: Path
) -> None:
    run = RunFolder(Path(shutil.copytree(named.path, tmp_path / "run")))
    shutil.rmtree(run.features)
    with running(Served.load(run.path, ["crt"]), Limits()) as server:
        assert server.get("health").json()["thumbnails"] is False
        (prediction,) = server.post(photographs[0], similar=3).json()["predictions"]
        assert [answer["similar"] for answer in prediction["answers"]] == [[]] * 5
        assert server.get("thumbnails/train/1").status_code == 404


def test_health_and_classes_tell_what_is_served(server: Running, named: RunFolder) -> None:
    health = server.get("health").json()
    assert health == {
        "ready": True,
        "version": ltrsys.__version__,
        "model": "trained-0",
        "classifier": "crt",
        "classifiers": ["crt", "ncm"],
        "classes": 12,
        "thumbnails": True,
        "max_bytes": Limits().body_bytes,
        "queue": {"images": 0, "limit": Limits().queue},
    } | {"model": health["model"]}
    classes = server.get("classes").json()["classes"]
    assert [one["train_images"] for one in classes] == TINY_COUNTS
    assert [one["class_id"] for one in classes] == list(range(12))
    assert [one["shot"] for one in classes[:3]] == ["many", "few", "medium"]


def test_classifiers_share_the_network(served: Served) -> None:
    crt, ncm = served.predictors.values()
    assert crt.model.backbone is ncm.model.backbone
    assert [crt.classifier, ncm.classifier] == ["crt", "ncm"]


def test_everything_says_that_nothing_comes_from_elsewhere(server: Running) -> None:
    for path in [*PAGE, "health", "nowhere", "thumbnails/train/1"]:
        headers = server.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "server" not in headers
    page = server.get("").text
    assert not re.findall(r"(?:src|href)=\"(?:https?:)?//|<script>|<style|\son\w+=|\sstyle=", page)
    script = server.get("page.js").text
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|https?:", script)
    assert server.get("?content=x&kind=text/plain").text == page
    assert server.get("docs").status_code == 404


def test_other_names_of_this_machine_are_refused(server: Running) -> None:
    for host, status in (("127.0.0.1", 200), ("LOCALHOST:1", 200), ("[::1]:80", 200), ("evil.example", 421), ("", 421)):
        assert httpx.get(f"{server.url}health", headers={"Host": host}).status_code == status, host
