"""The backbone of a run whose features were made elsewhere: nobody here has it."""

from torch import nn

from ltrsys.errors import UsageError
from ltrsys.models.backbones.base import BACKBONES, Backbone
from ltrsys.models.config import ELSEWHERE


@BACKBONES.register
class Elsewhere(Backbone):
    """Stands for whatever made the features that `ltrsys bank --features` was given."""

    name = ELSEWHERE
    summary = "no network: the run's features were made elsewhere (`ltrsys bank --features`)"
    order = 95

    @classmethod
    def build(cls) -> nn.Module:
        """Refuse: there is nothing to build."""
        raise UsageError(
            "model.backbone=elsewhere: the features of this run were made elsewhere, and the network that made them is "
            "not here: images cannot be shown to it. Make the run by `ltrsys bank SHARDS --backbone ...` for that."
        )
