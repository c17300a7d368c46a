"""A tiny real model: one matrix multiplication and a softmax, with the files an artifact carries beside it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

PIXELS = np.linspace(-1, 1, 32, dtype=np.float32).reshape(8, 4)
WEIGHTS = np.sin(np.arange(12, dtype=np.float32)).reshape(4, 3) * 3
LABELS = ["zero", "one", "two"]


def model_bytes(weights: np.ndarray[Any, Any] = WEIGHTS) -> bytes:
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["image", "w"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
        ],
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def scores(pixels: np.ndarray[Any, Any], weights: np.ndarray[Any, Any] = WEIGHTS) -> np.ndarray[Any, Any]:
    raised = np.exp(pixels @ weights)
    return (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32)


def encoded(array: np.ndarray[Any, Any]) -> dict[str, Any]:
    return {
        "dtype": array.dtype.name,
        "shape": list(array.shape),
        "data": base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode(),
    }


def files(
    *,
    weights: np.ndarray[Any, Any] = WEIGHTS,
    outputs: np.ndarray[Any, Any] | None = None,
    tolerance: float = 1e-4,
    winners: list[str] | None = None,
    **runtime: Any,
) -> Mapping[str, bytes]:
    """Return an artifact's files; `outputs` replaces the honest golden outputs, `runtime` single settings.

    `winners`: outputs whose largest value is an answer; None: the file does not say, as older ones.
    """
    manifest = {
        "version": 1,
        "engine": "onnxruntime",
        "versions": ">=1.20,<2",
        "providers": ["CUDAExecutionProvider", "CPUExecutionProvider"],
        "threads": 1,
        "arena": False,
        "graphOptimization": "extended",
        "precision": "fp32",
        "signature": {
            "inputs": [{"name": "image", "dtype": "float32", "shape": [None, 4]}],
            "outputs": [{"name": "scores", "dtype": "float32", "shape": [None, 3]}],
        },
        **runtime,
    }
    golden = {
        "version": 1,
        "atol": tolerance,
        "rtol": tolerance,
        **({} if winners is None else {"winners": winners}),
        "inputs": {"image": encoded(PIXELS)},
        "outputs": {"scores": encoded(scores(PIXELS, weights) if outputs is None else outputs)},
    }
    return {
        "model.onnx": model_bytes(weights),
        "runtime.json": json.dumps(manifest).encode(),
        "labels.json": json.dumps({"version": 1, "output": "scores", "labels": LABELS}).encode(),
        "golden.json": json.dumps(golden).encode(),
    }


def write(folder: Path, **changes: Any) -> Path:
    """Write the files of `files(**changes)` into a folder and return it."""
    folder.mkdir(parents=True)
    for name, data in files(**changes).items():
        (folder / name).write_bytes(data)
    return folder
