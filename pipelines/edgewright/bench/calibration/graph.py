"""Drawing an ONNX graph layer by layer, with known shapes and weights that pack well.

>>> drawing = Drawing("x", (3, 32, 32), Dice(7))
>>> y = drawing.conv("x", 16, kernel=3, stride=2)
>>> drawing.shapes[y], drawing.macs
((16, 16, 16), 110592)
>>> len(drawing.finish(y).SerializeToString())
2028

Shapes are without the batch. A weight is sixteen values in an order that repeats: what a layer costs does not depend on
them, and a kit of nets stays small on the wire.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 20
IR_VERSION = 10
TILE = 4093  # a prime, so that rows of a weight differ; two of them fit the 32 KiB in which deflate finds repeats
LEVELS = 16
Shape = tuple[int, ...]
T = TypeVar("T")


class Dice:
    """Draws that are the same on every version of Python: only `random.Random.random` promises that."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311  not a secret

    def real(self, low: float, high: float) -> float:
        """Return a number in [low, high)."""
        return low + (high - low) * self._random.random()

    def whole(self, low: int, high: int) -> int:
        """Return a whole number in [low, high]."""
        return low + int(self._random.random() * (high - low + 1))

    def log(self, low: float, high: float) -> float:
        """Return a number in [low, high), every octave as likely as another."""
        return math.exp(self.real(math.log(low), math.log(high)))

    def one(self, choices: Sequence[T]) -> T:
        """Return one of `choices`."""
        return choices[self.whole(0, len(choices) - 1)]

    def chance(self, share: float) -> bool:
        """Return True for that share of draws."""
        return self._random.random() < share


class Drawing:
    """One graph that is being drawn; every method adds nodes and returns the name of their output.

    Attributes:
        shapes: Tensor → shape without batch.
        macs: Multiply-adds of all products so far.
        weights: Numbers in all weights so far.
    """

    def __init__(self, name: str, shape: Shape, dice: Dice) -> None:
        self.shapes: dict[str, Shape] = {name: shape}
        self.macs = self.weights = 0
        self._input, self._nodes = name, list[onnx.NodeProto]()
        self._constants: list[onnx.TensorProto] = []
        levels = [level / (LEVELS - 1) for level in range(1 - LEVELS, LEVELS, 2)]
        self._tile = np.array([dice.one(levels) for _ in range(TILE)], np.float32)
        self._turn = 0

    def node(self, kind: str, inputs: Sequence[str], shape: Shape, **attributes: Any) -> str:
        """Add one node with one output."""
        name = f"t{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        self.shapes[name] = shape
        return name

    def weight(self, shape: Shape, fan_in: int) -> str:
        """Add a weight of such a size that activations keep theirs."""
        count = math.prod(shape)
        self.weights += count
        self._turn = (self._turn + 997) % TILE
        flat = np.resize(np.roll(self._tile, -self._turn), count) * np.float32(math.sqrt(4.0 / fan_in))
        return self._constant(flat.reshape(shape))

    def conv(
        self, x: str, channels: int, *, kernel: int, stride: int = 1, groups: int = 1, dilation: int = 1
    ) -> str:
        """Convolve over all dimensions behind the channels, padded so that stride 1 keeps the size."""
        before, *sizes = self.shapes[x]
        pad = dilation * (kernel - 1) // 2
        after = tuple((size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1 for size in sizes)
        dims, fan_in = len(sizes), before // groups * kernel ** len(sizes)
        weights = self.weight((channels, before // groups, *[kernel] * dims), fan_in)
        self.macs += channels * fan_in * math.prod(after)
        return self.node(
            "Conv", [x, weights, self.weight((channels,), 400)], (channels, *after),
            kernel_shape=[kernel] * dims, strides=[stride] * dims, group=groups, dilations=[dilation] * dims,
            pads=[pad] * 2 * dims,
        )  # fmt: skip

    def conv_transpose(self, x: str, channels: int) -> str:
        """Double every size."""
        before, *sizes = self.shapes[x]
        weights = self.weight((before, channels, *[2] * len(sizes)), before)
        self.macs += before * channels * math.prod(sizes) * 2 ** len(sizes)
        return self.node(
            "ConvTranspose", [x, weights, self.weight((channels,), 400)], (channels, *[2 * s for s in sizes]),
            kernel_shape=[2] * len(sizes), strides=[2] * len(sizes),
        )  # fmt: skip

    def gemm(self, x: str, features: int) -> str:
        """Multiply a vector with a matrix and add a bias."""
        (before,) = self.shapes[x]
        self.macs += before * features
        return self.node(
            "Gemm", [x, self.weight((features, before), before), self.weight((features,), 400)],
            (features,), transB=1,
        )  # fmt: skip

    def linear(self, x: str, features: int) -> str:
        """Multiply every row with a matrix and add a bias."""
        *rows, before = self.shapes[x]
        shape = (*rows, features)
        self.macs += math.prod(rows) * before * features
        product = self.node("MatMul", [x, self.weight((before, features), before)], shape)
        return self.node("Add", [product, self.weight((features,), 400)], shape)

    def matmul(self, a: str, b: str) -> str:
        """Multiply two activations, matrix by matrix."""
        *outer, rows, inner = self.shapes[a]
        columns = self.shapes[b][-1]
        self.macs += math.prod(outer) * rows * inner * columns
        return self.node("MatMul", [a, b], (*outer, rows, columns))

    def activation(self, x: str, kind: str) -> str:
        """Apply a function to every value: an operator's name, `relu6`, `silu` or `none`."""
        shape = self.shapes[x]
        if kind == "none":
            return x
        if kind == "relu6":
            return self.node("Clip", [x, self._scalar(0.0), self._scalar(6.0)], shape)
        if kind == "silu":
            return self.node("Mul", [x, self.node("Sigmoid", [x], shape)], shape)
        return self.node(kind, [x], shape)

    def add(self, a: str, b: str) -> str:
        """Add two tensors of one shape."""
        return self.node("Add", [a, b], self.shapes[a])

    def concat(self, parts: Sequence[str]) -> str:
        """Put channels of several tensors behind each other."""
        channels = sum(self.shapes[part][0] for part in parts)
        return self.node("Concat", parts, (channels, *self.shapes[parts[0]][1:]), axis=1)

    def pool(self, x: str, kind: str, *, kernel: int = 2) -> str:
        """Halve every size (`MaxPool`, `AveragePool`) with a kernel of 2, or of 3 and a border."""
        channels, *sizes = self.shapes[x]
        border, dims = kernel - 2, len(sizes)
        after = [(size + 2 * border - kernel) // 2 + 1 for size in sizes]
        return self.node(
            kind, [x], (channels, *after),
            kernel_shape=[kernel] * dims, strides=[2] * dims, pads=[border] * 2 * dims,
        )  # fmt: skip

    def global_pool(self, x: str) -> str:
        """Average over everything but the channels; returns a vector."""
        channels, *sizes = self.shapes[x]
        axes = self._constant(np.arange(2, 2 + len(sizes), dtype=np.int64))
        return self.node("ReduceMean", [x, axes], (channels,), keepdims=0)

    def squeeze_excite(self, x: str, channels: int) -> str:
        """Scale every channel by what a small network makes of the averages."""
        full, *sizes = self.shapes[x]
        pooled = self.node("GlobalAveragePool", [x], (full, *[1] * len(sizes)))
        inner = self.activation(self.conv(pooled, channels, kernel=1), "Relu")
        gate = self.activation(self.conv(inner, full, kernel=1), "HardSigmoid")
        return self.node("Mul", [x, gate], self.shapes[x])

    def flatten(self, x: str) -> str:
        """Return a vector."""
        return self.node("Flatten", [x], (math.prod(self.shapes[x]),))

    def tokens(self, x: str) -> str:
        """Turn [channels, …] into [positions, channels]."""
        channels, *sizes = self.shapes[x]
        positions = math.prod(sizes)
        rows = self.reshape(x, (channels, positions))
        return self.node("Transpose", [rows], (positions, channels), perm=[0, 2, 1])

    def attention(self, x: str, heads: int) -> str:
        """Let every row look at every other."""
        rows, width = self.shapes[x]
        size = width // heads

        def split(order: Shape, shape: Shape) -> str:
            parts = self.reshape(self.linear(x, width), (rows, heads, size))
            return self.node("Transpose", [parts], shape, perm=list(order))

        queries = split((0, 2, 1, 3), (heads, rows, size))
        keys = split((0, 2, 3, 1), (heads, size, rows))
        values = split((0, 2, 1, 3), (heads, rows, size))
        scores = self.matmul(queries, keys)
        scaled = self.node("Mul", [scores, self._scalar(size**-0.5)], self.shapes[scores])
        weights = self.node("Softmax", [scaled], self.shapes[scaled], axis=-1)
        mixed = self.matmul(weights, values)
        joined = self.node("Transpose", [mixed], (rows, heads, size), perm=[0, 2, 1, 3])
        return self.linear(self.reshape(joined, (rows, width)), width)

    def layer_norm(self, x: str) -> str:
        """Normalize every row."""
        width = self.shapes[x][-1]
        scale = self._constant(np.ones(width, np.float32))
        return self.node(
            "LayerNormalization", [x, scale, self.weight((width,), 400)], self.shapes[x], axis=-1
        )

    def resize(self, x: str) -> str:
        """Double every size by repetition."""
        channels, *sizes = self.shapes[x]
        scales = self._constant(np.array([1, 1, *[2] * len(sizes)], np.float32))
        shape = (channels, *[2 * size for size in sizes])
        return self.node(
            "Resize", [x, "", scales], shape, mode="nearest", nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        )  # fmt: skip

    def mean_rows(self, x: str) -> str:
        """Average all rows; returns a vector."""
        axes = self._constant(np.array([1], np.int64))
        return self.node("ReduceMean", [x, axes], self.shapes[x][1:], keepdims=0)

    def reshape(self, x: str, shape: Shape) -> str:
        """Give other sizes to the same values."""
        return self.node("Reshape", [x, self._constant(np.array([-1, *shape], np.int64))], shape)

    def finish(self, y: str) -> onnx.ModelProto:
        """Return the model that ends in `y`, with a free batch."""
        self._nodes[-1].output[0] = "y"
        values = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])
            for name, shape in ((self._input, self.shapes[self._input]), ("y", self.shapes[y]))
        ]
        graph = helper.make_graph(self._nodes, "model", values[:1], values[1:], self._constants)
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name=""
        )

    def _scalar(self, value: float) -> str:
        return self._constant(np.array(value, np.float32))

    def _constant(self, array: Any) -> str:
        name = f"w{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(array, name))
        return name
