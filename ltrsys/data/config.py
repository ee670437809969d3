"""The section `data`: where the images come from, in which order, and what is done to them."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

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


LEVELS = 31
"""How strong an operation of a policy may be: 0 to 30, as in torchvision."""


class PolicyConfig(Section):
    """Random operations on the cropped image, of torchvision's fourteen."""

    kind: Literal["none", "rand_augment", "trivial_augment"] = "none"
    """`rand_augment`: so many operations, each of the same magnitude (Cubuk et al., 2020); `trivial_augment`: one, of a
    random magnitude (Müller and Hutter, 2021)."""
    operations: Annotated[int, Field(ge=1, le=8)] = 2
    """One after the other, of `rand_augment`."""
    magnitude: Annotated[int, Field(ge=0, lt=LEVELS)] = 9
    """Of all operations of `rand_augment`, from 0 to 30."""

    @property
    def steps(self) -> int:
        """How many operations are applied to an image."""
        return {"none": 0, "rand_augment": self.operations, "trivial_augment": 1}[self.kind]

    @model_validator(mode="after")
    def _heeded(self) -> "PolicyConfig":
        fields = PolicyConfig.model_fields
        for key in ("operations", "magnitude"):
            if self.kind != "rand_augment" and getattr(self, key) != fields[key].default:
                raise ValueError(
                    f"{key}={getattr(self, key)} is rand_augment's, and kind={self.kind} does not heed it: give "
                    "data.augmentation.policy.kind=rand_augment, or leave it out"
                )
        return self


class ErasingConfig(Section):
    """A rectangle of the normalised image becomes 0 (Zhong et al., 2020)."""

    probability: Fraction = 0.0
    """Of an image to lose a rectangle."""
    min_area: Annotated[float, Field(gt=0, le=1)] = 0.02
    """Smallest share of the image that is lost."""
    max_area: Annotated[float, Field(gt=0, le=1)] = 0.33
    """Largest share."""
    aspect_ratio: Annotated[float, Field(ge=1)] = 3.3
    """Rectangles are between 1/aspect_ratio and aspect_ratio high for their width."""

    @model_validator(mode="after")
    def _ordered(self) -> "ErasingConfig":
        if self.min_area > self.max_area:
            raise ValueError(
                f"min_area={self.min_area:g} is more than max_area={self.max_area:g}: lower the first, or raise the "
                "second"
            )
        return self


class BlurConfig(Section):
    """The image is blurred by a Gaussian."""

    probability: Fraction = 0.0
    """Of an image to be blurred."""
    min_sigma: Positive = 0.1
    """Smallest standard deviation, in pixels of the cropped and resized image."""
    max_sigma: Positive = 2.0
    """Largest."""

    @model_validator(mode="after")
    def _ordered(self) -> "BlurConfig":
        if self.min_sigma > self.max_sigma:
            raise ValueError(
                f"min_sigma={self.min_sigma:g} is more than max_sigma={self.max_sigma:g}: lower the first, or raise "
                "the second"
            )
        return self


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
    policy: PolicyConfig = PolicyConfig()
    blur: BlurConfig = BlurConfig()
    erasing: ErasingConfig = ErasingConfig()

    @property
    def jitter(self) -> tuple[float, float, float]:
        """How far brightness, contrast and saturation may go from 1."""
        return self.brightness, self.contrast, self.saturation


class ProgressiveConfig(Section):
    """Training begins with smaller images (Tan and Le, 2021: EfficientNetV2, algorithm 1)."""

    from_size: Count
    """Side of the square in the first epoch, in pixels."""
    until_epoch: Count
    """From this epoch on, counted from 0, it is `data.image_size`. Until then it grows evenly."""
    step: Count = 32
    """It is `from_size` and a multiple of this."""


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
    progressive: ProgressiveConfig | None = None
    """Sizes of the training images by epoch; `image_size` throughout if not given. Evaluation is not touched by it."""
    pixels: Literal["float32", "float16"] = "float32"
    """Type of the training images that DALI hands over. float16 is half as large, for `train.precision` bf16 and fp16,
    whose products round them anyway; what is evaluated stays float32."""
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

    def training_size(self, epoch: int) -> int:
        """Return the side of the training images in an epoch, counted from 0."""
        growing = self.progressive
        if growing is None or epoch >= growing.until_epoch:
            return self.image_size
        grown = (self.image_size - growing.from_size) * epoch // growing.until_epoch
        return growing.from_size + grown // growing.step * growing.step

    @property
    def smaller_sizes(self) -> list[int]:
        """Sides of training images that `progressive` makes, but for `image_size`."""
        epochs = 0 if self.progressive is None else self.progressive.until_epoch
        return sorted({self.training_size(epoch) for epoch in range(epochs)} - {self.image_size})

    @model_validator(mode="after")
    def _growing(self) -> "DataConfig":
        if self.progressive is not None and self.progressive.from_size >= self.image_size:
            raise ValueError(
                f"progressive.from_size={self.progressive.from_size} is not below data.image_size={self.image_size}, "
                "which it grows to: lower it, or leave data.progressive out"
            )
        return self


def make_sampler(kind: str = "instance", **settings: Any) -> Sampler:
    """Return the sampler that the section `data.sampler` with these keys is."""
    return SAMPLER.model({"kind": kind}).model_validate({"kind": kind, **settings})
