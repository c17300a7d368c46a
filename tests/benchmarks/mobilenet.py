"""MobileNetV2 (Sandler et al., 2018, table 2) with random weights, in int8: the size people bring to an edge device.

>>> len(int8_mobilenet())                 # doctest: +SKIP
3628239
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from edgewright.build.canonical import canonical, to_bytes
from edgewright.build.passes.static_int8 import calibrated
from edgewright.build.samples import Samples

PIXELS = 224
# expansion, channels, blocks, stride of the first
TABLE = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)
)  # fmt: skip


class Bottleneck(nn.Module):
    """An inverted residual."""

    def __init__(self, inner: int, outer: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inner * expansion
        layers: list[nn.Module] = []
        if expansion > 1:
            layers += [nn.Conv2d(inner, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6()]
        layers += [
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6(),
            nn.Conv2d(hidden, outer, 1, bias=False), nn.BatchNorm2d(outer),
        ]  # fmt: skip
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and inner == outer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layers(x)
        return x + y if self.residual else y


def network(classes: int = 1000) -> nn.Module:
    """Return the network, 3.5 million parameters and 300 million multiply-adds."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6()]
    width = 32
    for expansion, channels, blocks, stride in TABLE:
        for number in range(blocks):
            layers.append(Bottleneck(width, channels, stride if number == 0 else 1, expansion))
            width = channels
    layers += [nn.Conv2d(width, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.ReLU6()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, classes)]
    return nn.Sequential(*layers).eval()


def images(count: int, seed: int) -> np.ndarray:
    """Return noise, [count, 3, 224, 224]."""
    return np.random.default_rng(seed).normal(size=(count, 3, PIXELS, PIXELS)).astype(np.float32)


def int8_mobilenet() -> bytes:
    """Return the serialized model, quantized as the stage `optimized` does it."""
    exported = torch.onnx.export(
        network(), (torch.from_numpy(images(2, 0)),), None, dynamo=True, opset_version=20, input_names=["image"],
        output_names=["logits"], dynamic_shapes=({0: torch.export.Dim("N")},), external_data=False, verbose=False,
    )  # fmt: skip
    model = canonical(exported.model_proto)
    calibration = Samples("noise", {"image": images(8, 1)}, np.zeros(8, int))
    return to_bytes(calibrated(model, calibration, {}))
