"""Adding classes to a run from a few pictures each, without training."""

from collections.abc import Sequence
from pathlib import Path

from ltrsys.data.sources.files.image_tree import PassedOver, images_below
from ltrsys.errors import UsageError
from ltrsys.files import sha256_of
from ltrsys.prediction.added_classes import AddedClasses, able_classifiers, load_added, save_added
from ltrsys.prediction.predictor import Predictor
from ltrsys.runs.folder import RunFolder
from ltrsys.second_stage.store import classifier_path
from ltrsys.section import DeviceName


def add_classes(path: Path, folders: Sequence[Path], name: str | None, device: DeviceName) -> None:
    """Add a class for each folder, or more pictures to one that was added before.

    Args:
        path: The run folder.
        folders: Of pictures; the name of a folder is that of its class.
        name: The name of the class, where there is one folder.
        device: Where the network computes.

    Raises:
        UsageError: For a folder without pictures, a class that the run was trained with, or a run none of whose
            classifiers can take new classes.
        DataError: For a picture that cannot be read (names it).
    """
    if name is not None and len(folders) > 1:
        raise UsageError(f"--name {name} is for one folder, and there are {len(folders)}: their names are taken.")
    run, able = RunFolder(path), able_classifiers()
    named = [(folder.resolve().name if name is None else name, _pictures(folder)) for folder in folders]
    fitted = [one for one in able if classifier_path(run.classifiers, one).exists()]
    if run.config_file.exists() and not fitted:
        raise UsageError(
            f"{path}: no classifier that takes new classes without training has been fitted. Run `ltrsys balance "
            f"{path} --classifiers {able[0]}` first."
        )
    before = load_added(run)
    with Predictor.load(path, classifier=fitted[0] if fitted else None, device=device) as predictor:
        model = predictor.model
        added = before or AddedClasses.none(model.fitted.bank, model.feature_dim)
        trained = {record.name for record in model.signature.classes} - set(added.names)
        _check_names([class_name for class_name, _ in named], trained, path)
        for class_name, pictures in named:
            features_ND = predictor.features(pictures)
            added = added.with_pictures(class_name, features_ND, [sha256_of(picture) for picture in pictures])
    save_added(added, run)
    counts = dict(zip(added.names, added.images, strict=True))
    told = ", ".join(f"{class_name} ({counts[class_name]} pictures)" for class_name, _ in named)
    print(f"{path}: {', '.join(fitted)} know {told}. The other classifiers do not: they were trained without.")
    print(f"Name photographs with `ltrsys predict {path} PHOTOGRAPHS --classifier {fitted[0]}`.")


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder of pictures.")
    passed_over = PassedOver()
    found = [Path(picture) for picture in sorted(images_below(str(folder), passed_over))]
    passed_over.warn(folder)
    if not found:
        raise UsageError(f"{folder}: there is no picture in this folder, or below it.")
    return found


def _check_names(names: Sequence[str], trained: set[str], path: Path) -> None:
    for name in names:
        if name in trained:
            raise UsageError(
                f"{name}: {path} was trained with a class of this name. Give the new one another name, or add these "
                "pictures to its shards (`ltrsys shards ... --update`) and balance again."
            )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"{twice}: two folders have this name. Add one after the other, with --name.")
