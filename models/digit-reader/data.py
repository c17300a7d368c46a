"""The data: the 1,797 handwritten digits that come with scikit-learn, in four parts that never meet.

The images are the test part of UCI's "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak, 1998):
8 × 8 pixels with 17 grey levels, each the count of inked pixels in a 4 × 4 cell, written by 13 people. The
file does not say who wrote what, so the same hands appear in every part: the held-out figure is for new
digits of known writers, not for new writers.

>>> inputs, targets = test()
>>> inputs["image"].shape, targets.shape
((450, 1, 8, 8), (450,))
"""

from __future__ import annotations

import functools
import hashlib

import numpy as np
from sklearn.datasets import load_digits

Samples = tuple[dict[str, np.ndarray], np.ndarray]

# Changing the seed changes which digits are held out, and so every figure of this model.
SPLIT_SEED = b"digit-reader split 1"
TEST_SHARE = 0.25
CALIBRATION_SHARE = 0.10
SELECTION_SHARE = 0.15


def training() -> Samples:
    """Return the samples the weights are fitted to: half of every digit."""
    return _split()["training"]


def calibration() -> Samples:
    """Return the samples that set the ranges of quantized activations: 10 % of every digit."""
    return _split()["calibration"]


def selection() -> Samples:
    """Return the samples by which candidates are chosen: 15 % of every digit."""
    return _split()["selection"]


def test() -> Samples:
    """Return the samples nothing but the final figures may see: 25 % of every digit."""
    return _split()["test"]


@functools.cache
def _split() -> dict[str, Samples]:
    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)[:, None]
    targets = digits.target.astype(np.int64)
    parts: dict[str, list[int]] = {"test": [], "calibration": [], "selection": [], "training": []}
    for digit in range(10):
        # Ordered by a keyed hash of the image itself: the same split on every machine and library version,
        # and two equal images, should there ever be any, are neighbours.
        members = sorted(np.flatnonzero(targets == digit), key=lambda index: _rank(images[index]))
        held_out = round(len(members) * TEST_SHARE)
        calibrating = held_out + round(len(members) * CALIBRATION_SHARE)
        selecting = calibrating + round(len(members) * SELECTION_SHARE)
        parts["test"] += members[:held_out]
        parts["calibration"] += members[held_out:calibrating]
        parts["selection"] += members[calibrating:selecting]
        parts["training"] += members[selecting:]
    return {name: ({"image": images[sorted(rows)]}, targets[sorted(rows)]) for name, rows in parts.items()}


def _rank(image: np.ndarray) -> bytes:
    return hashlib.sha256(SPLIT_SEED + image.tobytes()).digest()
