"""Which parts of a network are trained: what `train.trainable` and `train.freeze_stages` name."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models.resnet import ResNet

from ltrsys.errors import UsageError
from ltrsys.models.backbones.base import added_parts
from ltrsys.models.config import ModelConfig, Trainable
from ltrsys.models.network import Network
from ltrsys.models.trainable.layers import layer_matcher
from ltrsys.models.trainable.lora import adapters_of

NORMALISATION = (_BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def freeze(network: Network, config: ModelConfig, trainable: Trainable, freeze_stages: int = 0) -> None:
    """Freeze what is not to be trained (paper, Table 1: what is retrained).

    What the config adds to a backbone is trained with the classifier wherever something before it is. Of a backbone
    with adapters, they alone are trained, and with `norms` the layers of normalisation too.

    Args:
        network: On any device.
        config: What it was built of.
        trainable: `all`; `last_block`, the last residual block and what comes after it; `norms`, all layers of
            normalisation and the classifier; or `classifier`.
        freeze_stages: With `all`, how many stages stay frozen, and the stem with them.

    Raises:
        UsageError: For a part that the network does not have.
    """
    added = [f"backbone.{part}" for part in sorted(added_parts(network.backbone))]
    after = [*adapters_of(network), *added, "classifier"]
    if trainable == "classifier":
        network.train_only(["classifier"])
    elif trainable == "last_block":
        network.train_only([_last_block(network, config), *after])
    elif trainable == "norms":
        network.train_only([*_norms(network, config), *after])
    elif network.adapted_layers:
        network.train_only(after)
    elif freeze_stages:
        frozen = _first_stages(network, config, freeze_stages)
        network.train_only([*(name for name, _ in network.named_parameters() if name not in frozen), *after])


def _last_block(network: Network, config: ModelConfig) -> str:
    if not isinstance(network.backbone, ResNet):
        raise UsageError(
            f"train.trainable=last_block is the last residual block of a ResNet or ResNeXt, which model.backbone="
            f"{config.backbone} is not. Give train.trainable=all or classifier."
        )
    return f"backbone.layer4.{len(network.backbone.layer4) - 1}"


def _norms(network: Network, config: ModelConfig) -> list[str]:
    norms = [
        f"backbone.{name}" for name, module in network.backbone.named_modules() if isinstance(module, NORMALISATION)
    ]
    if not norms:
        raise UsageError(
            f"train.trainable=norms is the layers of normalisation, of which model.backbone={config.backbone} has "
            "none. Give train.trainable=all or classifier."
        )
    return norms


def _first_stages(network: Network, config: ModelConfig, count: int) -> set[str]:
    """Return the names of the parameters of the stem and of the first stages."""
    stem, *stages = _stages(network.backbone, config)
    if count > len(stages):
        raise UsageError(
            f"train.freeze_stages={count}: model.backbone={config.backbone} has {len(stages)} stages. Give "
            f"train.freeze_stages={len(stages)} or less, or train.trainable=classifier."
        )
    return {f"backbone.{name}" for names in (stem, *stages[:count]) for name in names}


def _stages(backbone: nn.Module, config: ModelConfig) -> list[list[str]]:
    """Return the names of the parameters of the stem, and of each stage after it."""
    matcher = layer_matcher(backbone, coarse=True)
    if matcher is None:
        raise UsageError(
            "train.freeze_stages is for a ResNet, a ResNeXt or a network of timm, whose stages are known, and "
            f"model.backbone={config.backbone} is none. Give timm/NAME, or train.trainable=classifier."
        )
    from timm.models import group_parameters  # seconds, which runs without it save

    added = tuple(f"{part}." for part in added_parts(backbone))
    groups: dict[int, list[str]] = group_parameters(backbone, matcher)
    stages = [[name for name in groups[index] if not name.startswith(added)] for index in sorted(groups)]
    return [stage for stage in stages if stage]
