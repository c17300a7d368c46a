"""The network: a 1-D convolutional classifier of 85 ms of vibration.

The first convolution spans 64 samples (5.3 ms), long enough to see one ring of the housing, as in WDCNN
(Zhang et al., Sensors 17, 2017); strides then bring the spacing of the hits, 6 to 11 ms apart, into one
receptive field.

>>> network = build(width=12)          # about 14,000 parameters
>>> network(torch.zeros(1, 1, 1024)).shape
torch.Size([1, 4])
"""

from __future__ import annotations

from torch import nn


def build(width: int = 12) -> nn.Module:
    """Return the untrained network.

    Args:
        width: Channels of the first convolution; later ones have twice as many.

    Returns:
        A module from `signal` float32 [batch, 1, 1024] to `logits` float32 [batch, 4].
    """
    if width < 1:
        raise ValueError(f"width is {width}; it must be 1 or more")
    return nn.Sequential(
        *_block(1, width, kernel=64, stride=4),
        nn.MaxPool1d(2),
        *_block(width, 2 * width, kernel=9, stride=2),
        *_block(2 * width, 2 * width, kernel=9, stride=2),
        *_block(2 * width, 2 * width, kernel=9, stride=1),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(2 * width, 4),
    )


def _block(channels_in: int, channels_out: int, *, kernel: int, stride: int) -> tuple[nn.Module, ...]:
    # No bias: the batch normalization behind the convolution has one, and export folds both into the weights.
    convolution = nn.Conv1d(channels_in, channels_out, kernel, stride=stride, padding=kernel // 2, bias=False)
    return convolution, nn.BatchNorm1d(channels_out), nn.ReLU()
