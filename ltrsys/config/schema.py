"""What an experiment is made of: one strict, typed schema.

A config file is YAML; `extends: other.yaml` takes everything from another file and changes what is named.
Unknown keys and wrong types are errors that name the key, the file and the nearest valid key.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from ltrsys.data.config import DataConfig
from ltrsys.features.config import BankConfig
from ltrsys.metrics.config import ShotsConfig
from ltrsys.models.backbones.libraries.base import library_of
from ltrsys.models.config import ModelConfig
from ltrsys.registry import load_plugin, loaded_plugins
from ltrsys.runs.config import TRACKING, TrackingConfig
from ltrsys.second_stage.config import BALANCE, BalanceConfig
from ltrsys.section import MayChange, Section
from ltrsys.training.config import TrainConfig


class Config(Section):
    """A whole experiment."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$"), MayChange.ON_RESUME]
    """Name of the run, its folder being `runs/<name>`: letters, digits, `_`, and after the first also `.` and `-`."""
    runs: Annotated[Path, MayChange.ON_RESUME] = Field(default=Path("runs"), strict=False)
    """The folder of run folders."""
    plugins: Annotated[list[str], MayChange.AFTER_TRAINING] = Field(default=[])
    """Methods of one's own: Python files, by their paths, and modules that are installed, by their names."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    data: DataConfig
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    bank: Annotated[BankConfig, MayChange.AFTER_TRAINING] = BankConfig()
    balance: Annotated[BalanceConfig, BALANCE, MayChange.AFTER_TRAINING] = Field(
        default_factory=lambda: BALANCE.model()()
    )
    shots: Annotated[ShotsConfig, MayChange.AFTER_TRAINING] = ShotsConfig()
    tracking: Annotated[TrackingConfig, TRACKING, MayChange.AFTER_TRAINING] = Field(
        default_factory=lambda: TRACKING.model()()
    )

    @property
    def run_folder(self) -> Path:
        """`runs/<name>`."""
        return self.runs / self.name

    @model_validator(mode="before")
    @classmethod
    def _made_for_its_network(cls, values: Any) -> Any:
        """Give the network images of the size, and normalised in the way, that its library says, unless told otherwise.

        A network of a fixed size is built for the images that it gets.
        """
        if not isinstance(values, Mapping):
            return values
        model, data = values.get("model"), values.get("data")
        if not (isinstance(model, Mapping) and isinstance(data, Mapping) and isinstance(model.get("backbone"), str)):
            return values
        found = library_of(model["backbone"])
        if found is None or found[1] not in found[0].names():  # whoever builds the network says that it is unknown
            return values
        made_for = asdict(found[0].input_of(found[1]))
        if isinstance(size := data.get("image_size"), int) and size != made_for["image_size"]:
            made_for["resize"] = round(made_for["resize"] * size / made_for["image_size"])
            model = {"input_size": size, **model}
        made_for |= {key: list(value) for key, value in made_for.items() if isinstance(value, tuple)}
        return {**values, "model": model, "data": {**made_for, **data}}

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
        loss = self.train.loss
        if loss.needs_head is not None and self.model.head != loss.needs_head:
            raise ValueError(
                f"train.loss.kind={loss.kind} is not made for model.head={self.model.head}: give "
                f"model.head={loss.needs_head} or another loss"
            )
        if self.model.head == "oltr_memory" and not loss.learns_centroids:
            raise ValueError(
                f"model.head=oltr_memory needs a loss that learns its centroids, and train.loss.kind={loss.kind} does "
                "not: give train.loss.kind=oltr_centroids"
            )
        if loss.needs_several_of_a_class and self.data.sampler.images_per_draw < 2:
            raise ValueError(
                f"train.loss.kind={loss.kind} needs several images of a class in a batch, which "
                f"data.sampler.kind={self.data.sampler.kind} does not see to: give data.sampler.kind=class_aware with "
                "data.sampler.samples_per_draw=2 or more"
            )
        if self.data.image_size > self.data.resize:
            raise ValueError(f"data.image_size={self.data.image_size} does not fit into data.resize={self.data.resize}")
        if self.data.pixels == "float16" and self.train.precision == "float32":
            raise ValueError(
                "data.pixels=float16 loses digits that train.precision=float32 computes with: give "
                "train.precision=bf16 or fp16, or leave data.pixels out"
            )
        growing = self.data.progressive
        if growing is not None and growing.until_epoch >= self.train.epochs:
            raise ValueError(
                f"data.progressive.until_epoch={growing.until_epoch} leaves no epoch of full size: with "
                f"train.epochs={self.train.epochs}, give {self.train.epochs - 1} or less"
            )
        return self

    @model_validator(mode="after")
    def _one_start(self) -> "Config":
        train, model = self.train, self.model
        starts = model.weights is not None or bool(model.pretrained)
        if model.weights is not None and model.pretrained:
            raise ValueError(
                f"model.weights={model.weights} and model.pretrained={model.pretrained} both say what the backbone "
                "starts from: give one of them"
            )
        if model.pretrained_by_order and not isinstance(model.pretrained, str):
            raise ValueError("model.pretrained_by_order=true is for a file: give it as model.pretrained")
        if train.from_run is None:
            if train.reset_classifier and not starts:
                raise ValueError(
                    "train.reset_classifier=true has no classifier to draw anew, since training starts from random "
                    "weights: give train.from_run, or leave it out"
                )
            if (freezing := self._what_freezes()) and not starts:
                raise ValueError(
                    f"{freezing[0]} would freeze random weights: give train.from_run, model.pretrained or "
                    "model.weights, or leave it out"
                )
            return self
        if starts:
            key = "weights" if model.weights is not None else "pretrained"
            raise ValueError(
                f"train.from_run={train.from_run} and model.{key}={getattr(model, key)} both say what training starts "
                "from: give one of them"
            )
        if train.from_run.absolute() == self.run_folder.absolute():
            raise ValueError(f"train.from_run={train.from_run} is this run's own folder: give another run, or name")
        return self

    @model_validator(mode="after")
    def _frozen_once(self) -> "Config":
        freezing = self._what_freezes()
        if len(freezing) > 1 and not (self.model.lora is not None and self.train.trainable == "norms"):
            raise ValueError(f"{' and '.join(freezing)} both say what is frozen: leave one of them out")
        return self

    def _what_freezes(self) -> list[str]:
        """Return the keys, with their values, that keep parts of the network from being trained."""
        train = self.train
        keys = {
            f"train.trainable={train.trainable}": train.trainable != "all",
            f"train.freeze_stages={train.freeze_stages}": train.freeze_stages > 0,
            "model.lora": self.model.lora is not None,
        }
        return [key for key, freezes in keys.items() if freezes]

    @model_validator(mode="after")
    def _one_start_of_the_head(self) -> "Config":
        train = self.train
        if train.head_start == "random":
            return self
        if self.model.head != "cosine":
            raise ValueError(
                f"train.head_start={train.head_start} gives directions, which model.head={self.model.head} is not made "
                "of: give model.head=cosine, or train.head_start=random"
            )
        if train.from_run is not None and not train.reset_classifier:
            raise ValueError(
                f"train.from_run={train.from_run} and train.head_start={train.head_start} both say what the classifier "
                "starts from: give train.reset_classifier=true, or train.head_start=random"
            )
        return self

    def dump(self) -> dict[str, Any]:
        """Return the config as plain values, ready for YAML."""
        return self.model_dump(mode="json")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the values, and which plug-ins the schema was made with: its sections may be theirs."""
        return _unpickle, (self.dump(), loaded_plugins())


def _unpickle(values: dict[str, Any], plugins: list[str]) -> Config:
    for plugin in plugins:
        load_plugin(plugin)
    return Config.model_validate(values)
