"""The network: three convolutions over an 8 × 8 image, pooled to 2 × 2, and ten logits.

>>> network = build(width=16)          # 26,000 parameters; width=8 has 7,200
>>> network(torch.zeros(1, 1, 8, 8)).shape
torch.Size([1, 10])
"""

from __future__ import annotations

from torch import nn


def build(width: int = 16) -> nn.Module:
    """Return the untrained network.

    Args:
        width: Channels of the first convolution; the next two have twice and four times as many.

    Returns:
        A module from `image` float32 [batch, 1, 8, 8] to `logits` float32 [batch, 10].
    """
    if width < 1:
        raise ValueError(f"width is {width}; it must be 1 or more")
    return nn.Sequential(
        *_block(1, width),
        *_block(width, 2 * width),
        nn.MaxPool2d(2),
        *_block(2 * width, 4 * width),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * width * 2 * 2, 10),
    )


def _block(channels_in: int, channels_out: int) -> tuple[nn.Module, ...]:
    # No bias: the batch normalization behind the convolution has one, and export folds both into the weights.
    convolution = nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(channels_out), nn.ReLU()
