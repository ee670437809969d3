"""What waits while a batch is in work is the next batch."""

from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Semaphore

import numpy as np
import pytest
import torch

from ltrsys.data.validation.images import StoredImage, as_stored
from ltrsys.prediction.answers import Wanted
from ltrsys.serving import batching
from ltrsys.serving.batching import Batcher, Inferred
from ltrsys.serving.guards.limits import Limits
from ltrsys.serving.served import Served
from tests.serving.conftest import ENOUGH, Gated, running

pytestmark = pytest.mark.long


@pytest.fixture
def images(photographs: list[bytes]) -> list[StoredImage]:
    return [as_stored(photograph) for photograph in photographs]


@pytest.fixture
def batcher(gated: Gated, served: Served):
    made = Batcher({"crt": gated, "ncm": served.predictors["ncm"]})
    made.start()
    yield made
    gated.gate.set()
    made.close()


def answers_of(batcher: Batcher, gated: Gated, images: list[StoredImage], top: int = 3) -> list[Inferred]:
    """Return what is inferred where all but the first image come while that is in work."""
    gated.hold()
    first = batcher.infer(images[0], "crt", Wanted(top=top))
    assert gated.entered.wait(ENOUGH)
    others = [batcher.infer(image, "crt", Wanted(top=top)) for image in images[1:]]
    gated.gate.set()
    return [future.result(ENOUGH) for future in (first, *others)]


def test_what_waits_is_one_batch_with_the_answers_of_that_batch(
    batcher: Batcher, gated: Gated, images: list[StoredImage], photographs: list[bytes]
) -> None:
    found = answers_of(batcher, gated, images[:8])
    assert gated.batches == [1, 7]
    expected = [*gated.predict(photographs[:1], top=3), *gated.predict(photographs[1:8], top=3)]
    assert [one.prediction.answers for one in found] == [one.answers for one in expected]
    features = gated.features(photographs[1:8]).numpy()
    assert np.array_equal(np.stack([one.features_D for one in found[1:]]), features)


def test_a_batch_has_no_more_images_than_it_may(batcher: Batcher, gated: Gated, images: list[StoredImage]) -> None:
    answers_of(batcher, gated, images[:40])
    assert gated.batches == [1, 16, 16, 7]


def test_a_batch_has_no_more_pixels_than_it_may(
    batcher: Batcher, gated: Gated, images: list[StoredImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "PIXELS_OF_A_BATCH", 3 * images[0].width * images[0].height)
    answers_of(batcher, gated, images[:9])
    assert gated.batches == [1, 3, 3, 2]


def test_each_image_gets_as_many_classes_as_it_asks_for(
    batcher: Batcher, gated: Gated, images: list[StoredImage]
) -> None:
    gated.hold()
    futures = [batcher.infer(image, "crt", Wanted(top=top)) for image, top in zip(images, (1, 12, 5, 2), strict=False)]
    gated.gate.set()
    assert [len(future.result(ENOUGH).prediction.answers) for future in futures] == [1, 12, 5, 2]


def test_classifiers_do_not_mix_and_none_waits_for_good(
    batcher: Batcher, gated: Gated, images: list[StoredImage], photographs: list[bytes], served: Served
) -> None:
    gated.hold()
    futures = [batcher.infer(images[0], "crt", Wanted(top=2))]
    assert gated.entered.wait(ENOUGH)
    names = ["crt", "ncm", "crt", "ncm", "ncm"]
    futures += [batcher.infer(image, name, Wanted(top=2)) for image, name in zip(images[1:], names, strict=False)]
    gated.gate.set()
    found = [future.result(ENOUGH).prediction.answers for future in futures]
    assert gated.batches == [1, 2]
    with replace(served.predictors["ncm"]) as ncm:
        expected = ncm.predict([photographs[2], photographs[4], photographs[5]], top=2)
    assert [found[2], found[4], found[5]] == [one.answers for one in expected]


def test_what_is_cancelled_is_left_out(batcher: Batcher, gated: Gated, images: list[StoredImage]) -> None:
    gated.hold()
    first = batcher.infer(images[0], "crt", Wanted(top=1))
    assert gated.entered.wait(ENOUGH)
    others = [batcher.infer(image, "crt", Wanted(top=1)) for image in images[1:5]]
    assert others[1].cancel()
    gated.gate.set()
    assert [len(future.result(ENOUGH).prediction.answers) for future in (first, others[0], others[3])] == [1, 1, 1]
    assert gated.batches == [1, 3]
    with pytest.raises(CancelledError):
        others[1].result()


@dataclass(frozen=True)
class Failing(Gated):
    """A predictor that fails at every second batch."""

    def ranking(self, *arguments) -> torch.Tensor:
        if len(self.batches) % 2:
            raise RuntimeError("no memory is left")
        return super().ranking(*arguments)


def test_a_batch_that_fails_ends_no_other(
    served: Served, images: list[StoredImage], caplog: pytest.LogCaptureFixture
) -> None:
    failing = Failing.of(served.default)
    batcher = Batcher({"crt": failing})
    batcher.start()
    with pytest.raises(RuntimeError, match="no memory is left"):
        batcher.infer(images[0], "crt", Wanted(top=1)).result(ENOUGH)
    assert "A batch of 1 images could not be inferred." in caplog.text
    assert batcher.infer(images[0], "crt", Wanted(top=1)).result(ENOUGH).prediction.status == "ok"
    batcher.close()
    assert not batcher.is_working


def test_what_waits_at_the_end_is_still_inferred(gated: Gated, images: list[StoredImage]) -> None:
    batcher = Batcher({"crt": gated})
    gated.hold()
    futures = [batcher.infer(image, "crt", Wanted(top=1)) for image in images[:3]]
    gated.gate.set()
    batcher.start()
    batcher.close()
    assert all(future.done() for future in futures)


def test_requests_of_several_clients_are_one_batch(gated: Gated, photographs: list[bytes]) -> None:
    served = Served({"crt": gated}, {}, None)
    with running(served, Limits()) as server, ThreadPoolExecutor(9) as clients:
        arrived, infer = Semaphore(0), server.service._batcher.infer

        def infer_and_tell(*arguments):
            future = infer(*arguments)
            arrived.release()
            return future

        server.service._batcher.infer = infer_and_tell  # type: ignore[method-assign]
        gated.hold()
        answers = [clients.submit(server.post, photographs[0])]
        assert gated.entered.wait(ENOUGH)
        answers += [clients.submit(server.post, photograph) for photograph in photographs[1:9]]
        for _ in range(9):
            assert arrived.acquire(timeout=ENOUGH)
        assert server.get("health").json()["queue"]["images"] == 9
        gated.gate.set()
        assert [answer.result().status_code for answer in answers] == [200] * 9
        assert gated.batches == [1, 8]
        assert server.get("health").json()["queue"]["images"] == 0
