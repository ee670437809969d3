"""A small network whose features are two, so that they can be drawn in a plane."""

from torch import nn

from ltrsys.models.backbones.base import BACKBONES, Backbone


@BACKBONES.register
class LeNet2D(Backbone):
    """LeNet++ of Wen et al. (2016), Table 1: pairs of convolutions, and a linear layer to two features.

    There is no ReLU on the features, which would leave a quarter of the plane. For images of any size of 8 pixels and
    more, the last feature map is averaged to 2 x 2; BatchNorm, which the paper has not, lets it train in few steps.
    """

    name = "lenet_2d"
    summary = "LeNet++ with two features, for drawings of the plane of features"
    source = "Wen et al., 2016, Table 1"
    order = 90

    @classmethod
    def build(cls) -> nn.Module:
        """Build the network, [B, 3, H, W] -> [B, 10]; the layer that makes logits of the two features is the last."""
        layers: list[nn.Module] = []
        channels = 3
        for width in (32, 64, 128):
            for _ in range(2):
                layers += [
                    nn.Conv2d(channels, width, kernel_size=5, padding=2, bias=False),
                    nn.BatchNorm2d(width),
                    nn.PReLU(),
                ]
                channels = width
            layers.append(nn.MaxPool2d(2))
        return nn.Sequential(
            *layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, 2), nn.Linear(2, 10)
        )
