"""The data: simulated recordings of a 6205 bearing, healthy ones only to learn from, in four sets.

`bearing.py` is the physics, shared with vibration-monitor. Training and calibration are healthy: damage is what
nobody has recordings of when a machine is new. Half of each other set is damaged, a sixth each at the inner race,
the outer race and the balls. As in vibration-monitor, the test set is recorded at shaft speeds and on a mounting
(resonance) of its own; the selection set lies between it and training.

>>> inputs, targets = test()
>>> inputs["signal"].shape, targets.mean()
((3000, 1, 1024), 0.5)
"""

from __future__ import annotations

import functools

import numpy as np
from bearing import LABELS, Conditions, record

Samples = tuple[dict[str, np.ndarray], np.ndarray]

TRAINING = Conditions(shaft_rpm=(1650, 1780), resonance_hz=((2300, 2900), (3300, 4000)))
SELECTION = Conditions(shaft_rpm=(1780, 1790), resonance_hz=((2900, 2950), (3250, 3300)), gain=(0.55, 1.8))
TEST = Conditions(shaft_rpm=(1790, 1820), resonance_hz=((2950, 3250),), gain=(0.5, 2.0))

HEALTHY = ("healthy",)
MIXED = ("healthy", "inner-race", "healthy", "outer-race", "healthy", "ball")


@functools.cache
def training() -> Samples:
    """Return the samples the weights are fitted to, all healthy."""
    return _recorded(4000, TRAINING, 6205_11, HEALTHY)


@functools.cache
def calibration() -> Samples:
    """Return the samples that set the ranges of quantized activations, all healthy."""
    return _recorded(256, TRAINING, 6205_12, HEALTHY)


@functools.cache
def selection() -> Samples:
    """Return the samples by which candidates are chosen, half of them damaged."""
    return _recorded(1800, SELECTION, 6205_13, MIXED)


@functools.cache
def test() -> Samples:
    """Return the samples nothing but the final figures may see, half of them damaged."""
    return _recorded(3000, TEST, 6205_14, MIXED)


def _recorded(count: int, conditions: Conditions, seed: int, labels: tuple[str, ...]) -> Samples:
    signals, indices = record(count, conditions, seed, labels)
    return {"signal": signals}, (indices != LABELS.index("healthy")).astype(np.int64)
