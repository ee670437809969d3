"""BokehJS, the library that draws the charts, out of the package `bokeh`: its script and its licence."""

from importlib.metadata import version
from importlib.resources import files

from bokeh.resources import Resources

NAME = f"Bokeh {version('bokeh')}"


def script() -> str:
    """Return BokehJS and its interface for JavaScript, without what only its Python side uses."""
    return "\n".join(Resources(mode="inline", components=["bokeh", "bokeh-api"]).js_raw)


def licence() -> str:
    """Return the text of its licence."""
    return files("bokeh").joinpath("LICENSE.txt").read_text(encoding="utf-8")
