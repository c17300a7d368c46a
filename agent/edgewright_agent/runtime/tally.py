"""What one model has done in this process: counts, a latency sketch, confidences, and how far its world has drifted.

>>> tally = Tally(read_reference(folder))                      # doctest: +SKIP
>>> tally.success(312.0, inputs, outputs)                      # doctest: +SKIP
>>> tally.figures().input_drift                                # doctest: +SKIP
{'image': 0.03}

Counting must cost next to nothing beside an inference: every call counts time and confidence, and only the first 32 and
then every 16th look at the inputs, at a few thousand values of each.
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewright_agent.contract import FILE_DRIFT
from edgewright_agent.runtime.sketch import Histogram, LatencySketch

if TYPE_CHECKING:
    from edgewright_agent.engine import Array, Arrays

log = logging.getLogger("edgewright")

CONFIDENCE_BINS = 20
SOFTMAX, SCORE, NORM = "largest softmax probability", "score", "Euclidean norm"
FIRST_CALLS, EVERY = 32, 16
MAX_VALUES = 4096  # of one input in one call
MAX_ROWS = 64  # of one output in one call
SMALL = 64  # values up to which plain Python is faster than numpy


@dataclass(frozen=True)
class Reference:
    """A model's `drift.json`, as far as a device compares with it.

    Attributes:
        output: Name of the output that tells the confidence; empty when none does.
        kind: What confidence is.
        confidence: Edges and shares of its reference.
        inputs: The same of every input, by name.
    """

    output: str = ""
    kind: str = ""
    confidence: tuple[list[float], list[float]] | None = None
    inputs: Mapping[str, tuple[list[float], list[float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Figures:
    """What a `Tally` has counted so far.

    Attributes:
        inferences: Requests that this model has answered.
        errors: Requests that it could not answer.
        input_errors: Requests that were refused as the caller's mistake.
        safe_outputs: Requests that were answered by the model's safe output, or by no decision.
        since_success_s: How long ago it last answered; None: never.
        latency: `[bucket, count]`, see `sketch.LatencySketch`.
        p50_ms, p95_ms, p99_ms: From it.
        confidence: Counts in 20 bins from 0 to 1; None where confidence is no probability.
        confidence_drift: Population stability index of it; None while too little was seen.
        input_drift: The same for each input that has been seen often enough.
    """

    inferences: int = 0
    errors: int = 0
    input_errors: int = 0
    safe_outputs: int = 0
    since_success_s: float | None = None
    latency: tuple[tuple[int, int], ...] = ()
    p50_ms: float = 0.0
    p95_ms: float = 0.0
    p99_ms: float = 0.0
    confidence: tuple[int, ...] | None = None
    confidence_drift: float | None = None
    input_drift: Mapping[str, float] = field(default_factory=dict)


class Tally:
    """Counts since a session opened on one digest; safe to share between threads."""

    def __init__(self, reference: Reference) -> None:
        self._lock = threading.Lock()
        self._reference = reference
        self._inferences = self._errors = self._input_errors = self._safe_outputs = 0
        self._latency = LatencySketch()
        self._last_success: float | None = None
        self._confidence = [0] * CONFIDENCE_BINS
        self._drift = Histogram(*reference.confidence) if reference.confidence else None
        self._inputs = {name: Histogram(*bins) for name, bins in reference.inputs.items()}

    def success(self, microseconds: float, inputs: Arrays, outputs: Arrays) -> None:
        """Count an answer."""
        reference = self._reference
        scores = outputs.get(reference.output) if reference.output else None
        # Before the lock: the only part that may take longer than a few steps.
        values = None if scores is None else confidences(reference.kind, scores)
        now = time.monotonic()
        with self._lock:
            count = self._inferences
            self._inferences = count + 1
            self._last_success = now
            self._latency.add(microseconds)
            if values:
                self._confident(values)
            if self._inputs and (count < FIRST_CALLS or count % EVERY == 0):
                self._look_at(inputs, count)

    def error(self) -> None:
        """Count a request this model could not answer."""
        with self._lock:
            self._errors += 1

    def input_error(self) -> None:
        """Count a request that was refused."""
        with self._lock:
            self._input_errors += 1

    def safe_output(self) -> None:
        """Count a request that no model answered."""
        with self._lock:
            self._safe_outputs += 1

    @property
    def events(self) -> int:
        """A number that grows with everything that is counted."""
        return self._inferences + self._errors + self._input_errors + self._safe_outputs

    def figures(self) -> Figures:
        """Return what was counted so far."""
        with self._lock:
            last, sketch = self._last_success, self._latency
            drifts = {name: drift.distance() for name, drift in self._inputs.items()}
            p50, p95, p99 = (sketch.quantile_us(share) / 1000 for share in (0.5, 0.95, 0.99))
            return Figures(
                inferences=self._inferences,
                errors=self._errors,
                input_errors=self._input_errors,
                safe_outputs=self._safe_outputs,
                since_success_s=None if last is None else time.monotonic() - last,
                latency=tuple((bucket, count) for bucket, count in sketch.pairs()),
                p50_ms=p50,
                p95_ms=p95,
                p99_ms=p99,
                confidence=tuple(self._confidence) if self._reference.kind == SOFTMAX else None,
                confidence_drift=self._drift.distance() if self._drift else None,
                input_drift={name: value for name, value in drifts.items() if value is not None},
            )

    def _confident(self, values: list[float]) -> None:
        if self._reference.kind == SOFTMAX:
            for value in values:
                self._confidence[min(int(value * CONFIDENCE_BINS), CONFIDENCE_BINS - 1)] += 1
        if self._drift:
            self._drift.add(values, len(values))

    def _look_at(self, inputs: Arrays, count: int) -> None:
        for name, histogram in self._inputs.items():
            array = inputs.get(name)
            if array is None or not array.size or array.dtype.kind not in "fiub":
                continue
            flat = array.reshape(-1)
            if flat.size > MAX_VALUES:
                # An odd stride from a moving start meets every channel of an image, and in time every pixel.
                stride = flat.size // MAX_VALUES | 1
                flat = flat[count % stride :: stride]
            if flat.dtype.kind == "f" and flat.dtype.itemsize < 4:
                flat = flat.astype("float32")
            histogram.add_array(flat, len(array) if array.ndim > 1 else 1)


def confidences(kind: str, scores: Array) -> list[float]:
    """Return how sure the model is of each sample; of a large batch, of some.

    Args:
        kind: As `drift.json` has it; see `edgewright.build.drift`.
        scores: First dimension = samples; for a softmax the second = classes. Finite: what is not is no answer, see
            `resident.Resident.infer`.
    """
    if not scores.size or not scores.ndim:
        return []
    if kind == SOFTMAX:
        if scores.ndim == 2 and scores.size <= SMALL:
            return [_softmax_peak(row) for row in scores.tolist()]
        return _softmax_peaks(scores)
    if len(scores) > MAX_ROWS:
        scores = scores[:: -(-len(scores) // MAX_ROWS)]
    rows = scores.reshape(len(scores), -1)
    if kind == NORM:
        import numpy

        wide = rows.astype("float64")
        return list(map(float, numpy.sqrt((wide * wide).sum(axis=1))))
    if kind == SCORE and rows.shape[1] == 1:
        return list(map(float, rows[:, 0]))
    return []


def _softmax_peak(row: list[float]) -> float:
    # The largest term of the softmax is exp(0) over the sum of all.
    peak = max(row)
    return 1.0 / sum(math.exp(value - peak) for value in row)


def _softmax_peaks(scores: Array) -> list[float]:
    import numpy

    if scores.ndim < 2:
        return []
    # Samples, and places of a map of classes, are rows alike.
    rows = numpy.moveaxis(scores, 1, -1).reshape(-1, scores.shape[1])
    if len(rows) > MAX_ROWS:
        rows = rows[:: -(-len(rows) // MAX_ROWS)]
    rows = rows.astype("float32", copy=False)
    raised = numpy.exp(rows - rows.max(axis=1, keepdims=True))
    return list(map(float, 1.0 / raised.sum(axis=1)))


def read_reference(folder: Path) -> Reference:
    """Return what `drift.json` in an artifact's folder says; an empty one when it says nothing that can be read.

    Drift is watched where it can be: a model without a reference is as good a model.
    """
    path = folder / FILE_DRIFT
    try:
        document = json.loads(path.read_bytes())
        confidence = document.get("confidence") or {}
        reference = Reference(
            str(confidence.get("output", "")),
            str(confidence.get("kind", "")),
            _bins(confidence) if "histogram" in confidence else None,
            {str(name): _bins(value) for name, value in document.get("inputs", {}).items()},
        )
        Tally(reference)  # its bins fit their edges
    except FileNotFoundError:
        return Reference()
    except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        log.warning("%s is not understood, drift is not watched: %s", path, error)
        return Reference()
    return reference


def _bins(value: Any) -> tuple[list[float], list[float]]:
    histogram = value["histogram"]
    return [float(edge) for edge in histogram["edges"]], [float(share) for share in histogram["share"]]
