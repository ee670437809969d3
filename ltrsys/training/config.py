"""The section `train`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ltrsys.method_section import OneOf
from ltrsys.metrics.config import SelectBy
from ltrsys.models.config import Trainable
from ltrsys.section import Count, DeviceName, MayChange, Positive, Section
from ltrsys.training.losses.base import LOSSES, Loss
from ltrsys.training.losses.cross_entropy import CrossEntropy
from ltrsys.training.optimizers.base import OPTIMIZERS, Optimizer
from ltrsys.training.optimizers.sgd import SGD
from ltrsys.training.schedules.base import SCHEDULES, Schedule
from ltrsys.training.schedules.cosine import Cosine

OPTIMIZER: OneOf[Optimizer] = OneOf(OPTIMIZERS, default="sgd")
SCHEDULE: OneOf[Schedule] = OneOf(SCHEDULES, default="cosine")
LOSS: OneOf[Loss] = OneOf(LOSSES, default="cross_entropy")


class MixupConfig(Section):
    """Images as means of two (Zhang et al., 2018)."""

    alpha: Annotated[float, Field(ge=0)] = 0.0
    """The share of an image in its mean with another is drawn from Beta(alpha, alpha); 0 mixes nothing."""


class CutMixConfig(Section):
    """Images with a rectangle of another (Yun et al., 2019). With mixup, each micro-batch has one of both at random."""

    alpha: Annotated[float, Field(ge=0)] = 0.0
    """The share of an image that stays is drawn from Beta(alpha, alpha); 0 cuts nothing."""


class TrainConfig(Section):
    """The first stage: backbone and classifier together."""

    engine: Annotated[Literal["deepspeed", "ddp"], MayChange.ON_RESUME] = "deepspeed"
    """`ddp` is torch's DistributedDataParallel: the reference implementation for the other."""
    from_run: Annotated[Path | None, MayChange.ON_RESUME] = Field(default=None, strict=False)
    """The folder of a trained run, whose backbone and classifier are started from. It is read once, at the start: later
    it may be elsewhere."""
    reset_classifier: bool = False
    """Draw the classifier anew from the seed, where `from_run` would give it."""
    head_start: Literal["random", "class_means"] = "random"
    """What the weights of `model.head=cosine` begin as where no run gives them: drawn from the seed, or the class means
    of the training images, which the backbone then sees once before the first step (LIFT)."""
    trainable: Trainable = "all"
    """What is trained: everything; the last residual block and the classifier; the scales and shifts of normalisation
    and the classifier; or the classifier. The rest is frozen, its BatchNorm as in evaluation."""
    freeze_stages: Annotated[int, Field(ge=0)] = 0
    """How many of the first stages of the backbone are frozen, and its stem with them; 0 for none. Those of a ResNet
    are layer1 to layer4; those of a vision transformer its blocks."""
    epochs: Count = 90
    batch_size: Count = 512
    """Samples of one optimizer step, over all ranks."""
    micro_batch_size: Count | Literal["auto"] | None = None
    """Samples that go through the network at once on one rank; BatchNorm sees such groups. Gradient
    accumulation makes up the rest. `batch_size` over the number of ranks if not given; `auto` is that, or its half,
    its quarter, ...: the largest that fits into the GPU's memory, tried before the first step."""
    device: Annotated[DeviceName, MayChange.AFTER_TRAINING] = "auto"
    """`auto` is the GPU where there is one; a run whose GPU should be there and cannot be used ends with a line."""
    cudnn_benchmark: Annotated[bool, MayChange.AFTER_TRAINING] = True
    """On a GPU, cuDNN tries the algorithms of every convolution at its first call, and keeps the fastest."""
    tf32: bool = True
    """On a GPU, float32 products and convolutions are computed in TensorFloat-32, with 10 bits of mantissa."""
    precision: Literal["float32", "bf16", "fp16"] = "bf16"
    """The type of the matrix products under autocast; weights and BatchNorm statistics stay float32."""
    channels_last: Annotated[Literal[True, False, "auto"], MayChange.ON_RESUME] = "auto"
    """The layout of images and weights in memory: channels last, or torch's usual one. `auto` times both at the start
    of a training on a GPU and takes the faster one (`ltrsys.training.layout`), is channels last on a CPU, and the usual
    one where channels last cannot be. What was taken stands in the run's config, and stays."""
    batch_norm: Literal["sync", "average"] = "average"
    """Statistics over all ranks at every step (GPU only), or each rank's own, whose running averages are
    averaged over the ranks before every evaluation and save."""
    zero_stage: Annotated[Literal[0, 1], MayChange.ON_RESUME] = 0
    """DeepSpeed's ZeRO stage: 1 shards the optimizer's state over the ranks."""
    compile: Annotated[bool, MayChange.ON_RESUME] = False
    """Compile the model with torch.compile."""
    optimizer: Annotated[Optimizer, OPTIMIZER] = Field(default_factory=SGD)
    clip_grad_norm: Positive | None = None
    """Gradients, averaged over the ranks and without fp16's scale, whose norm together is larger are scaled down to
    it."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Evaluate, compare and save an exponential moving average of the weights: what of it stays at each step, less in
    the first ones (`ltrsys.training.average`). null for the weights themselves."""
    schedule: Annotated[Schedule, SCHEDULE] = Field(default_factory=Cosine)
    loss: Annotated[Loss, LOSS] = Field(default_factory=CrossEntropy)
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    mixup: MixupConfig = MixupConfig()
    cutmix: CutMixConfig = CutMixConfig()
    evaluate_every: Annotated[Count, MayChange.ON_RESUME] = 10
    """Epochs between evaluations on val; the last epoch is always evaluated."""
    select_by: SelectBy = "mean_class_accuracy"
    """The best checkpoint is the best on val by this: the mean over the classes of their accuracies, or the accuracy
    over all images. On a balanced split they are one. A run that was begun before this could be chosen goes on by
    accuracy."""
    log_every: Annotated[Count, MayChange.ON_RESUME] = 10
    """Optimizer steps between lines of metrics.jsonl."""
    checkpoint_every: Annotated[Count, MayChange.ON_RESUME] = 1
    """Epochs between checkpoints, after their evaluation."""
    checkpoint_every_steps: Annotated[Count | None, MayChange.ON_RESUME] = None
    """Optimizer steps between checkpoints within an epoch, if wanted."""
    checkpoint_every_minutes: Annotated[Positive | None, MayChange.ON_RESUME] = 30.0
    """Minutes between checkpoints, by the first rank's clock; null for none."""
    keep_checkpoints: Annotated[Count, MayChange.ON_RESUME] = 2
    """How many checkpoints stay, the best one apart."""
    timeout_seconds: Annotated[Positive, MayChange.ON_RESUME] = 600.0
    """A rank that is silent for so long ends the run."""

    @property
    def can_be_in_channels_last(self) -> bool:
        """Whether neither ZeRO nor the optimizer needs weights whose memory is flat."""
        return self.zero_stage == 0 and not self.optimizer.takes_flat_memory

    @property
    def in_channels_last(self) -> bool:
        """Whether images and weights are in channels last; where `auto` is not decided yet, whether they can be."""
        return self.channels_last if isinstance(self.channels_last, bool) else self.can_be_in_channels_last

    @model_validator(mode="after")
    def _within_zero(self) -> "TrainConfig":
        """Refuse what DeepSpeed's ZeRO cannot do, before it does something else."""
        if self.zero_stage == 0:
            return self
        if self.engine != "deepspeed":
            raise ValueError("zero_stage=1 is DeepSpeed's: give train.zero_stage=0 or train.engine=deepspeed")
        if self.channels_last is True:
            raise ValueError(
                "zero_stage=1 keeps the weights in one flat buffer, where channels_last crashes: give "
                "train.zero_stage=0 or train.channels_last=false"
            )
        if self.optimizer.whole_parameters:
            raise ValueError(
                f"zero_stage=1 cuts the weights into flat parts, and train.optimizer.kind={self.optimizer.kind} needs "
                "whole matrices: give train.zero_stage=0, or train.optimizer.kind=sgd or adamw"
            )
        if self.precision == "fp16":
            raise ValueError(
                "the state of fp16's loss scaling is not kept at zero_stage=1: give train.zero_stage=0 or "
                "train.precision=bf16"
            )
        return self

    @model_validator(mode="after")
    def _within_the_layout(self) -> "TrainConfig":
        """Refuse an optimizer that would update other numbers than it is meant to."""
        if self.channels_last is True and self.optimizer.takes_flat_memory:
            raise ValueError(
                "optimizer.impl=deepspeed takes weights for flat memory, which those of channels_last are not: give "
                "train.channels_last=false or train.optimizer.impl=auto"
            )
        return self

    @model_validator(mode="after")
    def _within_the_classifier(self) -> "TrainConfig":
        """Refuse what has nothing to act on where only the classifier is trained."""
        if self.trainable != "classifier":
            return self
        if self.optimizer.backbone_lr is not None:
            raise ValueError(
                f"optimizer.backbone_lr={self.optimizer.backbone_lr:g} has nothing to train, since "
                "train.trainable=classifier freezes the backbone: leave one of them out"
            )
        if self.optimizer.layer_decay is not None:
            raise ValueError(
                f"optimizer.layer_decay={self.optimizer.layer_decay:g} has no layers to act on, since "
                "train.trainable=classifier freezes the backbone: leave one of them out"
            )
        if self.loss.has_batch_term:
            raise ValueError(
                f"train.loss.kind={self.loss.kind} compares features, which train.trainable=classifier freezes: give "
                "train.trainable=last_block or all, or another loss"
            )
        return self

    @model_validator(mode="after")
    def _within_the_loss(self) -> "TrainConfig":
        """Refuse what the loss would not heed, or has no meaning for."""
        loss = self.loss
        if loss.from_epoch >= self.epochs:
            raise ValueError(
                f"loss.from_epoch={loss.from_epoch} is after the last epoch: with train.epochs={self.epochs}, the last "
                f"is {self.epochs - 1}, counted from 0"
            )
        if self.label_smoothing and not loss.smooths_labels:
            raise ValueError(
                f"label_smoothing={self.label_smoothing:g} is not heeded by train.loss.kind={loss.kind}: give "
                "train.label_smoothing=0"
            )
        for name, mixing in (("mixup", self.mixup), ("cutmix", self.cutmix)):
            if mixing.alpha and loss.has_batch_term:
                raise ValueError(
                    f"{name}.alpha={mixing.alpha:g} makes images of two classes, and train.loss.kind={loss.kind} "
                    f"compares images by their class: give train.{name}.alpha=0 or another loss"
                )
        return self
