"""The network of both stages: a backbone that makes features, and a classifier on them."""

from collections.abc import Collection, Iterable, Iterator
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
        self.adapted_layers: tuple[str, ...] = ()
        """Names of the layers with low-rank adapters."""
        self._frozen: frozenset[str] = frozenset()  # by name: copies are others, and SyncBatchNorm replaces modules

    def train_only(self, parts: Collection[str]) -> None:
        """Freeze all but some parts: the rest has no gradients, and is as in evaluation while those are trained.

        What comes before the first of them then builds no graph: none of it asks for a gradient.

        Args:
            parts: Names of submodules, such as `classifier` or `backbone.layer4.0`, and of single parameters.
        """
        parameters = dict(self.named_parameters())
        self._frozen = frozenset(
            name for name in parameters if not any(name == part or name.startswith(f"{part}.") for part in parts)
        )
        for name in self._frozen:
            parameters[name].requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Put all that is trained into training mode, or out of it.

        BatchNorm of a frozen part normalises by its running statistics, and leaves them alone.
        """
        super().train(mode and not self._frozen)
        self.training = mode
        if mode and self._frozen:
            for _, module in self._trained_modules():
                module.training = True
        return self

    def trained_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the buffers of the parts that are trained, by name: training changes no others.

        Tables that a network makes anew when it is built, and does not save, are not among them.
        """
        saved = self.state_dict().keys()
        for prefix, module in self._trained_modules():
            for name, buffer in module.named_buffers(prefix, recurse=False):
                if name in saved:
                    yield name, buffer

    def _trained_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield the modules that hold a parameter that is trained, and in them those without any, such as dropout."""
        parameters = {name for name, _ in self.named_parameters()}
        holding, learning = _modules_above(parameters), _modules_above(parameters - self._frozen)
        trained = {"": True}
        for name, module in self.named_modules():
            within = trained[name.rpartition(".")[0]]
            trained[name] = within and (name in learning or name not in holding)
            if trained[name]:
                yield name, module

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, [B, C], of `images`, [B, 3, H, W]."""
        logits: Tensor = self.classifier(self.backbone(images))
        return logits

    @property
    def centroids(self) -> nn.Parameter | None:
        """What of the classifier the loss alone learns, [C, D]: the memory of `model.head=oltr_memory`."""
        return self.classifier.centroids if isinstance(self.classifier, OLTRMemoryHead) else None


def _modules_above(parameters: Iterable[str]) -> set[str]:
    """Return the names of the modules that hold parameters, at any depth."""
    paths = [name.split(".") for name in parameters]
    return {".".join(path[:depth]) for path in paths for depth in range(len(path))}


def build_network(config: ModelConfig, num_classes: int) -> Network:
    """Build a network with random weights from torch's global generator.

    Raises:
        UsageError: For a backbone or a stem that does not exist.
    """
    backbone, feature_dim = build_backbone(config)
    return Network(backbone, feature_dim, num_classes, config.head)
