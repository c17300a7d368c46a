"""The data: generated log lines in four sets that share no line.

`lines.py` writes them. Test lines come from a vendor whose phrasings, hosts, programs and people appear in no
training line: the figure says how the network does on machines it has not met. The selection set is of a third
vendor, so that choosing by it spends nothing of the test set. It remains generated text: validate on a plant's own
logs before trusting it with them.

>>> inputs, targets = test()
>>> inputs["tokens"].shape, targets.shape
((2000, 32), (2000,))
"""

from __future__ import annotations

import functools
import random

import numpy as np
from lines import BETWEEN, KNOWN, LABELS, OTHER, Vendor, written
from tokens import encoded

Samples = tuple[dict[str, np.ndarray], np.ndarray]


@functools.cache
def training() -> Samples:
    """Return the samples the weights are fitted to."""
    return _encoded(8000, KNOWN, 1404_1, besides=frozenset())


@functools.cache
def calibration() -> Samples:
    """Return the samples that set the ranges of quantized activations: more of what was trained on."""
    return _encoded(250, KNOWN, 1404_2, besides=_seen(training()))


@functools.cache
def selection() -> Samples:
    """Return the samples by which candidates are chosen."""
    return _encoded(1500, BETWEEN, 1404_3, besides=frozenset())


@functools.cache
def test() -> Samples:
    """Return the samples nothing but the final figures may see."""
    return _encoded(2000, OTHER, 1404_4, besides=frozenset())


def _encoded(count: int, vendor: Vendor, seed: int, besides: frozenset[bytes]) -> Samples:
    """Return `count` samples, the labels in turn, no two with the same tokens and none of `besides`."""
    dice = random.Random(seed)
    seen, lines = set(besides), []
    while len(lines) < count:
        line = written(LABELS[len(lines) % len(LABELS)], vendor, dice)
        tokens = encoded([line]).tobytes()
        if tokens not in seen:
            seen.add(tokens)
            lines.append(line)
    return {"tokens": encoded(lines)}, np.arange(count, dtype=np.int64) % len(LABELS)


def _seen(samples: Samples) -> frozenset[bytes]:
    return frozenset(row.tobytes() for row in samples[0]["tokens"])
