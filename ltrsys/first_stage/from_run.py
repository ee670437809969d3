"""Starting from another run: from its backbone, and from its classifier unless that is drawn anew."""

from collections.abc import Collection
from pathlib import Path

from ltrsys.config.reading import load_run_config
from ltrsys.config.schema import Config
from ltrsys.data.index.dataset import Dataset
from ltrsys.errors import UsageError
from ltrsys.files import sha256_of
from ltrsys.models.network import Network
from ltrsys.models.stored.weights import load_parts, metadata_of
from ltrsys.runs.folder import RunFolder
from ltrsys.runs.trained_on import changes_since

STARTED_FROM = "started_from"
"""Key in the metadata of a run's `model.safetensors`: SHA-256 of the weights that it was started from."""


def check_from_run(config: Config, dataset: Dataset) -> None:
    """Refuse to start from the run that `train.from_run` names, where it is of another network or other classes.

    A run of ltrsys 0.2.0 or earlier may not know its classes: there, only their number can be wrong, which
    `fill_from_run` finds.

    Args:
        config: The new run, with `train.from_run`.
        dataset: What it is to be trained on.

    Raises:
        UsageError: Says what differs, or that the run has no model yet.
    """
    assert config.train.from_run is not None
    run = RunFolder(config.train.from_run)
    named = f"train.from_run={run.path}"
    theirs, ours = load_run_config(run).model, config.model
    if not run.model.exists():
        raise UsageError(f"{named}: that run has no model yet. Let its training end first, or give another run.")
    compared = ["backbone", "stem", "feature_layer", *(() if config.train.reset_classifier else ("head",))]
    if theirs.attention != "none":  # else it is added
        compared += ["attention", "attention_side"]
    for key in compared:
        then, now = ("null" if (value := getattr(of, key)) is None else value for of in (theirs, ours))
        if then != now:
            other = "train.reset_classifier=true" if key == "head" else "another run"
            raise UsageError(
                f"{named}: that run has model.{key}={then}, but the config says {now}. Give model.{key}={then}, or "
                f"{other}."
            )
    changes = changes_since(run, dataset)
    if changes is not None and changes.classes:
        raise UsageError(
            f"{named}: the classes of data.shards={config.data.shards} are not those of that run "
            f"({'; '.join(changes.classes)}). Give the shards that it was trained on, or start from its backbone alone "
            f"with model.weights={run.model}."
        )


def fill_from_run(network: Network, path: Path, *, fresh: Collection[str] = ()) -> None:
    """Give a network the weights of a run, except for some of its parts.

    Args:
        network: As it was built, with random weights.
        path: The run folder, which `check_from_run` has let pass.
        fresh: Names of submodules that start from those random weights: `classifier`, or what the run does not have.

    Raises:
        DataError: Where the weights are damaged, or another part is not the network's (names the tensor).
    """
    load_parts(network, RunFolder(path).model, fresh=fresh)


def parts_to_begin(config: Config) -> list[str]:
    """Return the names of the submodules that do not come from the run that `train.from_run` names."""
    assert config.train.from_run is not None
    fresh = ["classifier"] * config.train.reset_classifier
    theirs = load_run_config(RunFolder(config.train.from_run)).model
    if config.model.attention != theirs.attention:
        fresh.append("backbone.avgpool.attention")
    return fresh


def digest_of_start(path: Path) -> str | None:
    """Return the SHA-256 of the weights that the trained run in the folder `path` was started from, if from any.

    Raises:
        DataError: Where its model is damaged.
    """
    return metadata_of(RunFolder(path).model).get(STARTED_FROM)


def digest_of_weights(path: Path) -> str:
    """Return the SHA-256 of the model of the run folder `path`."""
    return sha256_of(RunFolder(path).model)
