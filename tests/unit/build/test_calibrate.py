"""Calibration: what each method makes of values far out, and how much memory a batch may take."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import helper

from edgewright.build.calibrate import BATCH, BATCH_BYTES, activation_ranges, batch_of

FLOAT = onnx.TensorProto.FLOAT
FAR = 25.0


def highest(method: str) -> float:
    """Return the upper end of a rectified bell of 200,000 values, one of which is five times as far out as the rest."""
    ends = [helper.make_tensor_value_info(name, FLOAT, ["batch", 5000]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name="relu")], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    values = np.random.default_rng(0).normal(size=(40, 5000)).astype(np.float32)
    values[3, 7] = FAR
    found = json.loads(activation_ranges(model, {"x": values}, method))
    return float(found["data"]["y"]["highest"]["data"])


def test_minmax_takes_the_whole_range() -> None:
    assert highest("minmax") == FAR


def test_entropy_clips_what_is_far_out() -> None:
    assert 4 < highest("entropy") < FAR / 2


@pytest.mark.parametrize("elements", [0, 1, 10**5, 7 * 10**6, 10**8])
def test_the_activations_of_a_batch_stay_within_a_bound_where_one_sample_does(elements: int) -> None:
    batch = batch_of(elements)
    assert 1 <= batch <= BATCH
    assert batch == 1 or 4 * elements * batch <= BATCH_BYTES
