"""Which classifiers apply to a network."""

import pytest

from ltrsys.classifiers.base import CLASSIFIERS
from ltrsys.errors import UsageError
from ltrsys.models.config import ModelConfig
from ltrsys.second_stage.applying import all_that_apply, check_applicable, kinds_of
from ltrsys.second_stage.config import BALANCE


def test_features_before_the_last_relu_are_made_for_those_alone_that_take_them() -> None:
    assert kinds_of(["joint", "ncm", "cosine"]) == {"last"}
    assert kinds_of(["joint", "cosine_no_relu"]) == {"last", "no_relu"}


@pytest.mark.parametrize("backbone", ["vit_b_16", "efficientnet_b0", "densenet121"])
def test_a_network_without_a_last_relu_before_pooling_is_refused_by_name(backbone: str) -> None:
    model = ModelConfig(backbone=backbone)
    refused = rf"cosine_no_relu does not apply to model\.backbone={backbone}: .* Give --classifiers joint,cosine\.$"
    with pytest.raises(UsageError, match=refused):
        check_applicable(["joint", "cosine_no_relu", "cosine"], model)
    check_applicable(["joint", "cosine"], model)
    check_applicable(["joint", "cosine_no_relu"], ModelConfig(backbone="resnext152_32x4d", stem="small"))


@pytest.mark.parametrize(
    ("model", "left_out"),
    [
        (ModelConfig(backbone="resnet10", stem="small"), {}),
        (ModelConfig(backbone="resnet10", head="cosine"), dict.fromkeys(["tau", "lws", "crt_memory"], "head=cosine")),
        (ModelConfig(backbone="resnet10", head="none"), {"joint": "head=none"}),
        (ModelConfig(backbone="vit_b_16"), {"cosine_no_relu": "backbone=vit_b_16"}),
    ],
)
def test_all_are_those_that_apply_and_one_line_says_which_do_not_and_why(model, left_out, caplog) -> None:
    names = all_that_apply(BALANCE.model()(), model)
    assert names == [name for name in CLASSIFIERS.names() if name not in left_out]
    assert len(caplog.records) == bool(left_out)
    for name, why in left_out.items():
        assert f"{name} does not apply to model.{why}: " in caplog.text
    check_applicable(names, model)


def test_an_ensemble_is_left_out_with_its_members(caplog) -> None:
    config = BALANCE.model()(ensemble={"classifiers": ["crt", "tau"]})
    assert "ensemble" not in all_that_apply(config, ModelConfig(backbone="resnet10", head="cosine"))
    assert "ensemble does not apply to its member tau" in caplog.text
