"""The drift reference: how inputs and confidence look while the model is right, for devices to compare with.

Bins of an input are its own quantiles on the test data, so that a device's share per bin can be
compared with `share` directly, for example as a population stability index. Figures are rounded to six
digits: more would tie the file to the processor that summed them up.

>>> drift_reference({"image": images}, logits, "logits")["confidence"]["mean"]
0.981
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

QUANTILES = tuple(round(0.05 * step, 2) for step in range(21))
CONFIDENCE_BINS = 20


def drift_reference(inputs: Mapping[str, np.ndarray], scores: np.ndarray, output: str) -> dict[str, Any]:
    """Return `drift.json`.

    Args:
        inputs: Test inputs by name.
        scores: Output of the model for them, [samples, classes].
        output: Name of that output.
    """
    return {
        "version": 1,
        "samples": len(scores),
        "inputs": {name: _input(array) for name, array in sorted(inputs.items())},
        "confidence": _confidence(scores, output),
    }


def confidence(scores: np.ndarray) -> np.ndarray:
    """Return the largest softmax probability per sample, computed so that large scores do not overflow."""
    shifted = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    return np.asarray((shifted / shifted.sum(axis=1, keepdims=True)).max(axis=1))


def _input(array: np.ndarray) -> dict[str, Any]:
    values = array.astype(np.float64).ravel()
    per_sample = array.astype(np.float64).reshape(len(array), -1)
    # Nearest: a quantile that is a value of the data, not a mean of two, so equal values share one edge
    # exactly.
    quantiles = np.quantile(values, QUANTILES, method="nearest")
    edges = np.unique(quantiles)
    counts = np.histogram(values, edges)[0] if len(edges) > 1 else np.array([len(values)])
    return {
        "mean": _rounded(values.mean()),
        "std": _rounded(values.std()),
        "quantiles": {
            f"p{round(share * 100):02d}": _rounded(q) for share, q in zip(QUANTILES, quantiles, strict=True)
        },
        "histogram": {"edges": _rounded(edges), "share": _rounded(counts / len(values))},
        # One sample's own figures vary far more than the whole set's; a device sees samples one at a time.
        "perSample": {
            "mean": {
                "mean": _rounded(per_sample.mean(axis=1).mean()),
                "std": _rounded(per_sample.mean(axis=1).std()),
            },
            "std": {
                "mean": _rounded(per_sample.std(axis=1).mean()),
                "std": _rounded(per_sample.std(axis=1).std()),
            },
        },
    }


def _confidence(scores: np.ndarray, output: str) -> dict[str, Any]:
    values = confidence(scores)
    edges = np.linspace(0.0, 1.0, CONFIDENCE_BINS + 1)
    counts = np.histogram(values, edges)[0]
    return {
        "output": output,
        "kind": "largest softmax probability",
        "mean": _rounded(values.mean()),
        "histogram": {"edges": _rounded(edges), "share": _rounded(counts / len(values))},
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [_rounded(item) for item in value]
    # + 0.0: minus zero and zero are one value and must be one text.
    return float(f"{float(value):.6g}") + 0.0
