"""Kinds of whole nets that edge devices run, each drawn at random: widths, depths, sizes, activations.

>>> drawing, output = FAMILIES["mobile"](Dice(3))
>>> drawing.shapes[output], drawing.macs
((10,), 1545120)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from edgewright.bench.calibration.graph import Dice, Drawing

Drawn = tuple[Drawing, str]
"""A drawing and the name of its output."""
Family = Callable[[Dice], Drawn]

_OF_CONVOLUTIONS = ("Relu", "Relu", "Relu", "relu6", "HardSwish", "silu", "LeakyRelu")
_OF_VECTORS = ("Relu", "Relu", "Tanh", "Sigmoid", "Gelu")


def cnn(dice: Dice) -> Drawn:
    """Convolutions of an image, plain or residual."""
    size = dice.one((12, 16, 24, 28, 32, 40, 48, 64, 80, 96, 128, 160))
    drawing = Drawing("x", (dice.one((1, 3)), size, size), dice)
    kind, residual, width = dice.one(_OF_CONVOLUTIONS), dice.chance(0.5), _width(dice, 6, 64)
    y = drawing.conv("x", width, kernel=dice.one((3, 3, 5, 7)), stride=dice.one((1, 1, 2)))
    y = drawing.activation(y, kind)
    if dice.chance(0.3):
        y = drawing.pool(y, "MaxPool", kernel=3)
    for stage in range(dice.whole(1, 4)):
        stride = 1
        if stage and _side(drawing, y) >= 6:
            width = min(512, int(width * dice.one((1, 1.5, 2, 2))))
            if dice.chance(0.5):
                y = drawing.pool(y, dice.one(("MaxPool", "MaxPool", "AveragePool")), kernel=dice.one((2, 3)))
            else:
                stride = 2
        for _ in range(dice.whole(1, 3)):
            before = y
            y = drawing.conv(y, width, kernel=dice.one((1, 3, 3, 3, 5)), stride=stride)
            if residual:
                y = drawing.conv(drawing.activation(y, kind), width, kernel=3)
                if drawing.shapes[before] != drawing.shapes[y]:
                    before = drawing.conv(before, width, kernel=1, stride=stride)
                y = drawing.add(y, before)
            y, stride = drawing.activation(y, kind), 1
    return drawing, _head(drawing, y, dice)


def mobile(dice: Dice) -> Drawn:
    """Depthwise and pointwise convolutions of an image."""
    size = dice.one((16, 24, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224))
    drawing = Drawing("x", (dice.one((1, 3)), size, size), dice)
    kind, expansion, excite = dice.one(_OF_CONVOLUTIONS), dice.one((1, 2, 3, 4, 6)), dice.chance(0.25)
    width = _width(dice, 8, 40)
    y = drawing.activation(drawing.conv("x", width, kernel=3, stride=dice.one((1, 2, 2))), kind)
    for _ in range(dice.whole(1, 5)):
        stride = 2 if _side(drawing, y) >= 8 and dice.chance(0.7) else 1
        width = min(384, int(width * dice.one((1, 1.5, 2))))
        for _ in range(dice.whole(1, 3)):
            before, inner = y, drawing.shapes[y][0] * expansion
            if expansion > 1:
                y = drawing.activation(drawing.conv(y, inner, kernel=1), kind)
            y = drawing.conv(y, inner, kernel=dice.one((3, 3, 5)), stride=stride, groups=inner)
            y = drawing.activation(y, kind)
            if excite:
                y = drawing.squeeze_excite(y, max(4, inner // 4))
            y, stride = drawing.conv(y, width, kernel=1), 1
            if drawing.shapes[before] == drawing.shapes[y]:
                y = drawing.add(y, before)
            elif expansion == 1:
                y = drawing.activation(y, kind)
    if dice.chance(0.5):
        y = drawing.activation(drawing.conv(y, dice.one((2, 4)) * width, kernel=1), kind)
    return drawing, _head(drawing, y, dice)


def branched(dice: Dice) -> Drawn:
    """Convolutions side by side whose channels are joined."""
    size = dice.one((16, 24, 32, 48, 64, 96, 128))
    drawing = Drawing("x", (dice.one((1, 3)), size, size), dice)
    kind, width = dice.one(_OF_CONVOLUTIONS), _width(dice, 8, 48)
    y = drawing.activation(drawing.conv("x", width, kernel=3, stride=dice.one((1, 2))), kind)
    for _ in range(dice.whole(1, 4)):
        if _side(drawing, y) >= 8:
            y = drawing.pool(y, dice.one(("MaxPool", "AveragePool")), kernel=dice.one((2, 3)))
        for _ in range(dice.whole(1, 2)):
            narrow = drawing.activation(drawing.conv(y, max(4, width // 2), kernel=1), kind)
            parts = [
                drawing.activation(drawing.conv(narrow, width, kernel=kernel), kind)
                for kernel in dice.one(((1, 3), (1, 3, 5), (3, 3)))
            ]
            y = drawing.concat(parts)
        width = min(256, int(width * dice.one((1, 1.5, 2))))
    return drawing, _head(drawing, y, dice)


def hourglass(dice: Dice) -> Drawn:
    """An image through a bottleneck and back, with or without bridges."""
    size = dice.one((16, 24, 32, 48, 64, 96))
    drawing = Drawing("x", (dice.one((1, 3)), size, size), dice)
    kind, width, depth = dice.one(_OF_CONVOLUTIONS), _width(dice, 6, 32), dice.whole(1, 3)
    by_resize, bridged = dice.chance(0.5), dice.chance(0.4)
    y, levels = drawing.activation(drawing.conv("x", width, kernel=3), kind), []
    for _ in range(depth):
        levels.append(y)
        y = drawing.activation(drawing.conv(y, min(192, 2 * drawing.shapes[y][0]), kernel=3, stride=2), kind)
        if dice.chance(0.5):
            y = drawing.activation(drawing.conv(y, drawing.shapes[y][0], kernel=3), kind)
    for level in reversed(levels):
        width = drawing.shapes[level][0]
        y = drawing.resize(y) if by_resize else drawing.conv_transpose(y, width)
        if bridged:
            y = drawing.concat([y, level])
        if by_resize or bridged:
            y = drawing.conv(y, width, kernel=3)
        y = drawing.activation(y, kind)
    y = drawing.conv(y, dice.one((1, 2, 3)), kernel=dice.one((1, 3)))
    return drawing, drawing.activation(y, dice.one(("Sigmoid", "none")))


def signal(dice: Dice) -> Drawn:
    """Convolutions of a signal."""
    length = dice.one((128, 256, 500, 1024, 2048, 4096))
    drawing = Drawing("x", (dice.one((1, 1, 2, 3, 6, 12)), length), dice)
    kind, width = dice.one(_OF_CONVOLUTIONS), _width(dice, 8, 64)
    y = drawing.conv("x", width, kernel=dice.one((3, 7, 16, 32, 64)), stride=dice.one((1, 2, 4)))
    y, dilated = drawing.activation(y, kind), dice.chance(0.25)
    for number in range(dice.whole(1, 6)):
        long = drawing.shapes[y][1] >= 32
        if long and dice.chance(0.3):
            y = drawing.pool(y, "MaxPool", kernel=dice.one((2, 3)))
        width = min(256, int(width * dice.one((1, 1, 1.5, 2))))
        before = y
        y = drawing.conv(
            y,
            width,
            kernel=dice.one((3, 3, 5, 9, 15)),
            stride=2 if long and dice.chance(0.3) else 1,
            dilation=2 ** (number % 4) if dilated else 1,
        )
        y = drawing.activation(y, kind)
        if drawing.shapes[before] == drawing.shapes[y]:
            y = drawing.add(y, before)
    return drawing, _head(drawing, y, dice)


def dense(dice: Dice) -> Drawn:
    """A vector through matrices."""
    drawing = Drawing("x", (dice.whole(16, 1024),), dice)
    kind, width, y = dice.one(_OF_VECTORS), int(dice.log(64, 1536)), "x"
    for _ in range(dice.whole(2, 8)):
        y = drawing.activation(drawing.gemm(y, width), kind)
        if dice.chance(0.4):
            width = max(32, int(width * dice.real(0.5, 1.1)))
    return drawing, drawing.gemm(y, dice.whole(1, 64))


def sequence(dice: Dice) -> Drawn:
    """A transformer over rows of features."""
    heads = dice.one((1, 2, 4, 4, 6, 8))
    width, rows = heads * dice.one((8, 16, 24, 32, 48, 64)), dice.one((8, 16, 24, 32, 50, 64, 96, 128, 197))
    drawing = Drawing("x", (rows, dice.whole(4, 128)), dice)
    y = _transformer(drawing, drawing.linear("x", width), heads, dice)
    return drawing, drawing.gemm(drawing.mean_rows(y), dice.whole(2, 100))


def hybrid(dice: Dice) -> Drawn:
    """Convolutions, then a transformer over what they see."""
    heads, size = dice.one((2, 4, 8)), dice.one((16, 24, 32, 48, 64, 96))
    width = heads * dice.one((8, 16, 24, 32))
    drawing = Drawing("x", (dice.one((1, 3)), size, size), dice)
    kind = dice.one(_OF_CONVOLUTIONS)
    y = drawing.activation(drawing.conv("x", _width(dice, 8, 32), kernel=3, stride=2), kind)
    if dice.chance(0.7):
        y = drawing.activation(drawing.conv(y, max(8, width // 2), kernel=3, stride=2), kind)
    y = drawing.tokens(drawing.conv(y, width, kernel=dice.one((2, 4)), stride=2))
    y = _transformer(drawing, y, heads, dice)
    return drawing, drawing.gemm(drawing.mean_rows(y), dice.whole(2, 100))


FAMILIES: Mapping[str, Family] = {
    family.__name__: family for family in (cnn, mobile, branched, hourglass, signal, dense, sequence, hybrid)
}


def _transformer(drawing: Drawing, y: str, heads: int, dice: Dice) -> str:
    wider, kind = dice.one((1, 2, 4)), dice.one(("Relu", "Gelu", "Gelu"))
    width = drawing.shapes[y][-1]
    for _ in range(dice.whole(1, 4)):
        y = drawing.add(y, drawing.attention(drawing.layer_norm(y), heads))
        inner = drawing.activation(drawing.linear(drawing.layer_norm(y), wider * width), kind)
        y = drawing.add(y, drawing.linear(inner, width))
    return drawing.layer_norm(y)


def _head(drawing: Drawing, y: str, dice: Dice) -> str:
    """Turn channels into the scores of some classes."""
    flat = dice.chance(0.3) and math.prod(drawing.shapes[y]) <= 4096
    vector = drawing.flatten(y) if flat else drawing.global_pool(y)
    if dice.chance(0.3):
        vector = drawing.activation(drawing.gemm(vector, dice.whole(16, 256)), "Relu")
    scores = drawing.gemm(vector, dice.one((2, 4, 10, 20, 100)))
    return drawing.node("Softmax", [scores], drawing.shapes[scores], axis=-1) if dice.chance(0.3) else scores


def _width(dice: Dice, low: int, high: int) -> int:
    """Return a number of channels, most often a multiple of 8."""
    width = int(dice.log(low, high))
    return max(8, width // 8 * 8) if dice.chance(0.75) else width


def _side(drawing: Drawing, name: str) -> int:
    return min(drawing.shapes[name][1:])
