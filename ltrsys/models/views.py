"""What features of a bank are: means over views of an image, such as its mirror image or crops; in which precision.

B images, D features.
"""

import torch
from torch import Tensor, nn

from ltrsys.models.config import Precision, Views


class MirrorAveraged(nn.Module):
    """The mean of the features of an image and of its mirror image: [B, 3, S, S] -> [B, D]."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        """Return the features, [B, D]."""
        features_BD: Tensor = self.backbone(images) + self.backbone(images.flip(3))
        return features_BD / 2


class CropAveraged(nn.Module):
    """The mean of the features of five crops of a square, its corners and its centre: [B, 3, R, R] -> [B, D].

    So Krizhevsky et al. (2012, section 4.1) take crops of 224 pixels from the central square of 256, without the mirror
    images that they add.
    """

    def __init__(self, backbone: nn.Module, image_size: int) -> None:
        """Take over a backbone.

        Args:
            backbone: What makes features of crops.
            image_size: Side of a crop, at most R.
        """
        super().__init__()
        self.backbone, self.image_size = backbone, image_size

    def forward(self, images: Tensor) -> Tensor:
        """Return the features, [B, D]."""
        side = self.image_size
        end, middle = images.shape[-1] - side, round((images.shape[-1] - side) / 2)
        corners = [(0, 0), (0, end), (end, 0), (end, end), (middle, middle)]
        crops = [images[..., top : top + side, left : left + side] for top, left in corners]
        return torch.stack([self.backbone(crop) for crop in crops]).mean(dim=0)


AVERAGED = (MirrorAveraged, CropAveraged)


class InBfloat16(nn.Module):
    """A backbone whose products are of bfloat16, and whose features are float32."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        """Return the features, [B, D]."""
        with torch.autocast(images.device.type, torch.bfloat16):
            features_BD: Tensor = self.backbone(images)
        return features_BD.float()


def in_precision(backbone: nn.Module, precision: Precision) -> nn.Module:
    """Return a backbone that multiplies in the type that `bank.precision` names."""
    return InBfloat16(backbone) if precision == "bf16" else backbone


def with_views(backbone: nn.Module, views: Views, image_size: int) -> nn.Module:
    """Return what makes the features of images that `size_of_views` gives the side of.

    Args:
        backbone: [B, 3, S, S] -> [B, D].
        views: `bank.views`.
        image_size: S, `data.image_size`.
    """
    if views == "flip":
        return MirrorAveraged(backbone)
    return CropAveraged(backbone, image_size) if views == "five" else backbone
