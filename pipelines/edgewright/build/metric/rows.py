"""Which samples to take where all of them would cost too much.

>>> stratified(np.array([0, 0, 0, 0, 1, 2]), 4).tolist()
[0, 1, 4, 5]
"""

from __future__ import annotations

import numpy as np

from edgewright.build.metric.score import Array


def stratified(targets: Array, count: int) -> Array:
    """Return rows of at most `count` samples, in rising order: the labels in turn, in each its first samples.

    The same targets give the same rows on every machine. With more labels than samples, labels are taken evenly over
    their range; with fewer samples than `count`, all rows are.

    Args:
        targets: One whole number per sample.
        count: How many samples are wanted.
    """
    everything = np.arange(len(targets))
    if count >= len(targets):
        return everything
    labels, label = np.unique(targets, return_inverse=True)
    turn = np.zeros(len(targets), int)
    for index in range(len(labels)):
        of_label = np.flatnonzero(label == index)
        turn[of_label] = np.arange(len(of_label))
    if len(labels) > count:
        chosen = (np.arange(count) * len(labels)) // max(count, 1)
        return np.sort(everything[np.isin(label, chosen) & (turn == 0)])
    return np.sort(np.lexsort((everything, label, turn))[:count])
