"""Models that no calibration has seen: written in torch, exported as the pipeline exports, in fp32 and int8.

>>> [variant.name for variant in variants()][:2]                   # doctest: +SKIP
['digit-reader-w8-fp32', 'digit-reader-w8-int8']

Variants of this repository's own models, and small forms of networks that people bring to edge devices. They share no
code with the generator of calibration nets, and use operators that it does not (Shape, Gather, Slice, Squeeze).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np
import onnx
import torch
from torch import nn

from benchmarks.mobilenet import TABLE, Bottleneck
from edgewright.bench.calibration.nets import Net
from edgewright.build.canonical import to_bytes
from edgewright.build.entry import ModelCode
from edgewright.build.export import export
from edgewright.build.passes.static_int8 import calibrated
from edgewright.build.samples import Samples
from edgewright.build.torch_mode import repeatable
from real import ROOT


def own(model: str, width: int) -> nn.Module:
    """A model of this repository at another width."""
    network: nn.Module = ModelCode(ROOT / "models" / model).call("network:build", width=width)
    return network


def unit(inner: int, outer: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Module:
    """Convolution, normalization, activation."""
    convolution = nn.Conv2d(inner, outer, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outer), nn.ReLU())


def classifier(layers: list[nn.Module], width: int, classes: int) -> nn.Module:
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


def mobilenet_v2(multiplier: float, classes: int) -> nn.Module:
    """MobileNetV2 with fewer channels (Sandler et al., 2018)."""

    def scaled(channels: int) -> int:
        return max(8, int(channels * multiplier + 4) // 8 * 8)

    width = scaled(32)
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU6()]
    for expansion, channels, blocks, stride in TABLE:
        for number in range(blocks):
            layers.append(Bottleneck(width, scaled(channels), stride if number == 0 else 1, expansion))
            width = scaled(channels)
    layers += [nn.Conv2d(width, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.ReLU6()]
    return classifier(layers, 1280, classes)


class Residual(nn.Module):
    """Two convolutions and a way past them."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.first = unit(inner, outer, 3, stride)
        self.second = nn.Sequential(nn.Conv2d(outer, outer, 3, 1, 1, bias=False), nn.BatchNorm2d(outer))
        same = stride == 1 and inner == outer
        self.past = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))
        )
        self.activation = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.activation(self.second(self.first(x)) + self.past(x))
        return y


def resnet(width: int, blocks: tuple[int, ...], *, pooled: bool = False) -> nn.Module:
    """ResNet (He et al., 2015), with the small or the large beginning."""
    layers: list[nn.Module] = [unit(3, width, 7, 2), nn.MaxPool2d(3, 2, 1)] if pooled else [unit(3, width)]
    inner = width
    for stage, count in enumerate(blocks):
        outer = width * 2**stage
        for number in range(count):
            layers.append(Residual(inner, outer, 2 if stage and number == 0 else 1))
            inner = outer
    return classifier(layers, inner, 10)


def ds_cnn(width: int) -> nn.Module:
    """The keyword spotter of MLPerf Tiny (Zhang et al., 2017)."""
    layers: list[nn.Module] = [nn.Conv2d(1, width, (10, 4), 2, (5, 1)), nn.BatchNorm2d(width), nn.ReLU()]
    for _ in range(4):
        layers += [unit(width, width, 3, 1, width), unit(width, width, 1)]
    return classifier(layers, width, 12)


def perceptron(*widths: int) -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Attention(nn.Module):
    """Attention and a perceptron, each behind a normalization, with one matrix for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values, self.join = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wider, self.narrower = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, width = x.shape[1], x.shape[2]
        parts = self.queries_keys_values(self.before(x)).reshape(-1, rows, 3, self.heads, width // self.heads)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = nn.functional.scaled_dot_product_attention(queries, keys, values)
        x = x + self.join(mixed.transpose(1, 2).reshape(-1, rows, width))
        y: torch.Tensor = x + self.narrower(nn.functional.gelu(self.wider(self.between(x))))
        return y


class Transformer(nn.Module):
    """Rows of features to classes."""

    def __init__(self, features: int, rows: int, width: int, heads: int, depth: int) -> None:
        super().__init__()
        self.first = nn.Linear(features, width)
        self.places = nn.Parameter(torch.randn(1, rows, width) * 0.02)
        self.layers = nn.Sequential(*(Attention(width, heads) for _ in range(depth)))
        self.norm, self.last = nn.LayerNorm(width), nn.Linear(width, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.last(self.norm(self.layers(self.first(x) + self.places)).mean(1))
        return y


class Dilated(nn.Module):
    """A temporal convolutional network (Bai et al., 2018)."""

    def __init__(self, channels: int, width: int, depth: int) -> None:
        super().__init__()
        self.first, self.last = nn.Conv1d(channels, width, 7, 2, 3), nn.Linear(width, 5)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(width, width, 3, padding=2**level, dilation=2**level), nn.BatchNorm1d(width),
                nn.ReLU(), nn.Conv1d(width, width, 1),
            )
            for level in range(depth)
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for layer in self.layers:
            x = x + layer(x)
        y: torch.Tensor = self.last(x.mean(-1))
        return y


class UNet(nn.Module):
    """Segmentation (Ronneberger et al., 2015), two levels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.top, self.middle = unit(3, width), unit(width, 2 * width, 3, 2)
        self.bottom, self.up = unit(2 * width, 4 * width, 3, 2), nn.Upsample(scale_factor=2)
        self.right, self.last = unit(6 * width, 2 * width), unit(3 * width, width)
        self.mask = nn.Conv2d(width, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        top = self.top(x)
        middle = self.middle(top)
        right = self.right(torch.cat([self.up(self.bottom(middle)), middle], 1))
        y: torch.Tensor = self.mask(self.last(torch.cat([self.up(right), top], 1)))
        return y


class Fire(nn.Module):
    """Squeeze, then convolve with two kernels side by side."""

    def __init__(self, inner: int, narrow: int, outer: int) -> None:
        super().__init__()
        self.squeeze, self.small, self.large = (
            unit(inner, narrow, 1),
            unit(narrow, outer, 1),
            unit(narrow, outer),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.squeeze(x)
        return torch.cat([self.small(x), self.large(x)], 1)


def squeezenet(width: int) -> nn.Module:
    """SqueezeNet (Iandola et al., 2016), shortened."""
    return classifier(
        [
            unit(3, 2 * width, 3, 2), nn.MaxPool2d(3, 2), Fire(2 * width, width // 2, width),
            Fire(2 * width, width // 2, width), nn.MaxPool2d(3, 2), Fire(2 * width, width, 2 * width),
            Fire(4 * width, width, 2 * width),
        ],
        4 * width, 10,
    )  # fmt: skip


VARIANTS: Mapping[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "digit-reader-w8": (partial(own, "digit-reader", 8), (1, 8, 8)),
    "digit-reader-w48": (partial(own, "digit-reader", 48), (1, 8, 8)),
    "vibration-monitor-w8": (partial(own, "vibration-monitor", 8), (1, 1024)),
    "vibration-monitor-w40": (partial(own, "vibration-monitor", 40), (1, 1024)),
    "mobilenet-v2-35-96": (partial(mobilenet_v2, 0.35, 10), (3, 96, 96)),
    "mobilenet-v2-75-160": (partial(mobilenet_v2, 0.75, 10), (3, 160, 160)),
    "mobilenet-v2-100-224": (partial(mobilenet_v2, 1.0, 1000), (3, 224, 224)),
    "resnet8-16-32": (partial(resnet, 16, (1, 1, 1)), (3, 32, 32)),
    "resnet14-24-48": (partial(resnet, 24, (2, 2, 2)), (3, 48, 48)),
    "resnet18-32-96": (partial(resnet, 32, (2, 2, 2, 2), pooled=True), (3, 96, 96)),
    "resnet18-64-128": (partial(resnet, 64, (2, 2, 2, 2), pooled=True), (3, 128, 128)),
    "ds-cnn-64": (partial(ds_cnn, 64), (1, 49, 10)),
    "ds-cnn-172": (partial(ds_cnn, 172), (1, 49, 10)),
    "perceptron-784": (partial(perceptron, 784, 512, 256, 10), (784,)),
    "auto-encoder-640": (partial(perceptron, 640, 128, 128, 128, 8, 128, 128, 128, 640), (640,)),
    "transformer-64x64": (partial(Transformer, 16, 64, 64, 4, 2), (64, 16)),
    "transformer-128x192": (partial(Transformer, 40, 128, 192, 6, 4), (128, 40)),
    "dilated-48": (partial(Dilated, 6, 48, 5), (6, 512)),
    "unet-12-64": (partial(UNet, 12), (3, 64, 64)),
    "squeezenet-32-96": (partial(squeezenet, 32), (3, 96, 96)),
}


def variants(*, reduce_range: bool = False) -> Iterator[Net]:
    """Yield every variant in both precisions, with random weights."""
    for name, (build, shape) in VARIANTS.items():
        torch.manual_seed(0)
        network = build().eval()
        with torch.no_grad():
            output = network(torch.zeros(2, *shape))
        signature = {
            kind: [{"name": value, "dtype": "float32", "shape": ["batch", *sizes]}]
            for kind, value, sizes in (("inputs", "x", shape), ("outputs", "y", output.shape[1:]))
        }
        with repeatable(seed=0):
            model = export(network, signature)
        rows = np.random.default_rng(0).uniform(-1, 1, (4, *shape)).astype(np.float32)
        quantized = calibrated(
            model, Samples(name, {"x": rows}, np.zeros(4, int)), {"reduceRange": reduce_range}
        )
        for precision, made in (("fp32", model), ("int8", quantized)):
            yield Net(f"{name}-{precision}", precision, to_bytes(made), shape, macs_of(model))


def macs_of(model: onnx.ModelProto) -> int:
    """Return the multiply-adds of one inference."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    sizes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for value in [*graph.input, *graph.output, *graph.value_info]:
        sizes[value.name] = [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
    total = 0
    for node in graph.node:
        if node.op_type == "Conv":
            total += int(np.prod(sizes[node.output[0]]) * np.prod(sizes[node.input[1]][1:]))
        elif node.op_type in ("Gemm", "MatMul"):
            total += int(np.prod(sizes[node.output[0]]) * sizes[node.input[0]][-1])
    return total
