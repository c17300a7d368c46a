"""The network: a narrow ResNet-18 for 32 × 32 images.

The eight basic blocks of He et al. ("Deep residual learning for image recognition", CVPR 2016, table 1), with the
small-image stem of their section 4.2 (one 3 × 3 convolution, no pooling): at 32 × 32 a scratch is one pixel wide.
All widths are multiples of 16, one vector of int8 products.

>>> network = build(widths=[16, 32, 48, 64])
>>> network(torch.zeros(1, 1, 32, 32)).shape
torch.Size([1, 5])
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

LABELS = 5


class BasicBlock(nn.Module):
    """Two 3 × 3 convolutions and a way around them."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        # No bias: the batch normalization behind a convolution has one, and export folds both into the weights.
        self.first = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(channels_out)
        self.second = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(channels_out)
        self.around: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.around = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False),
                nn.BatchNorm2d(channels_out),
            )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map [batch, channels_in, side, side] to [batch, channels_out, side / stride, side / stride]."""
        inner = torch.relu(self.first_norm(self.first(features)))
        return torch.relu(self.second_norm(self.second(inner)) + self.around(features))


def build(widths: Sequence[int] = (16, 32, 48, 64)) -> nn.Module:
    """Return the untrained network.

    Args:
        widths: Channels of the four stages, two blocks each; the side halves from stage to stage.

    Returns:
        A module from `image` float32 [batch, 1, 32, 32] to `logits` float32 [batch, 5].
    """
    if len(widths) != 4 or min(widths) < 1:
        raise ValueError(f"widths are {list(widths)}; there must be four, 1 or more each")
    stem = (nn.Conv2d(1, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU())
    blocks, channels = [], widths[0]
    for stage, width in enumerate(widths):
        blocks += [BasicBlock(channels, width, stride=2 if stage else 1), BasicBlock(width, width, stride=1)]
        channels = width
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, LABELS))
