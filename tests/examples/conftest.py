"""Forgets the plug-ins of these tests, which other tests do not expect among the known methods."""

import sys
from collections.abc import Iterator

import pytest

from ltrsys import registry


@pytest.fixture(scope="package", autouse=True)
def no_plugins_left() -> Iterator[None]:
    for kind in registry.REGISTRIES.values():
        list(kind)  # load what comes with ltrsys, so that it is not forgotten
    before = {name: dict(kind._methods) for name, kind in registry.REGISTRIES.items()}
    yield
    for name, methods in before.items():
        registry.REGISTRIES[name]._methods = methods
    registry._PLUGINS.clear()
    for module in [name for name in sys.modules if name.startswith("ltrsys_plugin_")]:
        del sys.modules[module]
