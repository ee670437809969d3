"""What the tests of trackers share."""

import os

import pytest


@pytest.fixture(autouse=True)
def _environment_without_wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have settings of wandb of their own."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
