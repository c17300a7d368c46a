"""The data: simulated recordings of a 6205 bearing in four sets that share neither seeds nor, but for calibration,
machines.

`bearing.py` is the physics. The test set is recorded at shaft speeds and on a mounting (resonance) that no training
signal has, with sensor gains beyond the trained ones, so its figure says how the network does on a machine it has
not met. The selection set lies between the two: between their speeds, on mountings between theirs, with gains a
little beyond the trained ones. What is chosen by it is chosen for machines not met, without a look at the test set's.
It remains a simulation: before this model watches a real machine, it must be validated on recordings of one.

Speeds stay within 1,640-1,820 rpm because the network has no tachometer: an inner-race defect (5.415 hits a
turn) at 1,590 rpm has the same rate as a ball defect (4.713) at 1,830 rpm.

>>> inputs, targets = test()
>>> inputs["signal"].shape, targets.shape
((2000, 1, 1024), (2000,))
"""

from __future__ import annotations

import functools

import numpy as np
from bearing import Conditions, record

Samples = tuple[dict[str, np.ndarray], np.ndarray]

TRAINING = Conditions(shaft_rpm=(1650, 1780), resonance_hz=((2300, 2900), (3300, 4000)))
CALIBRATION = Conditions(shaft_rpm=(1640, 1780), resonance_hz=((2300, 2900), (3300, 4000)))
SELECTION = Conditions(shaft_rpm=(1780, 1790), resonance_hz=((2900, 2950), (3250, 3300)), gain=(0.55, 1.8))
TEST = Conditions(shaft_rpm=(1790, 1820), resonance_hz=((2950, 3250),), gain=(0.5, 2.0))


@functools.cache
def training() -> Samples:
    """Return the samples the weights are fitted to."""
    return _recorded(3600, TRAINING, seed=6205_1)


@functools.cache
def calibration() -> Samples:
    """Return the samples that set the ranges of quantized activations."""
    return _recorded(256, CALIBRATION, seed=6205_2)


@functools.cache
def selection() -> Samples:
    """Return the samples by which candidates are chosen."""
    return _recorded(1600, SELECTION, seed=6205_4)


@functools.cache
def test() -> Samples:
    """Return the samples nothing but the final figures may see."""
    return _recorded(2000, TEST, seed=6205_3)


def _recorded(count: int, conditions: Conditions, seed: int) -> Samples:
    signals, labels = record(count, conditions, seed)
    return {"signal": signals}, labels
