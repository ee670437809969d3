"""The values of the page in, its HTML out: one file that asks for no other.

Whatever comes from a dataset or a run, such as names of classes, is shown as text: the template escapes it, JSON within
the page holds no `<`, the scripts put text alone into the page, and the page's Content-Security-Policy allows no script
but these, and no request.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from ltrsys.pages import charts
from ltrsys.pages.model import Page
from ltrsys.pages.panels.base import PANELS

SCRIPTS = ("page.js", "colours.js", "charts.js", "table.js")
"""What the scripts of the panels use, in this order; `start.js` comes last."""


@dataclass(frozen=True)
class Script:
    """A script of the page."""

    name: str
    text: str

    @property
    def sha256(self) -> str:
        """What the Content-Security-Policy knows it by."""
        return base64.b64encode(hashlib.sha256(self.text.encode()).digest()).decode()


def render(page: Page, pictures: Sequence[str]) -> str:
    """Return the page as HTML.

    Args:
        page: What it shows.
        pictures: Data URIs, which `page` names by their places.

    Raises:
        UsageError: Where the script of a panel cannot be read.
    """
    environment = Environment(
        loader=PackageLoader("ltrsys.pages", "static"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scripts = [
        Script("bokeh", charts.script()),
        *(Script(name, _static(name)) for name in SCRIPTS),
        *(Script(panel.name, panel.script()) for panel in PANELS),
        Script("start", _static("start.js")),
    ]
    for script in scripts:
        _check_embeddable(script)
    return environment.get_template("page.html.j2").render(
        page=page,
        scripts=[{"name": script.name, "sha256": script.sha256, "text": Markup(script.text)} for script in scripts],
        style=Markup(_static("page.css")),
        data=_json({"page": page.model_dump(mode="json"), "pictures": list(pictures)}),
        library=charts.NAME,
        licence=charts.licence(),
    )


def _static(name: str) -> str:
    return files("ltrsys.pages").joinpath("static", name).read_text(encoding="utf-8")


def _json(values: object) -> Markup:
    """Return JSON for the inside of a script element, which any `</script>` would end, and `<!--` confuse."""
    text = json.dumps(values, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _check_embeddable(script: Script) -> None:
    """Say so if a script would end its own element: it comes with ltrsys, with Bokeh or with a plug-in."""
    from ltrsys.errors import UsageError

    for ending in ("</script", "<!--"):
        if ending in script.text.lower():
            raise UsageError(f"the script of {script.name} holds `{ending}`, which HTML takes for markup: split it.")
