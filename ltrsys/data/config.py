"""The section `data`: where the images come from, in which order, and what is done to them."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from ltrsys.data.location import folder_or_url
from ltrsys.data.plan.samplers.base import SAMPLERS, Sampler
from ltrsys.data.plan.samplers.powers import InstanceBalanced
from ltrsys.method_section import OneOf
from ltrsys.section import Count, Fraction, MayChange, Positive, Section

Interpolation = Literal["bilinear", "bicubic"]
RGB = Annotated[list[float], Field(min_length=3, max_length=3)]

SAMPLER: OneOf[Sampler] = OneOf(SAMPLERS, default="instance")

IMAGENET_MEAN = [0.485, 0.456, 0.406]
IMAGENET_STD = [0.229, 0.224, 0.225]


class AugmentationConfig(Section):
    """What is done to a training image (REPRODUCTION of the paper: crop, flip, and jitter on two datasets)."""

    min_area: Annotated[float, Field(gt=0, le=1)] = 0.08
    """Smallest share of the image's area that a random crop takes; 1 with `aspect_ratio: 1` is no crop."""
    aspect_ratio: Annotated[float, Field(ge=1)] = 4 / 3
    """Crops are between 1/aspect_ratio and aspect_ratio wide for their height."""
    flip: bool = True
    """Mirror left and right with probability 1/2."""
    brightness: Fraction = 0.0
    """Brightness is multiplied by a factor within 1 ± this."""
    contrast: Fraction = 0.0
    """Contrast is multiplied by a factor within 1 ± this."""
    saturation: Fraction = 0.0
    """Saturation is multiplied by a factor within 1 ± this."""


def _folder_or_url(value: Any) -> Any:
    return folder_or_url(value) if isinstance(value, str) else value


class DataConfig(Section):
    """Where the images come from and in which order."""

    shards: Annotated[Path | str, BeforeValidator(_folder_or_url), MayChange.AFTER_TRAINING]
    """The folder that `ltrsys shards` wrote, or its URL (http, https, s3)."""
    cache: Annotated[Path | None, MayChange.AFTER_TRAINING] = Field(default=None, strict=False)
    """Where shards of a URL are kept, on a disk of each node; a folder of yours in the temporary one if not given."""
    cache_gb: Annotated[Positive, MayChange.AFTER_TRAINING] = 50.0
    """How much the cache may hold, in 10^9 bytes."""
    retry_seconds: Annotated[Positive, MayChange.AFTER_TRAINING] = 300.0
    """How long a server may fail to send anything before the run ends."""
    image_size: Count = 224
    """Side of the square the network sees, in pixels."""
    resize: Count = 256
    """Evaluation resizes the short side to this, then crops the centre."""
    interpolation: Interpolation = "bilinear"
    """How images are resized, always with antialiasing; many networks of timm and open_clip are made for `bicubic`."""
    mean: RGB = IMAGENET_MEAN
    """Subtracted from the channels, on a scale of 0 to 1."""
    std: RGB = IMAGENET_STD
    """The channels are divided by this, on a scale of 0 to 1."""
    sampler: Annotated[Sampler, SAMPLER] = Field(default_factory=InstanceBalanced)
    augmentation: AugmentationConfig = AugmentationConfig()
    samples_per_epoch: Count | None = None
    """Length of an epoch; the number of training images if not given."""
    lanes: Count = 192
    """Parts of the epoch that are dealt to the ranks; their number must be a multiple of the ranks'."""
    shuffle_window: Annotated[int, Field(ge=0)] | None = None
    """How far a sample may move from its place where a lane reads each of its segments forward, from a random place
    on: for disks that seek, at the cost of mixing. If not given, a lane's samples come in random order."""
    decode: Annotated[Literal["auto", "cpu", "gpu"], MayChange.AFTER_TRAINING] = "auto"
    """Where DALI decodes and augments; `auto` is the GPU where there is one."""
    threads: Annotated[Count, MayChange.AFTER_TRAINING] = 4
    """DALI's threads on the CPU, a rank."""
    prefetch: Annotated[Count, MayChange.AFTER_TRAINING] = 2
    """Batches made ahead of use."""
    on_error: Annotated[Literal["stop", "skip"], MayChange.AFTER_TRAINING] = "stop"
    """What a damaged training image does: end the run, its state saved, or be replaced by another of its class."""
    max_bad_share: Annotated[Fraction, MayChange.AFTER_TRAINING] = 0.001
    """For `skip`: the part of the training images that may be damaged before the run ends all the same."""


def make_sampler(kind: str = "instance", **settings: Any) -> Sampler:
    """Return the sampler that the section `data.sampler` with these keys is."""
    return SAMPLER.model({"kind": kind}).model_validate({"kind": kind, **settings})
