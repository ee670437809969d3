import re
from pathlib import Path

from ltrsys.runs.dashboard import Panel, dashboard

ROOT = Path(__file__).parents[2]


def row(section: str, panel: Panel) -> tuple[str, ...]:
    keys = ", ".join(f"`{key}`" for key in panel.keys) or f"`{panel.pattern}`"
    over = "time" if panel.over == "seconds" else f"`{panel.over}`"
    return section, panel.title, panel.kind, keys, over if panel.kind == "curves" else ""


def test_wandb_md_shows_the_layout() -> None:
    _, _, page = (ROOT / "docs" / "wandb.md").read_text().partition("| section | panel | kind | keys | over |")
    table, _, _ = page.partition("\n\n")
    shown = [tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in table.splitlines()[2:]]
    sections = dashboard("test", ["joint", "ncm", "crt", "tau", "lws"])
    assert shown == [row(section.name, panel) for section in sections for panel in section.panels]
    assert re.search(r"`ltrsys wandb-workspace` makes it", (ROOT / "docs" / "wandb.md").read_text())


def test_titles_are_told_apart() -> None:
    for section in dashboard("test", ["joint"]):
        titles = [panel.title for panel in section.panels]
        assert len(set(titles)) == len(titles)
