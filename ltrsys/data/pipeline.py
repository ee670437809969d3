"""The DALI graph: encoded images and what is to be done to them, in; normalised tensors, out.

The graph is the same on a CPU and on a GPU, in training and in evaluation; it draws nothing itself. Its
pixels agree with PIL and torchvision to a mean absolute difference of 1 grey level.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import Pipeline, fn, math, types
from torch import Tensor

from ltrsys.config import DataConfig
from ltrsys.data.augmentation import COLOUR_STEPS, Augmentation

Place = Literal["cpu", "gpu"]

_INPUTS = {
    "encoded": (types.UINT8, 1),
    "anchor": (types.INT32, 1),
    "shape": (types.INT32, 1),
    "region_start": (types.FLOAT, 1),
    "region_end": (types.FLOAT, 1),
    "mirror": (types.INT32, 0),
}


class DecodingError(RuntimeError):
    """DALI refused a batch; it does not say which image."""


class ImagePipeline:
    """Batches are fed in ahead of use and come out in the same order, decoded meanwhile by DALI's threads.

    There is no thread of Python's here: DALI works on whatever was fed, and `take` waits for the oldest.
    """

    def __init__(
        self,
        config: DataConfig,
        *,
        batch_size: int,
        place: Place,
        device_id: int | None = None,
        colour: bool = False,
    ) -> None:
        """Build the graph.

        Args:
            config: Image size, normalisation, threads.
            batch_size: Images of the largest batch.
            place: Where to decode and transform.
            device_id: The GPU, where `place` is one.
            colour: Whether batches come with colour factors.
        """
        self.colour = colour
        self._fed: deque[Sequence[NDArray[np.uint8]]] = deque()
        # A depth of 1 lets every call of schedule_run stand for exactly one batch; the executor still takes
        # any number of them ahead.
        self._pipeline = Pipeline(
            batch_size=batch_size,
            num_threads=config.threads,
            device_id=device_id if place == "gpu" else None,
            prefetch_queue_depth=1,
        )
        with self._pipeline:
            self._pipeline.set_outputs(_graph(config, place, colour))
        self._pipeline.build()

    def __len__(self) -> int:
        """Batches fed and not yet taken."""
        return len(self._fed)

    def feed(self, encoded: Sequence[NDArray[np.uint8]], augmentation: Augmentation) -> None:
        """Start work on a batch: B encoded images, each uint8 [bytes], not copied, and what to do to them."""
        self._fed.append(encoded)
        self._pipeline.feed_input("encoded", list(encoded))
        for name in _INPUTS.keys() - {"encoded"}:
            self._pipeline.feed_input(name, getattr(augmentation, name))
        if self.colour:
            assert augmentation.colour is not None
            self._pipeline.feed_input("colour", augmentation.colour)
        self._pipeline.schedule_run()

    def take(self) -> Tensor:
        """Wait for the oldest batch: float32 [B, 3, image_size, image_size], on the device of `place`.

        Raises:
            DecodingError: Where DALI could not decode an image of it.
        """
        try:
            (images,) = self._pipeline.share_outputs(cuda_stream=self._stream())
            # The tensor keeps DALI's memory alive, which goes back to DALI's pool after its last use.
            return torch.from_dlpack(images.as_tensor())
        except RuntimeError as error:
            raise DecodingError(str(error)) from error
        finally:
            self._pipeline.release_outputs()
            self._fed.popleft()

    def close(self) -> None:
        """Wait for work under way and give up DALI's threads and memory."""
        while self._fed:
            try:
                self.take()
            except DecodingError:
                continue
        self._pipeline._shutdown()

    def _stream(self) -> Any:
        return torch.cuda.current_stream(self._pipeline.device_id) if self._pipeline.device_id is not None else None


def _graph(config: DataConfig, place: Place, colour: bool) -> Any:
    inputs = {
        name: fn.external_source(name=name, dtype=dtype, ndim=ndim, no_copy=name == "encoded")
        for name, (dtype, ndim) in _INPUTS.items()
    }
    pixels = fn.decoders.image_slice(
        inputs["encoded"],
        inputs["anchor"],
        inputs["shape"],
        device="mixed" if place == "gpu" else "cpu",
        jpeg_fancy_upsampling=True,
        adjust_orientation=False,  # the door of the dataset has turned every image upright
    )
    pixels = fn.resize(
        pixels,
        size=[config.image_size, config.image_size],
        roi_start=inputs["region_start"],
        roi_end=inputs["region_end"],
        interp_type=types.INTERP_LINEAR,
        antialias=True,
        subpixel_scale=False,
    )
    if colour:
        pixels = _coloured(pixels, fn.external_source(name="colour", dtype=types.FLOAT, ndim=2))
    return fn.crop_mirror_normalize(
        pixels,
        mirror=inputs["mirror"],
        mean=[255 * mean for mean in config.mean],
        std=[255 * std for std in config.std],
        dtype=types.FLOAT,
        output_layout="CHW",
    )


def _coloured(pixels: Any, steps: Any) -> Any:
    """Apply the colour steps, each clipped to 0..255 and cut to whole grey levels as PIL cuts it."""
    for step in range(COLOUR_STEPS):
        own, grey, mean = (steps[step, part] for part in range(3))
        grey_pixels = fn.color_space_conversion(pixels, image_type=types.RGB, output_type=types.GRAY)
        mean_grey = math.floor(fn.reductions.mean(grey_pixels) + 0.5)
        mixed = own * pixels + grey * grey_pixels + mean * mean_grey
        # Casting rounds to the nearest; PIL cuts.
        pixels = fn.cast(math.floor(math.clamp(mixed, 0.0, 255.0)), dtype=types.UINT8)
    return pixels
