"""The model card: `README.md` in the form of Hugging Face, from what the run knows of itself."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml

from ltrsys import __version__
from ltrsys.data.index.records import DatasetRecord
from ltrsys.evaluation.results import Line, ReachedPrecision, Results
from ltrsys.export.companions import Accuracies
from ltrsys.export.comparison import Comparison, accuracy_lines
from ltrsys.export.formats.base import Exporter
from ltrsys.export.subject import Subject
from ltrsys.metrics.accuracy import ALL_COLUMNS, classes_by_shot, heading, shot_of_class
from ltrsys.prediction.prior import trained_frequencies
from ltrsys.second_stage.grids import described

LIBRARIES = {"onnx": "onnx", "timm": "timm"}
"""What Hugging Face calls the library of a format; of others it is `pytorch`."""
LICENCES_SHOWN = 10

PREPARE = """\
import csv
import json
import sys

import numpy as np
from PIL import Image, ImageOps

preprocessing = json.load(open("preprocessing.json", encoding="utf-8"))
names = [row["name"] for row in csv.DictReader(open("classes.csv", encoding="utf-8", newline=""))]


def short_side_to(image, side, filter):
    short = min(image.size)
    return image.resize([side if length == short else int(side * length / short) for length in image.size], filter)


def prepared(path):
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    stored = preprocessing["reduced_to"]
    if stored and min(image.size) > stored:
        image = short_side_to(image, stored, Image.Resampling.LANCZOS)
    filter = Image.Resampling[preprocessing["interpolation"].upper()]
    image = short_side_to(image, preprocessing["resize"], filter)
    side = preprocessing["image_size"]
    left, top = (round((length - side) / 2) for length in image.size)
    pixels = np.asarray(image.crop((left, top, left + side, top + side)))
    if preprocessing["normalised_by"] == "caller":
        pixels = (pixels / np.float32(255) - np.float32(preprocessing["mean"])) / np.float32(preprocessing["std"])
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
"""

ANSWER = """\
probabilities = probabilities_of(prepared(sys.argv[1]))[0]
for place in (-probabilities).argsort(kind="stable")[:5]:
    print(f"{probabilities[place]:.4f}  {names[place]}")
"""


@dataclass(frozen=True)
class ModelCard:
    """What is told of an export."""

    subject: Subject
    exporter: type[Exporter]
    comparison: Comparison
    accuracies: Accuracies | None
    """Of the run and of the export, on the images of `comparison`, where that was measured."""
    loss: str | None
    """What int8 loses more than it may, which was accepted."""
    record: DatasetRecord | None
    """What the run was trained on; None where only its classes are known."""
    results: Results | None
    line: Line | None
    """The measured line of this very classifier; None where there is none."""
    licences: Counter[str] | None
    """Images by licence; None where the shards do not say it."""
    licence: str
    """Of the model, by Hugging Face's identifiers."""

    def text(self) -> str:
        """Return the whole card."""
        front = yaml.safe_dump(self._front_matter(), sort_keys=False, allow_unicode=True)
        sections = [
            f"---\n{front}---",
            f"# {self._title}",
            self._introduction(),
            "## How to load it",
            self._how_to_load(),
            "## Data",
            self._data(),
            "## Accuracy",
            self._accuracy(),
            "## Calibration",
            self._calibration(),
            "## Limits",
            "\n".join(f"* {limit}" for limit in self._limits()),
            "## Licence and attribution",
            self._attribution(),
        ]
        return "\n\n".join(sections) + "\n"

    @property
    def _title(self) -> str:
        return f"{self.subject.model.config.name}, {self.subject.model.classifier.label}"

    def _front_matter(self) -> dict[str, Any]:
        front: dict[str, Any] = {
            "license": self.licence,
            "library_name": LIBRARIES.get(self.exporter.name, "pytorch"),
            "pipeline_tag": "image-classification",
            "tags": ["image-classification", "long-tailed-recognition", "ltrsys", self.exporter.name],
            "metrics": ["accuracy"],
        }
        if self.line is not None and self.results is not None:
            measured = [
                {"type": "accuracy", "name": f"accuracy, {heading(column)}", "value": round(value, 2)}
                for column in ALL_COLUMNS
                if (value := getattr(self.line, column)) is not None
            ]
            dataset = {"name": self.results.dataset, "type": self.results.dataset, "split": self.results.split}
            task = {"type": "image-classification"}
            front["model-index"] = [
                {"name": self._title, "results": [{"task": task, "dataset": dataset, "metrics": measured}]}
            ]
        return front

    def _introduction(self) -> str:
        model, folded = self.subject.model, self.subject.folded
        settings = described(model.classifier.name, model.fitted.params, model.fitted.selected_on)
        takes = (
            "uint8 of 0 to 255, RGB; the model normalises them"
            if folded.takes_bytes
            else "float32, RGB, normalised as `preprocessing.json` says"
        )
        side = model.signature.preprocessing.image_size
        return (
            f"{model.config.model.backbone} with the classifier {model.classifier.label}"
            f"{f' ({settings})' if settings else ''} on {len(model.signature.classes):,} classes, exported by ltrsys "
            f"{__version__} as {self.exporter.name}, {self.subject.precision}. `{model.classifier.name}`: "
            f"{model.classifier.summary}{f' ({source})' if (source := model.classifier.source) else ''}.\n\n"
            f"Input `images`: [N, 3, {side}, {side}], {takes}. Outputs: logits and probabilities, float32 "
            f"[N, {len(model.signature.classes)}], in the order of `classes.csv`. SHA-256 of names, taxonomy and "
            f"preprocessing: `{model.signature.sha256}`."
        )

    def _how_to_load(self) -> str:
        code = "\n\n".join([PREPARE, self.exporter.loading_code(self.subject), ANSWER])
        return (
            f"In this folder, as `python FILE.py PHOTOGRAPH`:\n\n```python\n{code}```\n\n"
            f"Tried after writing: {self.comparison.line()}."
        )

    def _data(self) -> str:
        signature, config = self.subject.model.signature, self.subject.model.config
        counts = np.array(signature.train_counts, dtype=np.int64)
        groups = classes_by_shot(shot_of_class(counts, config.shots))
        lines = [
            f"{len(counts):,} classes with {counts.max():,} down to {counts.min():,} training images: "
            f"{groups['many']:,} many-shot (more than {config.shots.many}), {groups['medium']:,} medium-shot and "
            f"{groups['few']:,} few-shot (fewer than {config.shots.few})."
        ]
        if self.record is not None:
            splits = ", ".join(f"{name} {split.samples:,}" for name, split in self.record.splits.items())
            lines.append(f"Data set `{self.record.name}` (source `{self.record.source}`). Images: {splits}.")
        return " ".join(lines)

    def _accuracy(self) -> str:
        parts = []
        if self.line is None or self.results is None:
            parts.append("`ltrsys balance` has not measured this classifier: nothing is known of its accuracy.")
        else:
            rows = [
                f"| {heading(column)} | {value:.1f} | {_interval(self.line.confidence_95.get(column))} |"
                for column in ALL_COLUMNS
                if (value := getattr(self.line, column)) is not None
            ]
            parts.append(
                f"Top-1 on {self.results.images['all']:,} images of `{self.results.split}`, in per cent, of the run "
                "before the export (`mean`: over the classes of their accuracies):"
            )
            parts.append("\n".join(["| classes | accuracy | 95 % interval |", "| --- | --- | --- |", *rows]))
        if self.accuracies is not None:
            table = "\n".join(accuracy_lines(self.accuracies))
            parts.append(f"Of the run before the export and of this file after it, on {self.comparison.images}:")
            parts.append(f"```\n{table}\n```")
        return "\n\n".join(parts)

    def _calibration(self) -> str:
        temperature = self.subject.folded.temperature
        if temperature == 1:
            return "None: probabilities are the softmax of the logits, and may be too sure or not sure enough."
        said = f"Probabilities are the softmax of the logits divided by the temperature {temperature:.4g}"
        measured = None if self.line is None else self.line.calibration
        if measured is None or self.results is None:
            return f"{said}."
        before, after = measured.before.calibration_error, measured.after.calibration_error
        rows = [
            f"| {column} | {before[column]:.1f} | {after[column]:.1f} |"
            for column in before
            if before[column] is not None and after[column] is not None
        ]
        table = "\n".join(["| classes | error before | after |", "| --- | --- | --- |", *rows])
        parts = [
            f"{said}, which was fitted on {measured.fitted_on} ({measured.fitted_images:,} images). Expected "
            f"calibration error on `{self.results.split}`, in per cent:",
            table,
        ]
        sure = [self._sure(reached) for reached in measured.precisions if reached.threshold is not None]
        return "\n\n".join([*parts, "\n".join(f"* {one}" for one in sure)] if sure else parts)

    def _sure(self, reached: ReachedPrecision) -> str:
        """Say what answering from a confidence on comes to."""
        precision, answered = reached.precision["all"], reached.answered["all"]
        right = "none of these images" if precision is None else f"{precision:.1f} % of these answers are right"
        return (
            f"For a precision of {reached.wanted:.0%}, take answers of a probability from {reached.threshold:.3f} on: "
            f"{0 if answered is None else answered:.1f} % of the images; {right}."
        )

    def _limits(self) -> Iterator[str]:
        model = self.subject.model
        counts = np.array(model.signature.train_counts, dtype=np.int64)
        if few := int((counts < model.config.shots.few).sum()):
            known = ""
            if self.line is not None and self.line.few is not None:
                known = f": {self.line.few:.1f} % of their images are named rightly"
            yield (
                f"{few:,} of {len(counts):,} classes had fewer than {model.config.shots.few} training images{known}."
            )
        if none := int((counts == 0).sum()):
            yield f"{none:,} classes had no training image. They cannot be recognised."
        frequencies_C = model.classifier.class_frequencies(trained_frequencies(model.config, counts), counts)
        usual = "equally frequent" if np.allclose(frequencies_C, 1 / len(counts)) else "as frequent as in training"
        yield (
            f"Probabilities are meant for pictures in which all classes are {usual}. Where other classes are frequent, "
            "multiply them by the ratio of the frequencies, and divide by the sum."
        )
        yield "It was measured on photographs of its own data set. Other cameras, places and seasons were not tried."
        yield "It always names one of its classes, also for a picture of something else."
        if self.loss is not None:
            yield f"**int8 loses {self.loss}.** This was accepted by `--force`."

    def _attribution(self) -> str:
        said = "was not stated" if self.licence == "unknown" else f"is {self.licence}"
        parts = [f"The licence of this model {said}."]
        if self.licences is None:
            parts.append("The shards do not say under which licences the photographs were.")
        else:
            shown = [
                f"{name or 'none stated'} ({count:,})" for name, count in self.licences.most_common(LICENCES_SHOWN)
            ]
            more = len(self.licences) - len(shown)
            parts.append(
                "`attribution.csv` names licence and rights holder of the photographs. Images by licence: "
                + ", ".join(shown)
                + (f", and {more} more licences." if more > 0 else ".")
            )
        return " ".join(parts)


def _interval(interval: tuple[float, float] | None) -> str:
    return "–" if interval is None else f"{interval[0]:.1f} to {interval[1]:.1f}"
