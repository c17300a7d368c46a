"""Golden inputs and outputs: what a device replays after an installation to see that the model is right.

The outputs are this artifact's own, on the evaluator. A device with another processor may be off by rounding:
by a few units in the last place in fp32, by one or two quantization steps in int8; the tolerance covers both.
A damaged or confused model is off by far more.

>>> asked = {"samples": 8, "atol": 0.01, "rtol": 0.01}
>>> document = golden_document(network, model, held_out, outputs, asked)
>>> document["inputs"]["image"]["shape"]
[8, 1, 8, 8]
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from edgewright.build.samples import Arrays, Network, Samples
from edgewright.errors import BuildError

# Outputs are stored as multiples of this, so that the file does not depend on the last bits of the
# evaluator's sums. A tenth of the default tolerance; a narrower tolerance gets a finer grid.
GRID = 2.0**-10
NOISE = 2.0**-16  # how far apart two processors' fp32 outputs may be, with plenty to spare (measured: 4e-7)
STEPS_TOLERATED = 2  # int8: quantization steps of the output that another processor's rounding may move it


def golden_document(
    network: Network,
    model: bytes,
    samples: Samples,
    outputs: Arrays,
    golden: Mapping[str, Any],
    winners: Sequence[str] = (),
) -> dict[str, Any]:
    """Return `golden.json`.

    Args:
        network: A session of `model`.
        model: The serialized optimized model.
        samples: Test samples.
        outputs: The model's outputs for them.
        golden: `samples` (how many), `atol`, `rtol`.
        winners: Outputs whose largest value is the answer, so that a device must name the same one. The largest
            value of an embedding means nothing, and may be another within the tolerance.

    Raises:
        BuildError: there are fewer samples than asked for, or the same sample gives something else in a
            batch.
    """
    atol, rtol = max(float(golden["atol"]), STEPS_TOLERATED * output_step(model)), float(golden["rtol"])
    grid = _grid(atol)
    rows = choose_rows(samples.targets, outputs, int(golden["samples"]), grid)
    inputs = {name: array[rows] for name, array in samples.inputs.items()}
    replayed = network.run(inputs, batch=1)
    for name, array in replayed.items():
        if not np.allclose(array, outputs[name][rows], atol=atol, rtol=rtol):
            raise BuildError(f"output {name!r} of a sample depends on the other samples of its batch")
    return {
        "version": 1,
        "atol": atol,
        "rtol": rtol,
        "winners": list(winners),
        "inputs": {name: encoded(array) for name, array in inputs.items()},
        "outputs": {name: encoded(on_grid(array, grid)) for name, array in replayed.items()},
    }


def golden_answers(
    network: Network, model: bytes, document: Mapping[str, Any], golden: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what the model beside answers to the golden inputs: `outputs`, `atol`, `rtol`.

    Args:
        network: A session of `model`.
        model: The serialized model for the processor.
        document: `golden.json` of the model that it stands beside.
        golden: `atol`, `rtol`.
    """
    atol, rtol = max(float(golden["atol"]), STEPS_TOLERATED * output_step(model)), float(golden["rtol"])
    answers = network.run({name: decoded(value) for name, value in document["inputs"].items()}, batch=1)
    grid = _grid(atol)
    outputs = {name: encoded(on_grid(array, grid)) for name, array in answers.items()}
    return {"atol": atol, "rtol": rtol, "outputs": outputs}


def _grid(atol: float) -> float:
    return min(GRID, 2.0 ** math.floor(math.log2(atol / 8))) if atol > 0 else 0.0


def choose_rows(targets: np.ndarray, outputs: Arrays, count: int, grid: float) -> list[int]:
    """Return `count` rows: the labels in turn, and in each label those whose outputs are clear of rounding
    edges.

    In a wide output some value is always near an edge: then those rows come first that keep furthest away.

    Raises:
        BuildError: there are fewer samples than that.
    """
    if len(targets) < count:
        raise BuildError(f"golden.samples is {count}; there are {len(targets)} test samples")
    near = np.zeros(len(targets))  # how much nearer to an edge than noise may move it; 0 is clear
    for array in outputs.values():
        if np.issubdtype(array.dtype, np.floating) and grid > 0:
            steps = array.reshape(len(targets), -1).astype(np.float64) / grid
            from_edge = np.abs(steps - np.floor(steps) - 0.5)
            near = np.maximum(near, NOISE / grid - from_edge.min(axis=1, initial=0.5))
    clear = near == 0
    turn = np.zeros(len(targets), int)
    for label in np.unique(targets):
        of_label = np.flatnonzero(targets == label)
        turn[of_label[np.argsort(near[of_label], kind="stable")]] = np.arange(len(of_label))
    # Unclear rows come last over all labels: they are needed only when there is nothing else.
    order = np.lexsort((np.arange(len(targets)), targets, near, turn, ~clear))
    return sorted(int(row) for row in order[:count])


def output_step(model: bytes) -> float:
    """Return the largest quantization step of an output of `model`, 0 when its outputs are fp32."""
    graph = onnx.load_model_from_string(model).graph
    scales = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    names = {output.name for output in graph.output}
    steps = [
        float(scales[node.input[1]].max())
        for node in graph.node
        if node.op_type == "DequantizeLinear" and names & set(node.output) and node.input[1] in scales
    ]
    return max(steps, default=0.0)


def on_grid(array: np.ndarray, grid: float) -> np.ndarray:
    """Round floating-point values to multiples of `grid` (0: not at all); whole numbers stay."""
    if not np.issubdtype(array.dtype, np.floating) or grid == 0:
        return array
    return (np.rint(array.astype(np.float64) / grid) * grid).astype(array.dtype)


def encoded(array: np.ndarray) -> dict[str, Any]:
    """Return `array` as a JSON value: base64 of its little-endian bytes in C order."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    data = base64.b64encode(little.tobytes()).decode()
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": data}


def decoded(value: Mapping[str, Any]) -> np.ndarray:
    """Return the array of a golden.json value."""
    flat = np.frombuffer(base64.b64decode(value["data"]), np.dtype(value["dtype"]).newbyteorder("<"))
    return flat.reshape(value["shape"]).astype(value["dtype"])
