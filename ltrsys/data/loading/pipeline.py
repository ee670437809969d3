"""The DALI graph: encoded images and what is to be done to them, in; normalised tensors, out.

The graph is the same on a CPU and on a GPU, in training and in evaluation, but for what `data.augmentation` adds in
training; it draws nothing itself. Its pixels agree with PIL and torchvision to a mean absolute difference of 1 grey
level (docs/input_pipeline.md has those of single operations).
"""

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import fn, math, pipeline_def
from nvidia.dali.tensors import TensorCPU, TensorListCPU
from nvidia.dali.types import DALIDataType, DALIInterpType
from torch import Tensor

from ltrsys.data.config import AugmentationConfig, DataConfig, Interpolation
from ltrsys.data.loading.augmentation import COLOUR_STEPS, Augmentation
from ltrsys.data.loading.operations import blur, erase, mix_colours, operate
from ltrsys.data.reading.shard_files import Encoded
from ltrsys.errors import UsageError

_FILTERS: dict[Interpolation, DALIInterpType] = {
    "bilinear": DALIInterpType.INTERP_LINEAR,
    "bicubic": DALIInterpType.INTERP_CUBIC,
}


class DecodingError(RuntimeError):
    """DALI refused a batch; it does not say which image."""

    def __init__(self, why: str, encoded: Sequence[Encoded]) -> None:
        super().__init__(why)
        self.encoded = encoded


class ImagePipeline:
    """Batches are fed ahead of use and come out in the same order, made meanwhile by DALI's threads."""

    def __init__(
        self,
        config: DataConfig,
        *,
        batch_size: int,
        device: torch.device,
        training: bool = False,
        channels_last: bool = False,
    ) -> None:
        """Build the graph.

        Args:
            config: Image size, normalisation, threads, and where to decode.
            batch_size: Images of the largest batch.
            device: Where the batches are wanted.
            training: Whether batches come with all that `config.augmentation` asks for, in sizes by epoch, and in
                the type that `config.pixels` says.
            channels_last: Whether the images' memory format is torch's channels_last.

        Raises:
            UsageError: Where decoding on a GPU is asked for and `device` is none.
        """
        self._device, self._channels_last = device, channels_last
        self._gpu = _gpu_to_decode_on(config, device)
        self._at_once = 1 if self._gpu is None else config.prefetch
        """Batches that DALI works on at a time. On a GPU one follows the other from stage to stage; on a CPU two would
        take turns on the same threads, and both be late."""
        self._running = 0
        self._fed: deque[tuple[Sequence[Encoded], NDArray[np.int32]]] = deque()
        """The images of each batch in work, and where their windows end, [B, 2]: rows and columns."""
        # With a depth of 1 every call of schedule_run stands for exactly one batch, also the first; the
        # executor still takes any number of them ahead.
        self._pipeline: Any = pipeline_def(enable_conditionals=True)(_graph)(
            config,
            on_gpu=self._gpu is not None,
            training=training,
            channels_last=channels_last,
            batch_size=batch_size,
            num_threads=config.threads,
            device_id=self._gpu,
            prefetch_queue_depth=1,
        )
        self._pipeline.build()

    def feed(self, encoded: Sequence[Encoded], augmentation: Augmentation) -> None:
        """Have a batch worked on: B encoded images, not copied, and what to do to them."""
        self._fed.append((encoded, augmentation.geometry[:, 2:4]))
        # Lists of DALI's own, which its Python does not look at image by image.
        images: Any = list(map(TensorCPU, encoded))
        self._pipeline.feed_input("encoded", TensorListCPU(images, None, False))  # type: ignore[call-overload]
        for name, array in augmentation.arrays().items():
            self._pipeline.feed_input(name, TensorListCPU(array))
        self._schedule()

    def take(self) -> Tensor:
        """Wait for the oldest batch: [B, 3, H, W], on the device; float32, or in training as `config.pixels` says.

        Raises:
            DecodingError: Where DALI could not decode an image of it.
        """
        encoded, window_end = self._fed.popleft()
        self._running -= 1
        stream = self._stream()
        try:
            images, decoded_end = self._pipeline.outputs(cuda_stream=stream)
            fits = decoded_end.as_array().tobytes() == window_end.tobytes()
        except RuntimeError as error:
            raise DecodingError(str(error), encoded) from error
        finally:
            self._schedule()
        if not fits:
            raise DecodingError("a window leaves its image", encoded)
        # The tensor holds on to DALI's memory, which goes back to DALI's pool when the tensor is freed.
        # Given a capsule, torch asks nothing more of DALI. CUDA's default stream, 0 elsewhere, is 1 to DLPack.
        number = None if stream is None else stream.cuda_stream or 1
        tensor = torch.from_dlpack(images.as_tensor().__dlpack__(stream=number))
        if self._gpu is None and self._device.type == "cuda":
            # From memory that is not pinned, the copy to the GPU would be waited for.
            tensor = tensor.pin_memory().to(self._device, non_blocking=True)
        return tensor.permute(0, 3, 1, 2) if self._channels_last else tensor

    def drain(self) -> None:
        """Wait for the batches in work and drop them."""
        while self._fed:
            with suppress(DecodingError):
                self.take()

    def close(self) -> None:
        """Drop what is in work and give up DALI's threads and memory."""
        with suppress(IndexError, RuntimeError):  # DALI's, where Ctrl-C has come between two inputs of a batch
            self.drain()
        self._pipeline = None

    def _schedule(self) -> None:
        """Have DALI begin as many of the batches that it has been fed as it works on at once."""
        while self._running < min(self._at_once, len(self._fed)):
            self._pipeline.schedule_run()
            self._running += 1

    def _stream(self) -> torch.cuda.Stream | None:
        return None if self._gpu is None else torch.cuda.current_stream(self._gpu)


def decodes_on_gpu(config: DataConfig, device: torch.device) -> bool:
    """Whether images are decoded and augmented on the GPU, where the batches are wanted on `device`."""
    return config.decode != "cpu" and device.type == "cuda"


def _gpu_to_decode_on(config: DataConfig, device: torch.device) -> int | None:
    if config.decode == "gpu" and device.type != "cuda":
        raise UsageError(f"data.decode=gpu, but this process runs on {device}: use data.decode=auto or cpu.")
    if not decodes_on_gpu(config, device):
        return None
    return torch.cuda.current_device() if device.index is None else device.index


def _graph(config: DataConfig, *, on_gpu: bool, training: bool, channels_last: bool) -> tuple[Any, Any]:
    encoded = fn.external_source(name="encoded", dtype=DALIDataType.UINT8, ndim=1, no_copy=True)
    geometry = fn.external_source(name="geometry", dtype=DALIDataType.INT32, ndim=1)
    region = _numbers("region", ndim=2)
    # The decoder of DALI 2.4 can bring the process down at an image whose header it cannot parse, and at a window that
    # leaves the image. The first is an error here, before it; the second is cut to the image, and told from where it
    # ends then, which is the second output.
    size = fn.peek_image_shape(encoded, dtype=DALIDataType.INT32)[:2]
    end = math.min(geometry[2:4], size)
    pixels: Any = fn.decoders.image_slice(
        encoded,
        start=math.min(geometry[:2], size - 1),
        end=end,
        axes=[0, 1],
        device="mixed" if on_gpu else "cpu",
        jpeg_fancy_upsampling=True,
        adjust_orientation=False,  # validation has turned every image upright
    )
    pixels = fn.resize(
        pixels,
        size=_numbers("size", ndim=1) if training and config.progressive else [config.image_size] * 2,
        roi_start=region[0],
        roi_end=region[1],
        interp_type=_FILTERS[config.interpolation],
        antialias=True,
        subpixel_scale=False,
    )
    if training:
        pixels = _augmented(pixels, config.augmentation, on_gpu=on_gpu)
    normalized = fn.crop_mirror_normalize(
        pixels,
        mirror=geometry[4],
        mean=[255 * mean for mean in config.mean],
        std=[255 * std for std in config.std],
        dtype=DALIDataType.FLOAT16 if training and config.pixels == "float16" else DALIDataType.FLOAT,
        output_layout="HWC" if channels_last else "CHW",
    )
    if training and config.augmentation.erasing.probability > 0:
        normalized = erase(normalized, _numbers("erased", ndim=1))
    return normalized, end


def _augmented(pixels: Any, config: AugmentationConfig, *, on_gpu: bool) -> Any:
    if config.policy.steps > 0:
        operations = _numbers("operations", ndim=2)
        for step in range(config.policy.steps):
            pixels = operate(pixels, operations[step], on_gpu=on_gpu)
    if any(config.jitter):
        colour = _numbers("colour", ndim=2)
        for step in range(COLOUR_STEPS):
            pixels = mix_colours(pixels, colour[step, 0], colour[step, 1], colour[step, 2])
    if config.blur.probability > 0:
        pixels = blur(pixels, _numbers("blur", ndim=0))
    return pixels


def _numbers(name: str, *, ndim: int) -> Any:
    return fn.external_source(name=name, dtype=DALIDataType.FLOAT, ndim=ndim)
