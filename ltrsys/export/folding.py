"""Backbone and classifier as one module: images in, logits and probabilities out.

N images, D features, C classes.
"""

import copy

import torch
from torch import Tensor, nn

from ltrsys.errors import UsageError
from ltrsys.models.last_relu import without_last_relu
from ltrsys.prediction.loading import LoadedModel

IMAGES, LOGITS, PROBABILITIES = "images", "logits", "probabilities"
"""Names of its input and outputs."""


class FoldedModel(nn.Module):
    """Images [N, 3, S, S] -> the classifier's scores and softmax(scores / temperature), float32 [N, C] each.

    The classifier is one linear layer where it is linear (`ltrsys.classifiers.base.Classifier.module`).
    """

    def __init__(self, backbone: nn.Module, classifier: nn.Module, temperature: float) -> None:
        """Put them together, for images that are normalised."""
        super().__init__()
        self.backbone, self.classifier = backbone, classifier
        self.temperature = temperature
        self.input_type = torch.float32
        self.mean: Tensor
        self.std: Tensor
        self._types = (torch.float32, torch.float32)

    @classmethod
    def of(cls, model: LoadedModel, temperature: float) -> "FoldedModel":
        """Copy a run's network and classifier to the CPU, in torch's plain memory format.

        Args:
            model: The network and the classifier.
            temperature: What logits are divided by before softmax; 1 where nothing was calibrated.
        """
        backbone = model.backbone
        backbone = copy.deepcopy(backbone) if model.classifier.features == "last" else without_last_relu(backbone)
        backbone = backbone.to("cpu", memory_format=torch.contiguous_format).requires_grad_(False)  # type: ignore[call-overload]
        return cls(backbone, model.classifier.module().cpu(), temperature).eval()

    @property
    def is_linear(self) -> bool:
        """Whether the classifier is one linear layer."""
        return isinstance(self.classifier, nn.Linear)

    @property
    def takes_bytes(self) -> bool:
        """Whether images are uint8 of 0 to 255."""
        return self.input_type == torch.uint8

    def normalise(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        """Have it take uint8 images of 0 to 255 and normalise them itself, with what preprocessing says."""
        self.register_buffer("mean", 255 * torch.tensor(mean)[:, None, None])
        self.register_buffer("std", 255 * torch.tensor(std)[:, None, None])
        self.input_type = torch.uint8

    def to_float16(self) -> None:
        """Compute the backbone, and a linear classifier, in float16.

        Any other classifier stays as it is: distances and norms need more digits. Images, logits and softmax do too.

        Raises:
            UsageError: Where a weight is too large for float16.
        """
        converted = [self.backbone, self.classifier] if self.is_linear else [self.backbone]
        for module in converted:
            for name, tensor in module.half().state_dict().items():
                if tensor.is_floating_point() and tensor.isposinf().any():
                    raise UsageError(f"--float16: tensor `{name}` holds numbers above 65,504. Export it in float32.")
        self._types = (torch.float16, torch.float16 if self.is_linear else torch.float32)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and probabilities."""
        of_backbone, of_classifier = self._types
        if self.takes_bytes:
            images = (images.float() - self.mean) / self.std
        features_ND = self.backbone(images.to(of_backbone))
        logits_NC = self.classifier(features_ND.to(of_classifier)).float()
        return logits_NC, (logits_NC / self.temperature).softmax(dim=1)
