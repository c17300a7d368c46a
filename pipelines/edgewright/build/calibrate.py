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

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
from onnxruntime.quantization.calibrate import MinMaxCalibrater, TensorData, TensorsData, save_tensors_data

from edgewright.errors import BuildError

BATCH = 64
STEPS = 2048


def activation_ranges(model: Path, inputs: Mapping[str, np.ndarray], target: Path) -> None:
    """Write the ranges of all activations of `model` over `inputs` as onnxruntime's calibration cache.

    Raises:
        BuildError: an activation is not finite.
    """
    calibrator = _OneThread(model, augmented_model_path=str(target.with_suffix(".onnx")))
    calibrator.augment_graph()
    calibrator.create_inference_session()
    calibrator.collect_data(_Reader(inputs))
    measured = calibrator.compute_data()
    ranges = {}
    for name, data in measured.items():
        low, high = (float(bound[0]) for bound in map(np.ravel, data.range_value))
        if not (math.isfinite(low) and math.isfinite(high)):
            raise BuildError(f"activation {name} is not finite on the calibration samples: {low} to {high}")
        low, high = widened(low, high)
        ranges[name] = TensorData(lowest=np.array(low, np.float32), highest=np.array(high, np.float32))
    save_tensors_data(TensorsData(CalibrationMethod.MinMax, ranges), target, smooth_quant=False)


def widened(low: float, high: float) -> tuple[float, float]:
    """Return the range with each bound moved outwards to the grid of `STEPS` steps per power of two."""
    return _snap(low, math.floor), _snap(high, math.ceil)


def _snap(value: float, direction: Any) -> float:
    if value == 0.0:
        return 0.0
    mantissa, exponent = math.frexp(value)
    return math.ldexp(direction(mantissa * 2 * STEPS) / (2 * STEPS), exponent)


class _OneThread(MinMaxCalibrater):  # type: ignore[misc]
    """onnxruntime's calibrator in a session whose sums do not depend on the number of cores."""

    def create_inference_session(self) -> None:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.infer_session = onnxruntime.InferenceSession(
            self.augmented_model_path, options, providers=["CPUExecutionProvider"]
        )


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Feeds samples in batches."""

    def __init__(self, inputs: Mapping[str, np.ndarray]) -> None:
        count = len(next(iter(inputs.values())))
        self._batches = iter(
            {name: array[start : start + BATCH] for name, array in inputs.items()}
            for start in range(0, count, BATCH)
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)
