"""Calibration: the range of every activation, the same for the same samples on any processor.

Two processors may differ in the last bits of a sum, and a range that differs in its last bit is a scale, a
file and a digest that differ. So ranges are measured with one thread and then widened to the next of 2,048
steps per power of
two: 0.05 % of range lost, about a thousandth of the resolution an 8-bit activation has, and the last bits are
gone.

>>> widened(0.0, 0.9991)
(0.0, 0.99951171875)
"""

from __future__ import annotations

import contextlib
import functools
import io
import math
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
from onnxruntime.quantization.calibrate import (
    EntropyCalibrater,
    MinMaxCalibrater,
    PercentileCalibrater,
    TensorData,
    TensorsData,
    save_tensors_data,
)

from edgewright.build.canonical import to_bytes
from edgewright.build.passes.facts import graph_facts
from edgewright.errors import BuildError

BATCH = 64
BATCH_BYTES = 512 * 2**20
"""What the activations of one batch may take: a calibration session keeps them all."""
ENTROPY_BINS = 512
"""onnxruntime's default is 128, as many as are quantized: then the whole range is the only threshold it tries. A search
over 512 takes a tenth of a second a tensor, over 2,048 (Migacz) a second."""
STEPS = 2048


def activation_ranges(
    model: onnx.ModelProto, inputs: Mapping[str, np.ndarray], method: str = "minmax"
) -> bytes:
    """Return the ranges of all activations of `model` over `inputs` as onnxruntime's calibration cache.

    Args:
        model: A cleaned fp32 model.
        inputs: Calibration samples by input name.
        method: `minmax`; `percentile`, which leaves out the outermost 0.001 % of values; or `entropy`, which clips
            where that loses least information (Migacz, 8-bit inference with TensorRT, 2017).

    Raises:
        BuildError: an activation is not finite.
    """
    with tempfile.TemporaryDirectory(prefix="edgewright-ranges-") as scratch:
        source, target = Path(scratch) / "model.onnx", Path(scratch) / "ranges.json"
        source.write_bytes(to_bytes(model))
        calibrator = _CALIBRATORS[method](source, augmented_model_path=str(Path(scratch) / "augmented.onnx"))
        calibrator.augment_graph()
        calibrator.create_inference_session()
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # the histogram ones tell what they do
                for batch in _batches(
                    inputs, batch_of(graph_facts(model).elements)
                ):  # one by one: they cannot stack batches of two sizes
                    calibrator.collect_data(_Once(batch))
                measured = calibrator.compute_data()
        except ValueError as error:  # numpy, of a histogram without ends
            raise BuildError(f"calibration by {method} fails: {error}") from error
        ranges = {}
        for name, data in sorted(measured.items()):
            low, high = (float(bound) for bound in (np.min(data.range_value[0]), np.max(data.range_value[1])))
            if not (math.isfinite(low) and math.isfinite(high)):
                raise BuildError(
                    f"activation {name} is not finite on the calibration samples: {low} to {high}"
                )
            low, high = widened(low, high)
            ranges[name] = TensorData(lowest=np.array(low, np.float32), highest=np.array(high, np.float32))
        save_tensors_data(TensorsData(CalibrationMethod.MinMax, ranges), target, smooth_quant=False)
        return target.read_bytes()


def widened(low: float, high: float) -> tuple[float, float]:
    """Return the range with each bound moved outwards to the grid of `STEPS` steps per power of two."""
    return _snap(low, math.floor), _snap(high, math.ceil)


def _snap(value: float, direction: Any) -> float:
    if value == 0.0:
        return 0.0
    mantissa, exponent = math.frexp(value)
    return math.ldexp(direction(mantissa * 2 * STEPS) / (2 * STEPS), exponent)


class _OneThread:
    """A session whose sums do not depend on the number of cores, for onnxruntime's calibrators."""

    augmented_model_path: str
    infer_session: Any

    def create_inference_session(self) -> None:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.infer_session = onnxruntime.InferenceSession(
            self.augmented_model_path, options, providers=["CPUExecutionProvider"]
        )


class _MinMax(_OneThread, MinMaxCalibrater):  # type: ignore[misc]
    pass


class _Percentile(_OneThread, PercentileCalibrater):  # type: ignore[misc]
    pass


class _Entropy(_OneThread, EntropyCalibrater):  # type: ignore[misc]
    pass


_CALIBRATORS: Mapping[str, Any] = {
    "minmax": _MinMax,
    "percentile": _Percentile,
    "entropy": functools.partial(_Entropy, num_bins=ENTROPY_BINS),
}


def batch_of(elements: int) -> int:
    """Return how many samples to infer at once, for a model with that many activations of one sample.

    >>> batch_of(100_000), batch_of(6_700_000)
    (64, 20)
    """
    return max(1, min(BATCH, BATCH_BYTES // (4 * max(1, elements))))


def _batches(inputs: Mapping[str, np.ndarray], batch: int) -> Iterator[dict[str, np.ndarray]]:
    count = len(next(iter(inputs.values())))
    for start in range(0, count, batch):
        yield {name: array[start : start + batch] for name, array in inputs.items()}


class _Once(CalibrationDataReader):  # type: ignore[misc]
    """Feeds one batch."""

    def __init__(self, batch: dict[str, np.ndarray]) -> None:
        self._batches = iter((batch,))

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)
