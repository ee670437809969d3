"""Every classification model of timm is built by its name, and ends in features as wide as is said.

Shapes alone are computed, on torch's meta device: the largest of them would fill the memory.
"""

import gc
import traceback

import pytest
import torch

from ltrsys.models.backbones.base import build_backbone
from ltrsys.models.backbones.libraries.timm import Timm
from ltrsys.models.config import ModelConfig

META = torch.device("meta")


@pytest.mark.slow
def test_every_name_of_timm_gives_features_of_its_width() -> None:
    import timm

    wrong: dict[str, str] = {}
    names = timm.list_models()
    for name in names:
        try:
            network, width = _built(name)
            side = Timm.input_of(name).image_size
            with torch.inference_mode():
                features = network.eval()(torch.empty(2, 3, side, side, device=META))
            if features.shape != (2, width):
                wrong[name] = f"{tuple(features.shape)} instead of (2, {width})"
        except Exception as error:  # each of them is named
            wrong[name] = f"{error!r} at {traceback.extract_tb(error.__traceback__)[-1]}"
        gc.collect()
    assert len(names) > 1000
    assert not wrong, "\n".join(f"{name}: {why}" for name, why in wrong.items())


def _built(name: str) -> tuple[torch.nn.Module, int]:
    config = ModelConfig(backbone=f"timm/{name}")
    try:
        with META:
            return build_backbone(config)
    except (RuntimeError, NotImplementedError):  # it reads a value while it is built, such as a rate of drop path
        network, width = build_backbone(config)
        return network.to(META), width
