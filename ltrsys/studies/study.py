"""A study: a YAML file that says which runs and classifiers a table is made of.

title: Sampling in the first stage, on glyphs
source: Kang et al., 2020, Table 2      # of the reference numbers
runs:
  instance: {config: ../demo.yaml, seeds: [0, 1, 2]}
  balanced: {config: ../demo.yaml, overrides: ["data.sampler.kind=class_balanced"], seeds: [0, 1, 2]}
  finetuned: {config: ../demo.yaml, from: instance, overrides: ["train.trainable=last_block"], seeds: [0, 1, 2]}
versus: Joint, instance-balanced
rows:
  - {label: "Joint, instance-balanced", run: instance, classifier: joint, reference: {all: 64.4}}
  - {label: "Joint, class-balanced", run: balanced, classifier: joint}
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from ltrsys.classifiers.base import CLASSIFIERS
from ltrsys.config.changes import differences
from ltrsys.config.reading import load_config, load_run_config, load_yaml
from ltrsys.config.schema import Config
from ltrsys.errors import UsageError, first_problem
from ltrsys.first_stage.from_run import digest_of_start, digest_of_weights
from ltrsys.registry import nearest
from ltrsys.runs.folder import RunFolder
from ltrsys.second_stage.applying import check_applicable
from ltrsys.section import MayChange, Section

Column = Literal["many", "medium", "few", "all", "mean_class_accuracy", "top3", "top5"]


class StudyRun(Section):
    """Trainings that differ in their seeds alone."""

    config: str
    """The config: a file, its path beginning at the study's folder, or the name of one that comes with ltrsys."""
    overrides: list[str] = Field(default=[])
    """Changes to it, `key.sub=value`."""
    seeds: list[int] = Field(default=[0], min_length=1)
    starts_from: str | None = Field(default=None, alias="from")
    """Another run of the study: each seed starts from that run's training of the same seed (`train.from_run`)."""


class Row(Section):
    """One line of the table: a classifier of a run, or published numbers alone."""

    label: str
    run: str | None = None
    """None for published numbers that are not measured again."""
    classifier: str = "joint"
    settings: dict[str, Any] = Field(default={})
    """Of the classifier, as in the section `balance.<classifier>`."""
    section: str = ""
    """A heading above the first row of those that have it."""
    reference: dict[Column, float] = Field(default={})
    """Published numbers, in per cent; `Study.source` says whose."""
    x: str = ""
    """In a figure that places rows: where it stands on the x axis."""
    series: str = ""
    """In a figure that places rows: the line, or the colour and marker, that it belongs to."""


class Study(Section):
    """What a table is made of."""

    title: str
    source: str | None = None
    """Where the reference numbers are from."""
    runs: Annotated[dict[str, StudyRun], Field(min_length=1)]
    rows: list[Row] = Field(default=[])
    figure: str | None = None
    """The kind of picture that `ltrsys study show` draws of it (`ltrsys.studies.figures`)."""
    columns: list[Column] = Field(default=["many", "medium", "few", "all"], min_length=1)
    equal_footing: bool = False
    """Also show each row at the tilt that is best on val, and its few-shot accuracy at the many-shot accuracy of the
    tilted joint classifier of the same training (`ltrsys.evaluation.tilting`)."""
    versus: str | None = None
    """The label of the row that the others are compared with by a paired test. Where several sections have such a row,
    each is compared with that of its own section."""

    @field_validator("rows")
    @classmethod
    def _known(cls, rows: list[Row]) -> list[Row]:
        for row in rows:
            if row.classifier not in CLASSIFIERS:
                raise ValueError(
                    f"`{row.classifier}`: unknown classifier. {nearest(row.classifier, CLASSIFIERS.names())}"
                )
        return rows

    @model_validator(mode="after")
    def _in_order(self) -> "Study":
        """Refuse runs that cannot be started from others."""
        for key, run in self.runs.items():
            if run.starts_from is None:
                continue
            if run.starts_from not in self.runs:
                raise ValueError(
                    f"run `{key}`: starts from `{run.starts_from}`, which is no run of the study. "
                    f"{nearest(run.starts_from, self.runs).rstrip('.')}"
                )
            for seed in run.seeds:
                if seed not in self.runs[run.starts_from].seeds:
                    raise ValueError(
                        f"run `{key}`: there is no seed {seed} of the run `{run.starts_from}`, which it starts from. "
                        "Give that run the seed too"
                    )
        for key in self.runs:
            way = [key]
            while (before := self.runs[way[-1]].starts_from) is not None:
                if before in way:
                    circle = " from ".join(f"`{name}`" for name in [*way[way.index(before) :], before])
                    raise ValueError(f"runs start from one another: {circle}. Leave out one `from`")
                way.append(before)
        return self

    @model_validator(mode="after")
    def _consistent(self) -> "Study":
        places = [(row.section, row.label) for row in self.rows]
        if not self.rows and self.figure is None:
            raise ValueError("rows: a table has at least one")
        for row in self.rows:
            if row.run is None and not row.reference:
                raise ValueError(f"row `{row.label}` has neither a run nor reference numbers. Give it one of them")
            if row.run is None and self.figure is not None:
                raise ValueError(f"row `{row.label}` has no run, and a figure shows what is measured. Give it a run")
            if row.run is not None and row.run not in self.runs:
                raise ValueError(f"row `{row.label}`: there is no run `{row.run}`. {nearest(row.run, self.runs)}")
            if row.reference and not self.source:
                raise ValueError(
                    f"row `{row.label}` has reference numbers, and the study has no `source`. Say whose they are"
                )
            if places.count((row.section, row.label)) > 1:
                raise ValueError(f"two rows are called `{row.label}`. Give one another label")
        labels = [row.label for row in self.rows if row.run is not None]
        if self.versus is not None and self.versus not in labels:
            raise ValueError(f"versus: there is no row `{self.versus}` of a run. {nearest(self.versus, labels)}")
        return self

    @property
    def runs_of_rows(self) -> list[str]:
        """The runs that rows are of, in the order of the rows."""
        return list(dict.fromkeys(row.run for row in self.rows if row.run is not None))

    def compared_with(self, row: Row) -> Row | None:
        """Return the row that `versus` names in the section of `row`, or else anywhere; None where there is no such."""
        named = [other for other in self.rows if other.label == self.versus and other.run is not None]
        beside = [other for other in named if other.section == row.section]
        return next(iter([*beside, *named]), None)


@dataclass(frozen=True)
class Training:
    """One training of a study: a run with one seed."""

    key: str
    """The run's name in the study."""
    seed: int
    config_file: Path
    overrides: tuple[str, ...]
    """All that is changed of the config, the run's name and seed included."""
    config: Config
    starts_from: "Training | None" = None
    """The training that it goes on from, by `train.from_run`."""
    weights_from: "Training | None" = None
    """The training of the study whose `model.safetensors` is its `model.weights`."""

    @property
    def run(self) -> RunFolder:
        """Where it is."""
        return RunFolder(self.config.run_folder)

    @property
    def state(self) -> Literal["missing", "waiting", "begun", "trained"]:
        """How far it is; `waiting` for the training that it starts from."""
        if self.run.model.exists():
            return "trained"
        if self.run.config_file.exists():
            return "begun"
        return "missing" if self.waits_for is None else "waiting"

    @property
    def waits_for(self) -> "Training | None":
        """A training that has to end before this one can begin; None where there is none any more."""
        return next(iter(self._not_trained_before), None)

    @property
    def _not_trained_before(self) -> list["Training"]:
        befores = [before for before in (self.starts_from, self.weights_from) if before is not None]
        return [before for before in befores if before.state != "trained"]

    @property
    def turn(self) -> int:
        """How many trainings have to end, one after another, before this one can begin."""
        return max((1 + before.turn for before in self._not_trained_before), default=0)

    def check(self) -> None:
        """Refuse what the run folder holds, where it is not this training's.

        Raises:
            UsageError: Where it is of another config, a study before or somebody's own run, or was started from other
                weights than those that are there now.
        """
        if not self.run.config_file.exists():
            return
        for key, then, now in differences(load_run_config(self.run), self.config, MayChange.ON_RESUME):
            raise UsageError(
                f"{self.run.path}: was made with {key}={then}, but this study says {now}. Call the study's run "
                f"`{self.key}` otherwise, or move that folder away."
            )
        if self.starts_from is not None and self.state == self.starts_from.state == "trained":
            path = self.starts_from.run.path
            if digest_of_start(self.run.path) != digest_of_weights(path):
                raise UsageError(
                    f"{self.run.path}: was not started from the weights that {path} holds now. Move the first folder "
                    "away to train it again."
                )


@dataclass(frozen=True)
class OpenStudy:
    """A study that has been read."""

    path: Path
    study: Study
    changes: tuple[str, ...] = ()
    """Of every config, from the command line."""

    @classmethod
    def read(cls, path: Path, changes: tuple[str, ...] = ()) -> "OpenStudy":
        """Read a study file.

        Raises:
            UsageError: Where it cannot be read, or is wrong.
        """
        try:
            values = load_yaml(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: cannot read this study: {getattr(error, 'strerror', None) or error}.") from None
        except yaml.YAMLError as error:
            raise UsageError(f"{path}: not valid YAML: {' '.join(str(error).split())}.") from None
        try:
            return cls(path, Study.model_validate(values), changes)
        except ValidationError as error:
            raise UsageError(f"{path}: {first_problem(error).removeprefix('``: Value error, ')}.") from None

    @cached_property
    def trainings(self) -> list[Training]:
        """All trainings, in the order of the file; their configs are read.

        Raises:
            UsageError: Where a config is wrong, a classifier does not apply to the network of its run, or two runs
                would share a folder.
        """
        trainings = [training for key in self.study.runs for training in self.of(key)]
        for training in trainings:
            classifiers = [row.classifier for row in self.study.rows if row.run == training.key]
            check_applicable(classifiers, training.config.model)
        folders: dict[Path, Training] = {}
        for training in trainings:
            other = folders.setdefault(training.run.path, training)
            if other is not training:
                raise UsageError(
                    f"{self.path}: the runs `{other.key}` and `{training.key}` share the folder {training.run.path}. "
                    "Give one seed once, and each run its own name."
                )
        made = {training.run.model: training for training in trainings}
        return [self._with_weights(training, made) for training in trainings]

    def _with_weights(self, training: Training, made: Mapping[Path, Training]) -> Training:
        """Return a training that knows which others make the weights that it and those before it begin with."""
        before, weights = training.starts_from, training.config.model.weights
        maker = None if weights is None else made.get(weights)
        if maker is not None and maker.config.model.weights is not None and made.get(maker.config.model.weights):
            raise UsageError(
                f"{self.path}: the run `{training.key}` begins with weights of `{maker.key}`, which begins with those "
                "of another run. Start from runs by `from`."
            )
        return replace(
            training,
            starts_from=None if before is None else self._with_weights(before, made),
            weights_from=maker,
        )

    def of(self, key: str) -> Iterator[Training]:
        """Yield the trainings of one run of the study."""
        run = self.study.runs[key]
        beside = self.path.parent / run.config
        config_file = beside if beside.exists() else Path(run.config)
        before = {} if run.starts_from is None else {training.seed: training for training in self.of(run.starts_from)}
        for seed in run.seeds:
            start = [f"train.from_run={json.dumps(str(before[seed].run.path))}"] if before else []
            changes = (*run.overrides, *self.changes, *start)
            base = load_config(config_file, changes)
            name = base.name if base.name.endswith(key) else f"{base.name}-{key}"
            own = (*changes, f"name={name}-seed{seed}", f"seed={seed}")
            yield Training(key, seed, config_file, own, load_config(config_file, own), before.get(seed))

    def trainings_of(self, row: Row) -> list[Training]:
        """Return the trainings that a row is measured on, in the order of the seeds; none for published numbers."""
        return [training for training in self.trainings if training.key == row.run]

    def config_of(self, row: Row, training: Training) -> Config:
        """Return the config of a training with the settings of a row.

        Raises:
            UsageError: Where a setting is wrong.
        """
        settings = [f"balance.{row.classifier}.{key}={json.dumps(value)}" for key, value in row.settings.items()]
        try:
            return load_config(training.config_file, [*training.overrides, *settings])
        except UsageError as error:
            raise UsageError(f"{self.path}: row `{row.label}`: {error}") from None
