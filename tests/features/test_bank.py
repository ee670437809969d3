"""What a bank is told apart by."""

from pathlib import Path
from typing import Any

import pytest

from ltrsys.data.config import AugmentationConfig, ProgressiveConfig
from ltrsys.data.index.dataset import Dataset
from ltrsys.features.bank import BankIdentity, fingerprint
from tests.classifiers.runs import make_config, make_run


@pytest.mark.parametrize(
    ("treatment", "known"),
    [
        ("eval", "6d1ff22e5f10939ce1a7c556ae12aef5aec74ac185b84e43882d8e7ac01d7bdd"),
        ("recalibrate", "d7c10e0cf295a4b87357c4b488e2c7fca30ae169a22fcc61544ce86ad3620551"),
    ],
)
def test_a_bank_from_before_later_settings_is_current_until_one_of_them_is_used(
    treatment: str, known: str, tiny_shards: Path, tmp_path: Path
) -> None:
    run, dataset = make_run(tmp_path / "run", tiny_shards), Dataset.open(tiny_shards)

    def identity(**data: Any) -> BankIdentity:
        config = make_config(run.path, tiny_shards)
        balance = config.balance.model_copy(update={"bn": treatment})
        changed = config.model_copy(update={"balance": balance, "data": config.data.model_copy(update=data)})
        return BankIdentity.of(run, changed, dataset)

    before, now = identity(), identity(interpolation="bicubic")
    assert fingerprint(before.settings) == known
    assert before.difference(now) == now.difference(before) == "the setting interpolation has changed"
    blurred = identity(augmentation=AugmentationConfig(blur={"probability": 0.5}))  # type: ignore[arg-type]
    said = "the setting augmentation has changed" if treatment == "recalibrate" else None
    assert before.difference(blurred) == blurred.difference(before) == said
    assert before.difference(identity(progressive=ProgressiveConfig(from_size=16, until_epoch=1))) is None
