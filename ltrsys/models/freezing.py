"""Which parts of a network are trained: what `train.trainable` names."""

from torchvision.models.resnet import ResNet

from ltrsys.errors import UsageError
from ltrsys.models.backbones.base import added_parts
from ltrsys.models.config import ModelConfig, Trainable
from ltrsys.models.network import Network


def freeze(network: Network, config: ModelConfig, trainable: Trainable) -> None:
    """Freeze what is not to be trained (paper, Table 1: what is retrained).

    Args:
        network: On any device.
        config: What it was built of.
        trainable: `all`; `last_block`, the last residual block, what the config adds after it, and the classifier; or
            `classifier`.

    Raises:
        UsageError: For `last_block` of a network that has no residual blocks.
    """
    if trainable == "classifier":
        network.train_only(["classifier"])
    elif trainable == "last_block":
        added = [f"backbone.{part}" for part in sorted(added_parts(network.backbone))]
        network.train_only([_last_block(network, config), *added, "classifier"])


def _last_block(network: Network, config: ModelConfig) -> str:
    if not isinstance(network.backbone, ResNet):
        raise UsageError(
            f"train.trainable=last_block is the last residual block of a ResNet or ResNeXt, which model.backbone="
            f"{config.backbone} is not. Give train.trainable=all or classifier."
        )
    return f"backbone.layer4.{len(network.backbone.layer4) - 1}"
