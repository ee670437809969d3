"""`ltrsys methods`: everything that can be named in a config or on the command line."""

import json as json_module
from collections.abc import Iterator
from typing import Annotated

import typer

from ltrsys.cli.arguments import JsonOption, PluginOption
from ltrsys.errors import UsageError
from ltrsys.registry import REGISTRIES, Method, load_plugin, nearest


def methods(
    kind: Annotated[str | None, typer.Argument(metavar="[KIND]", help="Only this kind, such as sampler.")] = None,
    json: JsonOption = False,
    plugin: PluginOption = None,
) -> None:
    """List every method by kind, plug-ins included: its name, what it does and where it comes from."""
    import ltrsys.config.schema
    import ltrsys.data.sources.source
    import ltrsys.export.formats.base
    import ltrsys.models.backbones.base
    import ltrsys.pages.panels.base
    import ltrsys.studies.figures.base  # noqa: F401 the kinds that no config names

    for path in plugin or []:
        load_plugin(path)
    if kind is not None and kind not in REGISTRIES:
        raise UsageError(f"`{kind}`: unknown kind of method. {nearest(kind, REGISTRIES)}")
    kinds = [kind] if kind else sorted(REGISTRIES)
    if json:
        found = {name: [_facts(method) for method in REGISTRIES[name]] for name in kinds}
        print(json_module.dumps(found, indent=1, ensure_ascii=False))
    else:
        print("\n".join(_lines(kinds)))


def _facts(method: type[Method]) -> dict[str, str]:
    return {
        "name": method.name,
        "summary": method.summary,
        "source": method.source,
        "module": method.__module__,
    }


def _lines(kinds: list[str]) -> Iterator[str]:
    for name in kinds:
        yield f"{name}:"
        for method in REGISTRIES[name]:
            source = f" ({method.source})" if method.source else ""
            yield f"  {method.name:<20} {method.summary}{source}"
