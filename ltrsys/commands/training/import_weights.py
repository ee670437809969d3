"""A run folder made of weights that were trained elsewhere, for the second stage."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from ltrsys.config.reading import load_config, save_config
from ltrsys.config.schema import Config
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.reading.opening import open_dataset
from ltrsys.errors import UsageError
from ltrsys.files import sha256_of
from ltrsys.models.image_size import check_image_size
from ltrsys.models.signature import Signature, signature_in
from ltrsys.models.stored.published import Published, load_published
from ltrsys.models.stored.weights import TORCH_SUFFIXES, save_tensors
from ltrsys.runs.folder import RunFolder

CLASSES_SHOWN = 3


def import_run(
    file: Path, config_file: Path, overrides: Sequence[str], out: Path | None, *, apply_scales: bool
) -> None:
    """Write `config.yaml` and `model.safetensors` of a new run, and say what the user must know of it.

    Args:
        file: What was published.
        config_file: The experiment that it is of.
        overrides: `key.sub=value`.
        out: The run folder, `runs/<name>` by default.
        apply_scales: Whether factors of LWS are multiplied into the classifier. Else it stays as it was trained
            jointly with the backbone, and balancing finds factors of its own.

    Raises:
        UsageError: For a config that does not load or whose network does not take its image size, or a run folder that
            is already one.
        DataError: For a file that is damaged, or of another network or number of classes.
    """
    if out is not None:
        absolute = out.absolute()
        overrides = [*overrides, f"name={json.dumps(absolute.name)}", f"runs={json.dumps(str(absolute.parent))}"]
    config = load_config(config_file, overrides)
    run = RunFolder(out if out is not None else config.run_folder)
    for path in (run.model, run.checkpoints, run.config_file):
        if path.exists():
            raise UsageError(f"{path}: there is a run already. Choose another folder with --out, or move it away.")
    check_image_size(config.model, config.data.image_size)
    dataset = open_dataset(config.data)
    signature = Signature.of(dataset.record, config.data)
    _check_classes(file, signature, config)
    published = load_published(config.model, dataset.num_classes, file)
    if apply_scales:
        published = _with_scales(published, file)
    origin = {"imported_from": file.name, "sha256": sha256_of(file)}
    save_config(config, run.config_file)
    try:
        # last: with it, this is a run
        save_tensors(dict(published.network.state_dict()), run.model, origin | signature.metadata())
    except BaseException:
        run.config_file.unlink()  # or the same command would find a run here
        raise
    print(_conclusion(published, config, dataset, file, run.path))


def _check_classes(file: Path, signature: Signature, config: Config) -> None:
    """Refuse a model that says of itself that it has other classes, or sees images otherwise."""
    own = None if file.suffix in TORCH_SUFFIXES else signature_in(file)
    if own is not None and (difference := own.difference(signature)):
        raise UsageError(
            f"{file}: this model is not one of data.shards={config.data.shards} and this config: {difference} (here: "
            "the model; there: the shards and the config). Give those that it was trained with."
        )


@torch.no_grad()
def _with_scales(published: Published, file: Path) -> Published:
    if published.scales_C is None:
        raise UsageError(f"{file}: has no factors of LWS. Leave out --apply-scales.")
    classifier = published.network.classifier
    if not isinstance(classifier, nn.Linear):
        raise UsageError(f"{file}: factors of LWS belong to model.head=linear. Leave out --apply-scales.")
    classifier.weight.mul_(published.scales_C[:, None])
    classifier.bias.mul_(published.scales_C)
    return replace(published, scales_C=None)


def _conclusion(published: Published, config: Config, dataset: Dataset, file: Path, folder: Path) -> str:
    names = [f"{number} is {record.name}" for number, record in enumerate(dataset.record.classes[:CLASSES_SHOWN])]
    lines = [
        f"{folder}: {config.model.backbone} with {dataset.num_classes} classes, from {file} in the layout of "
        f"{published.layout}.",
        f"A checkpoint does not say which class is which: output i is taken for class i of {config.data.shards} "
        f"({', '.join(names)}, ...). Shards built from other lists than its authors' may number them otherwise: if "
        "the joint accuracy is near chance, they do.",
    ]
    if published.scales_C is not None:
        lines.append(
            "Its factors of LWS are left out: the classifier is the one that was trained with the backbone. "
            "--apply-scales multiplies them in."
        )
    lines.append(f"Balance it with `ltrsys balance {folder}`.")
    return "\n".join(lines)
