"""The random nets of a calibration: whole ones, small, in fp32 and int8, the same bytes for the same recipe.

>>> recipe = Recipe(seed=1, nets=8)
>>> [net.name for net in draw(recipe)]
['cnn-000', 'mobile-001', 'signal-002', 'dense-003']

Whole nets, because a coefficient that is right for an operator alone is wrong for a model: caches, allocations and the
engine's own work between two kernels count as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from edgewright.bench.calibration.families import FAMILIES
from edgewright.bench.calibration.graph import Dice, Drawing
from edgewright.build.canonical import canonical, to_bytes

# Multiply-adds: an inference of the smallest takes some ten microseconds on a fast core, of the largest 20 ms on a
# slow one. Within a net, they are what its kernels have to do; a net is drawn again until it has about what was wanted.
MACS = (0.3e6, 150e6)
MACS_OF_FAMILY = {"dense": (0.02e6, 4e6)}  # one per weight
MAX_WEIGHTS = 6_000_000
TRIES = 5000
# Kernels of convolutions have more to be told apart than others.
TURNS = (
    "cnn", "mobile", "signal", "dense", "sequence", "branched", "cnn", "mobile",
    "hybrid", "hourglass", "signal", "cnn", "mobile", "dense", "sequence",
)  # fmt: skip
SAMPLES = 2


@dataclass(frozen=True)
class Recipe:
    """What a set of nets is made from.

    Attributes:
        seed: Of all draws.
        nets: How many; every second one is the int8 form of the one before.
        reduce_range: Whether int8 weights have 7 bits, as models for x86 without VNNI do.
    """

    seed: int = 1
    nets: int = 150
    reduce_range: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"seed": self.seed, "nets": self.nets, "reduceRange": self.reduce_range}


@dataclass(frozen=True)
class Drawn:
    """One net in fp32.

    Attributes:
        name: Family and number.
        model: The model; its input is `x`.
        shape: Of the input, one sample.
        macs: Multiply-adds of one inference.
    """

    name: str
    model: onnx.ModelProto
    shape: tuple[int, ...]
    macs: int


@dataclass(frozen=True)
class Net:
    """One net in one precision, as a kit carries it.

    Attributes:
        name: Unique in a kit.
        precision: `fp32` or `int8`.
        model: The file's bytes.
        shape: Of the input `x`, one sample.
        macs: Multiply-adds of one inference.
    """

    name: str
    precision: str
    model: bytes
    shape: tuple[int, ...]
    macs: int


def draw(recipe: Recipe) -> Iterator[Drawn]:
    """Yield the recipe's nets in fp32."""
    for number in range((recipe.nets + 1) // 2):
        family = TURNS[number % len(TURNS)]
        dice = Dice(recipe.seed * 1_000_003 + number)
        least, most = MACS_OF_FAMILY.get(family, MACS)
        wanted = dice.log(least, most)
        drawing, output = _about(family, dice, wanted)
        yield Drawn(
            f"{family}-{number:03}", canonical(drawing.finish(output)), drawing.shapes["x"], drawing.macs
        )


def make(recipe: Recipe, progress: Callable[[int, int], None] = lambda *_: None) -> Iterator[Net]:
    """Yield the recipe's nets in both precisions.

    Args:
        recipe: What to make.
        progress: Called with nets made and nets in all.
    """
    # onnxruntime's quantizer: not needed to draw
    from edgewright.build.passes.static_int8 import calibrated
    from edgewright.build.samples import Samples

    for number, drawn in enumerate(draw(recipe)):
        yield Net(f"{drawn.name}-fp32", "fp32", to_bytes(drawn.model), drawn.shape, drawn.macs)
        progress(2 * number + 1, recipe.nets)
        if 2 * number + 1 < recipe.nets:
            samples = Samples(drawn.name, {"x": _samples(drawn.shape)}, np.zeros(SAMPLES, np.int64))
            quantized = calibrated(drawn.model, samples, {"reduceRange": recipe.reduce_range})
            yield Net(f"{drawn.name}-int8", "int8", to_bytes(quantized), drawn.shape, drawn.macs)
            progress(2 * number + 2, recipe.nets)


def _about(family: str, dice: Dice, macs: float) -> tuple[Drawing, str]:
    """Draw until a net has the wanted number of multiply-adds, give or take the square root of two."""
    nearest: tuple[Drawing, str] | None = None
    for _ in range(TRIES):
        drawing, output = FAMILIES[family](dice)
        if drawing.weights > MAX_WEIGHTS:
            continue
        if nearest is None or _distance(drawing, macs) < _distance(nearest[0], macs):
            nearest = drawing, output
        if _distance(nearest[0], macs) <= 2**0.5:
            break
    assert nearest is not None, f"every {family} net is too large"
    return nearest


def _distance(drawing: Drawing, macs: float) -> float:
    ratio = drawing.macs / macs
    return max(ratio, 1 / ratio)


def _samples(shape: tuple[int, ...]) -> np.ndarray:
    """Return what activations are calibrated on: noise between -1 and 1, the same everywhere."""
    count = SAMPLES * int(np.prod(shape))
    numbers = np.arange(count, dtype=np.int64) * 7919 % 2003
    return (numbers / 1001 - 1).astype(np.float32).reshape(SAMPLES, *shape)
