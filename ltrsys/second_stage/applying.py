"""Which classifiers have a meaning for a network, and what they need of it."""

import logging
from collections.abc import Iterable, Sequence

from ltrsys.classifiers.base import CLASSIFIERS
from ltrsys.classifiers.joint import Joint
from ltrsys.errors import UsageError
from ltrsys.features.config import FeatureKind
from ltrsys.models.config import ELSEWHERE, ModelConfig
from ltrsys.models.image_size import build_without_memory
from ltrsys.models.last_relu import last_relu
from ltrsys.second_stage.config import BalanceConfig
from ltrsys.second_stage.reference import STAND_IN, reference_name

log = logging.getLogger("ltrsys")


def with_members(config: BalanceConfig) -> list[str]:
    """Return the classifiers that are asked for, and those that they are made of."""
    return list(
        dict.fromkeys([*config.classifiers, *(one for name in config.classifiers for one in _of(name, config))])
    )


def kinds_of(classifiers: Iterable[str]) -> set[FeatureKind]:
    """Return the kinds of features that classifiers take."""
    return {CLASSIFIERS.get(name).features for name in classifiers}


def check_applicable(classifiers: Sequence[str], model: ModelConfig) -> None:
    """Refuse classifiers that have no meaning for a network.

    Raises:
        UsageError: Names the first of them, why, and those that are left.
    """
    if model.head == "none" and Joint.name in classifiers:
        others = [STAND_IN if name == Joint.name else name for name in classifiers]
        raise UsageError(
            "balance.classifiers: no classifier was trained with the backbone of this run (model.head=none). Give "
            f"--classifiers {','.join(dict.fromkeys(others))}: {STAND_IN} is fitted on its features instead."
        )
    reasons = reasons_against(classifiers, model)
    for name, reason in reasons.items():
        left = ",".join(one for one in classifiers if one not in reasons) or f"{reference_name(model.head)},ncm,crt"
        raise UsageError(f"balance.classifiers: {name} does not apply to {reason}. Give --classifiers {left}.")


def all_that_apply(config: BalanceConfig, model: ModelConfig) -> list[str]:
    """Return all classifiers that have a meaning for a network; say in one line which have none, and why."""
    names = CLASSIFIERS.names()
    reasons = reasons_against(names, model)
    for name in names:
        if name not in reasons and (without := [member for member in _of(name, config) if member in reasons]):
            reasons[name] = f"its member {without[0]}"
    if reasons:
        told = "; ".join(f"{name} does not apply to {reason}" for name, reason in reasons.items())
        log.warning("left out of all classifiers: %s.", told)
    return [name for name in names if name not in reasons]


def reasons_against(classifiers: Iterable[str], model: ModelConfig) -> dict[str, str]:
    """Return those of the classifiers that have no meaning for a network, each with the key that says so, and why."""
    reasons = {}
    for name in classifiers:
        method = CLASSIFIERS.get(name)
        if model.head == "none" and name == Joint.name:
            reasons[name] = f"model.head=none: no classifier was trained with the backbone; {STAND_IN} stands in for it"
        elif model.head not in ("linear", "none") and method.needs_linear_head:
            reasons[name] = f"model.head={model.head}: {method.needs_linear_head}"
        if method.features == "no_relu" and not _ends_in_relu(model):
            reasons[name] = (
                f"model.backbone={model.backbone}: it takes features before a last ReLU that average pooling alone "
                "follows, as in residual networks (ResNet, ResNeXt, Wide ResNet)"
            )
    return reasons


def _ends_in_relu(model: ModelConfig) -> bool:
    return model.backbone != ELSEWHERE and last_relu(build_without_memory(model).backbone) is not None


def _of(name: str, config: BalanceConfig) -> tuple[str, ...]:
    return CLASSIFIERS.get(name).members(config.of(name))
