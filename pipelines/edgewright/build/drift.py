"""The drift reference: how inputs and answers look while the model is right, for devices to compare with.

Bins of an input are its own quantiles on the test data, so that a device's share per bin can be
compared with `share` directly, for example as a population stability index. Figures are rounded to six
digits: more would tie the file to the processor that summed them up. `confidence` says in `kind` what it is of: the
largest softmax probability of a classifier (bins of equal width), the score itself where a model gives one per
sample, or the length of an embedding (bins between quantiles, as for inputs).

>>> drift_reference({"image": images}, logits, "logits")["confidence"]["mean"]
0.981
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

QUANTILES = tuple(round(0.05 * step, 2) for step in range(21))
CONFIDENCE_BINS = 20


def drift_reference(
    inputs: Mapping[str, np.ndarray], scores: np.ndarray, output: str, metric: str = "accuracy"
) -> dict[str, Any]:
    """Return `drift.json`.

    Args:
        inputs: Test inputs by name.
        scores: Output of the model for them, first dimension = samples.
        output: Name of that output.
        metric: What the model is measured by, which says what that output is.
    """
    return {
        "version": 1,
        "samples": len(scores),
        "inputs": {name: _input(array) for name, array in sorted(inputs.items())},
        "confidence": {"output": output, **_CONFIDENCES[metric](scores)},
    }


def confidence(scores: np.ndarray) -> np.ndarray:
    """Return the largest softmax probability per sample, computed so that large scores do not overflow."""
    shifted = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    return np.asarray((shifted / shifted.sum(axis=1, keepdims=True)).max(axis=1))


def _input(array: np.ndarray) -> dict[str, Any]:
    per_sample = array.astype(np.float64).reshape(len(array), -1)
    return {
        **_distribution(per_sample.ravel()),
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


def _distribution(values: np.ndarray) -> dict[str, Any]:
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
    }


def _of_classes(scores: np.ndarray) -> dict[str, Any]:
    values = confidence(scores)
    edges = np.linspace(0.0, 1.0, CONFIDENCE_BINS + 1)
    counts = np.histogram(values, edges)[0]
    return {
        "kind": "largest softmax probability",
        "mean": _rounded(values.mean()),
        "histogram": {"edges": _rounded(edges), "share": _rounded(counts / len(values))},
    }


def _of_score(scores: np.ndarray) -> dict[str, Any]:
    return {"kind": "score", **_distribution(scores.astype(np.float64).reshape(len(scores)))}


def _of_embedding(vectors: np.ndarray) -> dict[str, Any]:
    flat = vectors.astype(np.float64).reshape(len(vectors), -1)
    return {"kind": "Euclidean norm", **_distribution(np.sqrt((flat * flat).sum(axis=1)))}


_CONFIDENCES: Mapping[str, Callable[[np.ndarray], dict[str, Any]]] = {
    "accuracy": _of_classes,
    "auc": _of_score,
    "cosine": _of_embedding,
}


def _rounded(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [_rounded(item) for item in value]
    # + 0.0: minus zero and zero are one value and must be one text.
    return float(f"{float(value):.6g}") + 0.0
