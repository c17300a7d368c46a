"""The data: rendered images of plates in four sets that share neither seeds nor, but for calibration, scenes.

`plate.py` draws the images. Plates in the test set lie at angles, and are lit from directions, that no training
image has, in stronger noise: its figure says how the network does when somebody has moved the lamp. The selection
set lies between the two, at angles and directions of its own. It remains a rendering: before this model rejects
real parts, it must be validated on photographs of them.

A quarter turn of the plate changes nothing, so all angles there are fit into 90 degrees.

>>> inputs, targets = test()
>>> inputs["image"].shape, targets.shape
((2000, 1, 32, 32), (2000,))
"""

from __future__ import annotations

import functools

import numpy as np
from plate import Scene, photograph

Samples = tuple[dict[str, np.ndarray], np.ndarray]

TRAINING = Scene(turned_deg=(-45, 5), lamp_deg=((0, 80), (120, 200), (240, 320)))
SELECTION = Scene(
    turned_deg=(5, 12), lamp_deg=((80, 88), (112, 120), (200, 208), (232, 240), (320, 328), (352, 360))
)
TEST = Scene(turned_deg=(12, 45), lamp_deg=((88, 112), (208, 232), (328, 352)), noise=(0.008, 0.030))


@functools.cache
def training() -> Samples:
    """Return the samples the weights are fitted to."""
    return _photographed(6000, TRAINING, seed=2718_1)


@functools.cache
def calibration() -> Samples:
    """Return the samples that set the ranges of quantized activations: more of what was trained on."""
    return _photographed(250, TRAINING, seed=2718_2)


@functools.cache
def selection() -> Samples:
    """Return the samples by which candidates are chosen."""
    return _photographed(1500, SELECTION, seed=2718_3)


@functools.cache
def test() -> Samples:
    """Return the samples nothing but the final figures may see."""
    return _photographed(2000, TEST, seed=2718_4)


def _photographed(count: int, scene: Scene, seed: int) -> Samples:
    images, labels = photograph(count, scene, seed)
    return {"image": images}, labels
