"""The classes of a data set with annotation files: the categories of the training file."""

import logging
from collections.abc import Sequence
from pathlib import Path

from ltrsys.data.index.records import ClassRecord
from ltrsys.data.sources.files.annotation_file import Category, Text, text_of
from ltrsys.data.sources.files.identities import Identities
from ltrsys.data.sources.files.text_files import quoted
from ltrsys.errors import DataError

log = logging.getLogger("ltrsys")


class Categories:
    """Classes, and the class of each category."""

    def __init__(self, path: Path, categories: Sequence[Category], *, merge: bool) -> None:
        """Make the classes.

        Args:
            path: The training file.
            categories: Its table.
            merge: Whether categories of one name become one class.

        Raises:
            DataError: Where two have the same id, or the same name and are not to become one.
        """
        self._path = path
        self._identities = Identities([entry["id"] for entry in categories], lambda at: f"{path}: categories[{at}]")
        self._names = [_name(entry) for entry in categories]
        self._labels: list[int] = []
        self.classes: list[ClassRecord] = []
        """In the order of the file, each where its first category stands."""
        label_of_name: dict[str, int] = {}
        for entry, name in zip(categories, self._names, strict=True):
            label = label_of_name.setdefault(name, len(self.classes))
            self._labels.append(label)
            if label == len(self.classes):
                self.classes.append(_class_record(entry, name))
                continue
            before = self.classes[label]
            if not merge:
                raise DataError(
                    f"{path}: two categories are called {quoted(name)}, with the ids {before.source_id} and "
                    f"{entry['id']}. Rename one, or make them one class with --merge-classes."
                )
            self.classes[label] = before.model_copy(update={"source_id": f"{before.source_id},{entry['id']}"})
        if len(self.classes) < len(categories):
            classes = "class" if len(self.classes) == 1 else "classes"
            log.info("%s: %d categories became %d %s.", path, len(categories), len(self.classes), classes)

    def label(self, identity: int | str) -> int | None:
        """Return the class of the category with an id, or None where there is none."""
        place = self._identities.place(identity)
        return None if place is None else self._labels[place]

    def compare(self, path: Path, categories: Sequence[Category]) -> None:
        """Warn where another file calls a category by another name: its ids may mean something else."""
        other = [
            (entry, self._names[place])
            for entry in categories
            if (place := self._identities.place(entry["id"])) is not None and _name(entry) != self._names[place]
        ]
        if other:
            entry, name = other[0]
            log.warning(
                "%s: %d categories have another name than in %s, such as id %s: %s there and %s here. Images are taken "
                "by the id.",
                path,
                len(other),
                self._path,
                entry["id"],
                quoted(name),
                quoted(_name(entry)),
            )


def _name(category: Category) -> str:
    return text_of(category.get("name")) or f"category {category['id']}"


def _class_record(category: Category, name: str) -> ClassRecord:
    taxa: dict[str, Text] = {
        "kingdom": category.get("kingdom"),
        "phylum": category.get("phylum"),
        "class": category.get("class"),
        "order": category.get("order"),
        "family": category.get("family"),
        "genus": category.get("genus"),
        "species": name if text_of(category.get("genus")) else None,
    }
    return ClassRecord(
        name=name,
        supercategory=text_of(category.get("supercategory")),
        source_id=str(category["id"]),
        taxonomy={rank: text for rank, taxon in taxa.items() if (text := text_of(taxon)) is not None},
    )
