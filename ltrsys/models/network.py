"""The network of both stages: a backbone that makes features, and a classifier on them."""

from collections.abc import Collection, Iterator
from typing import Self

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
        self._trained_parts: tuple[str, ...] | None = None  # all

    def train_only(self, parts: Collection[str]) -> None:
        """Freeze all but some parts: the rest has no gradients, and is as in evaluation while those are trained.

        What comes before the first of them then builds no graph: none of it asks for a gradient.

        Args:
            parts: Names of submodules, such as `classifier` or `backbone.layer4.0`.
        """
        self._trained_parts = tuple(parts)
        for name, parameter in self.named_parameters():
            if not self._is_trained(name):
                parameter.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Put all that is trained into training mode, or out of it.

        BatchNorm of a frozen part normalises by its running statistics, and leaves them alone.
        """
        super().train(mode and self._trained_parts is None)
        self.training = mode
        for part in self._trained_parts or ():
            self.get_submodule(part).train(mode)  # by its name: SyncBatchNorm takes the place of modules
        return self

    def trained_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the buffers of the parts that are trained, by name: training changes no others."""
        return ((name, buffer) for name, buffer in self.named_buffers() if self._is_trained(name))

    def _is_trained(self, name: str) -> bool:
        return self._trained_parts is None or any(name.startswith(f"{part}.") for part in self._trained_parts)

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
