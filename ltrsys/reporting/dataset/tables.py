"""The figures of a dataset as text and tables on a terminal."""

from typing import Any

from rich.console import Console
from rich.table import Table

REASONS_SHOWN = 3


def print_dataset(summary: dict[str, Any], console: Console) -> None:
    """Print what `summarize` returns."""
    groups = ", ".join(f"{count} {shot}" for shot, count in summary["classes"].items())
    without = summary["classes_without_training_images"]
    console.print(
        f"{summary['name']}: {summary['num_classes']} classes ({groups}-shot"
        + (f"; {without} without a training image" if without else "")
        + f"), from {summary['source']}, seed {summary['seed']}"
        + (f", short side at most {summary['resize']}" if summary["resize"] else ""),
        highlight=False,
        markup=False,
    )
    console.print(_splits(summary))
    console.print(_pixels(summary))
    console.print(_strata(summary))
    for line in _notes(summary):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _splits(summary: dict[str, Any]) -> Table:
    table = Table("split", "images", "classes", "images a class", "shards", "MB")
    for name, split in summary["splits"].items():
        spread = split["images_per_class"]
        between = f"{spread['least']} to {spread['most']}, median {spread['median']:g}"
        table.add_row(
            name,
            f"{split['images']:,}",
            f"{split['classes']:,}",
            between,
            f"{split['shards']:,}",
            f"{split['bytes'] / 1e6:,.1f}",
        )
    return table


def _pixels(summary: dict[str, Any]) -> Table:
    known = any("formats" in split for split in summary["splits"].values())
    formats = ["files were"] if known else []
    table = Table("split", "width", "height", "short side", *formats, title="pixels: 5 % / median / 95 %")
    for name, split in summary["splits"].items():
        sizes = [f"{side['p5']} / {side['median']} / {side['p95']}" for side in split["pixels"].values()]
        if known:
            sizes.append(", ".join(f"{kind} {count:,}" for kind, count in split.get("formats", {}).items()) or "?")
        table.add_row(name, *sizes)
    return table


def _strata(summary: dict[str, Any]) -> Table:
    table = Table("stratum", "classes", "images a class", "images", "shards", title="strata of train")
    for stratum in summary["splits"].get("train", {}).get("strata", []):
        spread = stratum["images_per_class"]
        table.add_row(
            str(stratum["band"]),
            f"{stratum['classes']:,}",
            f"{spread['least']} to {spread['most']}",
            f"{stratum['images']:,}",
            f"{stratum['shards']:,}",
        )
    return table


def _notes(summary: dict[str, Any]) -> list[str]:
    notes = []
    if smallest := summary["smallest_classes"]:
        names = ", ".join(f"{entry['name']} ({entry['images']})" for entry in smallest)
        notes.append(f"Fewest training images: {names}.")
    if rejected := summary.get("rejected", {}).get("images"):
        reasons = summary["rejected"]["reasons"]
        told = "; ".join(f"{count:,}: {reason}" for reason, count in list(reasons.items())[:REASONS_SHOWN])
        more = f"; {len(reasons) - REASONS_SHOWN} more reasons" if len(reasons) > REASONS_SHOWN else ""
        notes.append(f"Left out: {_counted(rejected, 'image')} ({told}{more}), listed in rejected.jsonl.")
    duplicates = summary.get("duplicates")
    if duplicates and duplicates["clusters"]:
        found = f"{_counted(duplicates['images'], 'image')} in {_counted(duplicates['clusters'], 'cluster')}"
        notes.append(
            f"Duplicates across splits or classes: {found} ({duplicates['exact']:,} exact, {duplicates['near']:,} "
            f"near), {duplicates['dropped']:,} dropped; listed in duplicates.jsonl."
        )
    elif duplicates:
        notes.append("Duplicates across splits or classes: none.")
    return notes


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" + ("" if count == 1 else "s")
