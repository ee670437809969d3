"""The network of both stages: a backbone that makes features, and a classifier on them."""

from torch import Tensor, nn

from ltrsys.models.backbones.base import build_backbone
from ltrsys.models.config import HeadName, ModelConfig
from ltrsys.models.heads import Head, OLTRMemoryHead, build_head


class Network(nn.Module):
    """Images [B, 3, H, W] -> logits [B, C]. State dict: backbone.*, classifier.weight, classifier.bias.

    With a cosine head there is no bias, and where its scale is learned, there is classifier.scale. What OLTR's memory
    has, `ltrsys.models.heads` says.
    """

    def __init__(self, backbone: nn.Module, feature_dim: int, num_classes: int, head: HeadName = "linear") -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier: Head = build_head(head, feature_dim, num_classes)
        self.feature_dim = feature_dim

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, [B, C], of `images`, [B, 3, H, W]."""
        logits: Tensor = self.classifier(self.backbone(images))
        return logits

    @property
    def centroids(self) -> nn.Parameter | None:
        """What of the classifier the loss alone learns, [C, D]: the memory of `model.head=oltr_memory`."""
        return self.classifier.centroids if isinstance(self.classifier, OLTRMemoryHead) else None


def build_network(config: ModelConfig, num_classes: int) -> Network:
    """Build a network with random weights from torch's global generator.

    Raises:
        UsageError: For a backbone or a stem that does not exist.
    """
    backbone, feature_dim = build_backbone(config)
    return Network(backbone, feature_dim, num_classes, config.head)
