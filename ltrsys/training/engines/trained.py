"""What an engine trains."""

from torch import Tensor, nn

from ltrsys.models.network import Network
from ltrsys.training.objective import Objective


class Trained(nn.Module):
    """The network, and the loss where it has parameters: all that gradients are averaged for.

    Images [B, 3, H, W] -> logits [B, C] and features [B, D]. Parameters: those of the network by its names, and loss.*.
    """

    def __init__(self, network: Network, objective: Objective) -> None:
        super().__init__()
        self.backbone, self.classifier = network.backbone, network.classifier
        if objective.module is not None:
            self.loss = objective.module  # computed outside of forward: gradients are averaged all the same

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and features, in the types that autocast gives them."""
        features_BD: Tensor = self.backbone(images)
        logits_BC: Tensor = self.classifier(features_BD)
        return logits_BC, features_BD
