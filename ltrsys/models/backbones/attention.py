"""Modulated attention on the last feature map of a residual network (Liu et al., 2019, section 3.2; in their code
`ModulatedAttLayer`).

B images, C channels, K = C/2 channels within, P places of the map.
"""

import torch
from torch import Tensor, nn

from ltrsys.errors import UsageError


class ModulatedAttention(nn.Module):
    """x + places(x)·nonlocal(x): self-attention between the places of a map, weighed by a softmax over the places.

    nonlocal(x) is the non-local block of Wang et al. (2018, equation 6, embedded Gaussian): output(A value(x)), with
    A = softmax(query(x)·key(x)) over the places. `output` begins at zero, so that the whole begins as the identity.
    State dict: query.*, key.*, value.*, output.weight, places.*.
    """

    def __init__(self, channels: int, side: int) -> None:
        """Draw the weights from torch's global generator.

        Args:
            channels: C, even.
            side: Of the map, in places: P = side².
        """
        super().__init__()
        self.side = side
        self.query, self.key, self.value = (nn.Conv2d(channels, channels // 2, kernel_size=1) for _ in range(3))
        self.output = nn.Conv2d(channels // 2, channels, kernel_size=1, bias=False)
        self.places = nn.Linear(channels * side**2, side**2)
        for layer in (self.query, self.key, self.value):
            nn.init.kaiming_normal_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.output.weight)

    def forward(self, map_BCHW: Tensor) -> Tensor:
        """Return a map of the same shape, in the type that autocast gives it.

        Raises:
            UsageError: For a map of another side, by the key to set.
        """
        if map_BCHW.shape[2:] != (self.side, self.side):
            height, width = map_BCHW.shape[2:]
            raise UsageError(
                f"model.attention_side={self.side}: the last feature map of images of this data.image_size is "
                f"{height} x {width}. Give model.attention_side={height}, or images of another size."
            )
        query_BPK, key_BPK, value_BPK = (
            layer(map_BCHW).flatten(2).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        between_BPP = torch.softmax(query_BPK @ key_BPK.transpose(1, 2), dim=-1)
        gathered_BKHW = (between_BPP @ value_BPK).transpose(1, 2).unflatten(2, (self.side, self.side))
        share_BP = torch.softmax(self.places(map_BCHW.flatten(1)), dim=-1)
        share_B1HW = share_BP.unflatten(1, (1, self.side, self.side))
        added_BCHW: Tensor = share_B1HW * self.output(gathered_BKHW)
        return map_BCHW + added_BCHW
