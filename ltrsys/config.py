"""What an experiment is made of: one strict, typed schema.

A config file is YAML; `extends: other.yaml` takes everything from another file and changes what is named.
Unknown keys and wrong types are errors that name the key, the file and the nearest valid key.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ltrsys.location import folder_or_url

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
DeviceName = Literal["auto", "cuda", "cpu"]
RGB = Annotated[list[float], Field(min_length=3, max_length=3)]

IMAGENET_MEAN = [0.485, 0.456, 0.406]
IMAGENET_STD = [0.229, 0.224, 0.225]


class Section(BaseModel):
    """A part of the config: every key known, every type exact, nothing changed after loading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class SamplerConfig(Section):
    """How often each class is drawn (paper, section 3)."""

    kind: Literal["instance", "class_balanced", "square_root", "power", "progressive", "weights", "class_aware"] = (
        "instance"
    )
    """`instance`, `square_root` and `class_balanced` are q = 1, 1/2 and 0 of equation 1; `power` takes any q;
    `progressive` is equation 2; `weights` takes a weight per class; `class_aware` is class-balanced with
    `samples_per_draw` images of a class in the same batch."""
    q: Fraction | None = None
    """The exponent of `power`."""
    weights: Path | None = Field(default=None, strict=False)
    """For `weights`: a JSON file with one number per class id, in a list."""
    samples_per_draw: Count = 4
    """For `class_aware`: how many images of a class come together in a batch, dealt to its micro-batches."""

    @model_validator(mode="after")
    def _complete(self) -> "SamplerConfig":
        if (self.kind == "power") != (self.q is not None):
            raise ValueError("q is given for, and only for, kind: power")
        if (self.kind == "weights") != (self.weights is not None):
            raise ValueError("weights names a JSON file for, and only for, kind: weights")
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


def _folder_or_url(value: Any) -> Any:
    return folder_or_url(value) if isinstance(value, str) else value


class DataConfig(Section):
    """Where the images come from and in which order."""

    shards: Annotated[Path | str, BeforeValidator(_folder_or_url)]
    """The folder that `ltrsys shards` wrote, or its URL (http, https, s3)."""
    cache: Path | None = Field(default=None, strict=False)
    """Where shards of a URL are kept, on a disk of each node; a folder of yours in the temporary one if not given."""
    cache_gb: Positive = 50.0
    """How much the cache may hold, in 10^9 bytes."""
    retry_seconds: Positive = 300.0
    """How long a server may fail to send anything before the run ends."""
    image_size: Count = 224
    """Side of the square the network sees, in pixels."""
    resize: Count = 256
    """Evaluation resizes the short side to this, then crops the centre."""
    mean: RGB = IMAGENET_MEAN
    """Subtracted from the channels, on a scale of 0 to 1."""
    std: RGB = IMAGENET_STD
    """The channels are divided by this, on a scale of 0 to 1."""
    sampler: SamplerConfig = SamplerConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    samples_per_epoch: Count | None = None
    """Length of an epoch; the number of training images if not given."""
    lanes: Count = 192
    """Parts of the epoch that are dealt to the ranks; their number must be a multiple of the ranks'."""
    shuffle_window: Annotated[int, Field(ge=0)] | None = None
    """How far a sample may move from its place where a lane reads each of its stretches forward, from a random place
    on: for disks that seek, at the cost of mixing. If not given, a lane's samples come in random order."""
    decode: Literal["auto", "cpu", "gpu"] = "auto"
    """Where DALI decodes and augments; `auto` is the GPU where there is one."""
    threads: Count = 4
    """DALI's threads on the CPU, a rank."""
    prefetch: Count = 2
    """Batches made ahead of use."""
    on_error: Literal["stop", "skip"] = "stop"
    """What a damaged training image does: end the run, its state saved, or be replaced by another of its class."""
    max_bad_share: Fraction = 0.001
    """For `skip`: the part of the training images that may be damaged before the run ends all the same."""


class ModelConfig(Section):
    """The network."""

    backbone: str = "resnext50_32x4d"
    """resnet10/50/101/152, resnext50/101/152_32x4d, or any classification model of torchvision by name."""
    stem: Literal["imagenet", "small"] = "imagenet"
    """`small` is a 3x3, stride-1 stem without pooling, for images of about 32 pixels."""
    weights: Path | None = Field(default=None, strict=False)
    """A safetensors file of backbone weights to start from (as `model.safetensors` of a run)."""


class OptimizerConfig(Section):
    """Stochastic gradient descent (paper, section 5.1)."""

    lr: Positive = 0.2
    """Learning rate at the start, for the batch as configured."""
    backbone_lr: Positive | None = None
    """Another learning rate for the backbone; `lr` is then the classifier's (Places-LT)."""
    momentum: Fraction = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    nesterov: bool = False
    impl: Literal["auto", "torch", "apex"] = "auto"
    """torch's fused SGD, which `auto` is, or NVIDIA apex's FusedSGD."""


class ScheduleConfig(Section):
    """The learning rate over time: cosine from `lr` to 0."""

    step: Literal["iteration", "epoch"] = "iteration"
    """`epoch` is the paper's code: constant within an epoch, and 0 throughout the last one."""
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    """The learning rate rises linearly from 0 for so long before the cosine."""


class TrainConfig(Section):
    """The first stage: backbone and classifier together."""

    engine: Literal["deepspeed", "ddp"] = "deepspeed"
    """`ddp` is torch's DistributedDataParallel: the oracle of the other."""
    epochs: Count = 90
    batch_size: Count = 512
    """Samples of one optimizer step, over all ranks."""
    micro_batch_size: Count | Literal["auto"] | None = None
    """Samples that go through the network at once on one rank; BatchNorm sees such groups. Gradient
    accumulation makes up the rest. `batch_size` over the number of ranks if not given; `auto` is that, or its half,
    its quarter, ...: the largest that fits into the GPU's memory, tried before the first step."""
    device: DeviceName = "auto"
    """`auto` is the GPU where there is one; a run whose GPU should be there and cannot be used ends with a line."""
    cudnn_benchmark: bool = True
    """On a GPU, cuDNN tries the algorithms of every convolution at its first call, and keeps the fastest."""
    tf32: bool = True
    """On a GPU, float32 products and convolutions are computed in TensorFloat-32, with 10 bits of mantissa."""
    precision: Literal["float32", "bf16", "fp16"] = "bf16"
    """The type of the matrix products under autocast; weights and BatchNorm statistics stay float32."""
    channels_last: bool = True
    batch_norm: Literal["sync", "average"] = "average"
    """Statistics over all ranks at every step (GPU only), or each rank's own, whose running averages are
    averaged over the ranks before every evaluation and save."""
    zero_stage: Literal[0, 1] = 0
    """DeepSpeed's ZeRO stage: 1 shards the optimizer's state over the ranks."""
    compile: bool = False
    """Compile the model with torch.compile."""
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    evaluate_every: Count = 10
    """Epochs between evaluations on val; the last epoch is always evaluated."""
    log_every: Count = 10
    """Optimizer steps between lines of metrics.jsonl."""
    checkpoint_every: Count = 1
    """Epochs between checkpoints, after their evaluation."""
    checkpoint_every_steps: Count | None = None
    """Optimizer steps between checkpoints within an epoch, if wanted."""
    checkpoint_every_minutes: Positive | None = 30.0
    """Minutes between checkpoints, by the first rank's clock; null for none."""
    keep_checkpoints: Count = 2
    """How many checkpoints stay, the best one apart."""
    timeout_seconds: Positive = 600.0
    """A rank that is silent for so long ends the run."""

    @model_validator(mode="after")
    def _within_zero(self) -> "TrainConfig":
        """Refuse what DeepSpeed's ZeRO cannot do, before it does something else."""
        if self.zero_stage == 0:
            return self
        if self.engine != "deepspeed":
            raise ValueError("zero_stage=1 is DeepSpeed's: give train.zero_stage=0 or train.engine=deepspeed")
        if self.channels_last:
            raise ValueError(
                "zero_stage=1 keeps the weights in one flat buffer, where channels_last crashes: give "
                "train.zero_stage=0 or train.channels_last=false"
            )
        if self.precision == "fp16":
            raise ValueError(
                "the state of fp16's loss scaling is not kept at zero_stage=1: give train.zero_stage=0 or "
                "train.precision=bf16"
            )
        return self


class NCMConfig(Section):
    """Nearest class mean."""

    feature: Literal["plain", "l2n", "cl2n"] = "cl2n"
    """Features as they are, L2-normalised, or centred by the training mean and then L2-normalised."""
    distance: Literal["euclidean", "cosine"] = "euclidean"


class RetrainConfig(Section):
    """Training a classifier on the feature bank with class-balanced sampling (cRT, LWS, learned tau)."""

    epochs: Count
    lr: Positive = 0.2
    batch_size: Count = 512
    momentum: Fraction = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    bias: bool = True
    """cRT: whether the new classifier has a bias. LWS: whether the scale multiplies the bias too."""


class TauConfig(Section):
    """tau-normalisation (paper, equation 3)."""

    grid: list[float] = Field(default=[round(0.1 * step, 1) for step in range(21)], min_length=1)
    select_on: Literal["auto", "val", "train", "learned"] = "auto"
    """Best accuracy on val; best mean class accuracy on train (paper, B.5); or learned by gradient descent.
    `auto` is val where there is a val split, else train."""
    learned: RetrainConfig = RetrainConfig(epochs=5, lr=0.1, weight_decay=0.0)


class BalanceConfig(Section):
    """The second stage: classifiers on the frozen backbone."""

    classifiers: list[Literal["joint", "ncm", "crt", "tau", "lws"]] = Field(
        default=["joint", "ncm", "crt", "tau", "lws"], min_length=1
    )
    feature_batch_size: Count = 256
    """Images that go through the backbone at once while the feature bank is made."""
    val_is_test: bool = False
    """Let tau be chosen on the test split where there is no other val (as the paper did on iNaturalist)."""
    ncm: NCMConfig = NCMConfig()
    crt: RetrainConfig = RetrainConfig(epochs=10)
    lws: RetrainConfig = RetrainConfig(epochs=5)
    tau: TauConfig = TauConfig()
    bn: Literal["eval", "recalibrate"] = "eval"
    """BatchNorm of the frozen backbone: its running statistics, or statistics measured again on a
    class-balanced pass before the bank is made (what the paper's code drifts to)."""


class ShotsConfig(Section):
    """How classes are grouped by their number of training images (paper, section 5.1)."""

    many: Count = 100
    """Many-shot classes have more images than this."""
    few: Count = 20
    """Few-shot classes have fewer images than this."""

    @model_validator(mode="after")
    def _ordered(self) -> "ShotsConfig":
        if self.few > self.many:
            raise ValueError(f"few ({self.few}) is not above many ({self.many})")
        return self


class TrackingConfig(Section):
    """Where the metrics go besides metrics.jsonl."""

    wandb: Literal["disabled", "offline", "online"] = "offline"
    project: str = "ltrsys"
    tags: list[str] = []


class Config(Section):
    """A whole experiment."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")]
    """Name of the run, its folder being `runs/<name>`: letters, digits, `_`, and after the first also `.` and `-`."""
    runs: Path = Field(default=Path("runs"), strict=False)
    """The folder of run folders."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    data: DataConfig
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    balance: BalanceConfig = BalanceConfig()
    shots: ShotsConfig = ShotsConfig()
    tracking: TrackingConfig = TrackingConfig()

    @property
    def run_folder(self) -> Path:
        """`runs/<name>`."""
        return self.runs / self.name

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        micro = self.train.micro_batch_size
        if isinstance(micro, int) and self.train.batch_size % micro:
            raise ValueError(
                f"train.batch_size={self.train.batch_size} is not a multiple of train.micro_batch_size={micro}"
            )
        # The ranks that wait for one that fetches must not take it for dead.
        if isinstance(self.data.shards, str) and self.data.retry_seconds > 0.8 * self.train.timeout_seconds:
            raise ValueError(
                f"data.retry_seconds={self.data.retry_seconds:g} is more than 0.8 of "
                f"train.timeout_seconds={self.train.timeout_seconds:g}: lower the first, or raise the second"
            )
        if self.data.image_size > self.data.resize:
            raise ValueError(f"data.image_size={self.data.image_size} does not fit into data.resize={self.data.resize}")
        return self

    def dump(self) -> dict[str, Any]:
        """Return the config as plain values, ready for YAML."""
        return self.model_dump(mode="json")
