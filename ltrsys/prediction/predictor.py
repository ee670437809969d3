"""The predictor: a run's network and one of its classifiers, as a program uses them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from os import PathLike
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ltrsys.device import choose_device, on_one_thread, set_up_gpu, within_memory
from ltrsys.errors import DataError, UsageError
from ltrsys.features.making.extraction import features_of
from ltrsys.kernels import top_classes
from ltrsys.models.signature import Signature
from ltrsys.prediction.answering import Answerer, Scored
from ltrsys.prediction.answers import Prediction, Wanted
from ltrsys.prediction.images.batches import BatchReader, Decoded
from ltrsys.prediction.images.collections import Images, InMemory
from ltrsys.prediction.loading import LoadedModel, load_model
from ltrsys.prediction.prior import log_shift
from ltrsys.section import DeviceName
from ltrsys.world import World

ImageLike = str | PathLike[str] | bytes | Image.Image | NDArray[np.uint8] | Tensor
"""A path, the bytes of an image file, an image of Pillow, a uint8 array [height, width, 3] or [height, width], or a
uint8 tensor [3, height, width] or [height, width]."""

ANSWERERS_KEPT = 32
"""Of different questions: each knows the tree of all classes, which takes a while to put together."""


@dataclass(frozen=True)
class Predictor:
    """Names what is in photographs. N images, C classes, D features.

    Images are oriented, decoded, resized, cropped and normalised as in `ltrsys balance`. Pixels from memory are treated
    as a PNG file of them would be, which is stored as a JPEG of quality 95 before all else, as in shards.
    """

    model: LoadedModel
    device: torch.device
    """Where it computes, and where the model is."""
    batch_size: int
    """Images that go through the network at once."""
    shift_C: Tensor | None = None
    """What is added to log-probabilities, float64 [C], since the classes are not as frequent where the pictures come
    from."""

    @classmethod
    def load(
        cls,
        run: str | PathLike[str],
        *,
        classifier: str | None = None,
        device: DeviceName = "auto",
        batch_size: int | None = None,
    ) -> Self:
        """Load a run that `ltrsys balance` has been through; its shards need not be there.

        Args:
            run: The run folder.
            classifier: Which of its classifiers answers, such as `crt`; if not given, the first that was fitted of
                `ltrsys.prediction.loading.PREFERRED`.
            device: `auto` is the GPU where there is one.
            batch_size: Images that go through the network at once; `balance.feature_batch_size` if not given.

        Raises:
            UsageError: For a folder that is no finished run, or a classifier that is unknown or not fitted.
            DataError: Where network and classifier do not belong together, or a file is damaged.
        """
        chosen = choose_device(device, World.detect())
        model = load_model(Path(run), classifier, chosen)
        set_up_gpu(chosen, cudnn_benchmark=False, tf32=model.config.train.tf32)  # the last batch has another size
        return cls(model, chosen, batch_size or model.config.balance.feature_batch_size)

    @property
    def signature(self) -> Signature:
        """Names and taxonomy of the classes, their training images, and the preprocessing."""
        return self.model.signature

    @property
    def classifier(self) -> str:
        """The name of the classifier."""
        return self.model.classifier.name

    def with_frequencies(self, frequencies_C: NDArray[np.float64]) -> Self:
        """Return a predictor for pictures of a place where the classes are so frequent.

        Args:
            frequencies_C: Of any scale, [C]; a class of 0 does not occur, and is never answered.

        Raises:
            UsageError: Where no class is left that the classifier can predict.
        """
        counts = np.array(self.signature.train_counts, dtype=np.int64)
        return self._shifted(log_shift(self.model.classifier, self.model.config, counts, frequencies_C))

    def only(self, chosen_C: NDArray[np.bool_]) -> Self:
        """Return a predictor that answers with some classes alone, bool [C]; probabilities are shares among them.

        Raises:
            UsageError: Where no class is left that the classifier can predict.
        """
        before_C = np.zeros(len(chosen_C)) if self.shift_C is None else self.shift_C.cpu().numpy()
        return self._shifted(np.where(chosen_C, before_C, -np.inf))

    def features(self, images: Iterable[ImageLike]) -> Tensor:
        """Return the features that the classifier takes, float32 [N, D] on the CPU.

        Raises:
            DataError: For an image that cannot be read.
            UsageError: For something that is no image.
        """
        return self._gathered(images, lambda scored: scored.features_BD, self.model.feature_dim)

    def scores(self, images: Iterable[ImageLike]) -> Tensor:
        """Return the classifier's own scores, float32 [N, C] on the CPU: logits, or minus squared distances.

        Minus infinity is for a class that it never predicts. Raises as `features` does.
        """
        return self._gathered(images, lambda scored: scored.scores_BC, len(self.signature.classes))

    def probabilities(self, images: Iterable[ImageLike]) -> Tensor:
        """Return the probability of each class, float32 [N, C] on the CPU. Raises as `features` does."""
        return self._gathered(images, lambda scored: scored.probabilities_BC, len(self.signature.classes))

    def predict(
        self,
        images: Iterable[ImageLike],
        *,
        top: int = 5,
        min_precision: float | None = None,
        coverage: float | None = None,
        adjusted: bool = False,
        rank: str | None = None,
        novelty: bool = False,
    ) -> list[Prediction]:
        """Return the best classes of each image; one that cannot be read has a `problem` in their place.

        Args:
            images: Of any kinds, also mixed.
            top: How many classes to name; fewer where fewer can be predicted.
            min_precision: The share of the answers that should be right, between 0 and 1: others are "not sure".
            coverage: Name as many classes as it takes for the right one to be among them so often, between 0 and 1.
            adjusted: Whether rare classes come into these with a smaller probability, so that they are covered as well.
            rank: Name groups of this rank of the taxonomy instead of classes; `auto` adds the finest group that is sure
                enough.
            novelty: Whether to tell how unlike the known images each is.

        Raises:
            UsageError: For something that is no image, or where what is asked for is not known of the classifier.
        """
        given = InMemory(_listed(images))
        answerer = self.answerer(Wanted(top, min_precision, coverage, adjusted, rank, novelty))
        answerer.check_precision()
        return [
            prediction
            for scored in self.run(given, range(len(given)))
            for prediction in self.answers(given, scored, answerer)
        ]

    def answerer(self, wanted: Wanted) -> Answerer:
        """Return what puts scores into words.

        Raises:
            UsageError: Where what is asked for is not known of the classifier.
        """
        return self._answerers(wanted)

    def run(self, images: Images, places: Sequence[int]) -> Iterator[Scored]:
        """Yield what network and classifier make of the images at `places`, `batch_size` at a time.

        A second call ends the iterator of the first.
        """
        advice = f"Give a smaller batch size (it is {self.batch_size})."
        for decoded in self._reader.batches(images, places):
            with within_memory(self.batch_size, 0, advice), torch.inference_mode():
                scored = self._scored(decoded)
            yield scored

    def answers(self, images: Images, scored: Scored, answerer: Answerer) -> list[Prediction]:
        """Put what was scored into words."""
        with torch.inference_mode(), on_one_thread(self.device):
            names = [images.name(place) for place in scored.places]
            return answerer.predictions(names, scored, self.ranking(scored, answerer.wanted.top))

    def ranking(self, scored: Scored, top: int) -> Tensor:
        """Return the best classes of each image, int64 [B, top], best first; fewer where fewer can be predicted."""
        if self.shift_C is None:
            return self.model.classifier.rank(scored.features_BD, min(top, len(self.signature.classes)))
        possible = int((scored.probabilities_BC > 0).any(dim=0).sum())
        return top_classes(scored.probabilities_BC.float(), min(top, possible))

    def close(self) -> None:
        """Give up threads and memory; a predictor that is used again takes new ones."""
        reader = self.__dict__.pop("_reader", None)
        if reader is not None:
            reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def _answerers(self) -> Callable[[Wanted], Answerer]:
        model = self.model
        advice = f"Run `ltrsys balance {model.run.path} --classifiers {self.classifier} balance.calibrate=true`."

        @lru_cache(ANSWERERS_KEPT)
        def make(wanted: Wanted) -> Answerer:
            return Answerer(wanted, model.signature, model.config.shots, model.calibration, advice)

        return make

    @cached_property
    def _reader(self) -> BatchReader:
        config = self.model.config
        return BatchReader(
            config.data,
            reduced_to=self.signature.preprocessing.reduced_to,
            batch_size=self.batch_size,
            device=self.device,
            channels_last=config.train.in_channels_last,
        )

    def _gathered(self, images: Iterable[ImageLike], part: Callable[[Scored], Tensor], width: int) -> Tensor:
        """Return a part of what is made of all images, float32 [N, width] on the CPU."""
        given = InMemory(_listed(images))
        rows = [torch.zeros(0, width)]
        for scored in self.run(given, range(len(given))):
            for place, problem in zip(scored.places, scored.problems, strict=True):
                if problem is not None:
                    raise DataError(f"{given.name(place)}: {problem}.")
            rows.append(part(scored).float().cpu())
        return torch.cat(rows)

    def _scored(self, decoded: Decoded) -> Scored:
        classifier, problems = self.model.classifier, list(decoded.problems)
        if None in problems:
            kinds = [classifier.features]
            features_BD = features_of(self.model.backbone, decoded.pixels, kinds)[classifier.features].float()
        else:
            features_BD = torch.zeros(len(problems), self.model.feature_dim, device=self.device)
        scores_BC = classifier.scores(features_BD)
        temperature = 1.0 if self.model.calibration is None else self.model.calibration.temperature
        with on_one_thread(self.device):
            log_BC = (scores_BC.double() / temperature).log_softmax(dim=1)
            if self.shift_C is not None:
                log_BC = (log_BC + self.shift_C).log_softmax(dim=1)
            probabilities_BC = log_BC.exp()
            finite_B = torch.isfinite(features_BD).all(dim=1).tolist()
        for row, finite in enumerate(finite_B):
            if not finite and problems[row] is None:
                problems[row] = "the network gives NaN or infinite features for it"
        return Scored(decoded.places, problems, features_BD, scores_BC, probabilities_BC)

    def _shifted(self, shift_C: NDArray[np.float64]) -> Self:
        nothing = torch.zeros(1, self.model.feature_dim, device=self.device)
        with torch.inference_mode():
            can_be = torch.isfinite(self.model.classifier.scores(nothing)[0]).cpu().numpy()
        if not (can_be & np.isfinite(shift_C)).any():
            raise UsageError("No class is left that this classifier can predict: give other species or frequencies.")
        return replace(self, shift_C=torch.from_numpy(shift_C).to(self.device))


def _listed(images: Iterable[ImageLike]) -> Sequence[ImageLike]:
    """Return several images, where one may have been given."""
    one = isinstance(images, str | PathLike | bytes | Image.Image)
    if one or (isinstance(images, np.ndarray | Tensor) and _is_single(images)):
        return [images]  # type: ignore[list-item]
    return list(images)


def _is_single(images: NDArray[np.uint8] | Tensor) -> bool:
    return images.ndim == 2 or (
        images.ndim == 3 and (images.shape[0] if isinstance(images, Tensor) else images.shape[2]) == 3
    )
