"""What is refused before a run begins."""

import pytest

from ltrsys.config.reading import load_config
from ltrsys.errors import UsageError
from ltrsys.first_stage import trainer
from ltrsys.world import World


def test_a_network_that_does_not_take_the_image_size_is_refused_before_anything_is_started(write_config, monkeypatch):
    monkeypatch.setattr(trainer, "process_group", None)
    config = load_config(
        write_config(), ["model={backbone: vit_b_16, stem: imagenet}", "data.resize=32", "data.image_size=32"]
    )
    with pytest.raises(UsageError, match=r"model\.backbone=vit_b_16 .* data\.image_size=32\. The nearest .* is 224"):
        trainer.train(config, World())
    assert not config.run_folder.exists()


def test_one_image_at_a_time_is_refused_where_batch_norm_would_see_one_value(write_config, monkeypatch):
    monkeypatch.setattr(trainer, "process_group", None)
    config = load_config(write_config(train__micro_batch_size=1), ["model.stem=imagenet"])
    with pytest.raises(UsageError, match=r"train\.micro_batch_size=1"):
        trainer.train(config, World())
