"""Models of a few nodes, good and bad, with the golden inputs and outputs they should have.

>>> case = saturating()
>>> case.write(tmp_path)                                # doctest: +SKIP
(PosixPath('…/model.onnx'), PosixPath('…/runtime.json'))
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edgewright.build.golden import encoded
from unit.bench.lane import RUNTIME


@dataclass(frozen=True)
class Case:
    """A serialized model, one input row per golden sample, and its right outputs."""

    model: bytes
    x: np.ndarray
    y: np.ndarray
    precision: str = "fp32"
    atol: float = 1e-3

    @property
    def golden(self) -> dict[str, Any]:
        return {
            "version": 1,
            "atol": self.atol,
            "rtol": 1e-3,
            "inputs": {"x": encoded(self.x)},
            "outputs": {"y": encoded(self.y)},
        }

    def write(self, folder: Path, **runtime: Any) -> tuple[Path, Path]:
        model, settings = folder / "model.onnx", folder / "runtime.json"
        model.write_bytes(self.model)
        settings.write_text(json.dumps({**RUNTIME, "precision": self.precision, **runtime}))
        return model, settings


def serialized(
    nodes: Sequence[NodeProto],
    width: tuple[int, int],
    tensors: Sequence[TensorProto] = (),
    *,
    opset: int = 20,
    domain: str | None = None,
) -> bytes:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", width[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", width[1]])],
        initializer=list(tensors),
    )
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())


ROW = np.array([[-1, 0, 2, 3]], np.float32)


def relu(**changes: Any) -> Case:
    """A model that works everywhere."""
    return Case(
        serialized([helper.make_node("Relu", ["x"], ["y"])], (4, 4), **changes), ROW, np.maximum(ROW, 0)
    )


def unknown_operator(domain: str | None = None) -> Case:
    node = helper.make_node("Frobnicate", ["x"], ["y"], domain=domain or "")
    return Case(serialized([node], (4, 4), domain=domain), ROW, ROW)


def weighing(mebibytes: int) -> Case:
    """A model of that size in weights."""
    rows = mebibytes * 2**20 // 16
    weights = numpy_helper.from_array(np.full((4, rows), 2.0**-10, np.float32), "w")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["wide"]),
        helper.make_node("ReduceMax", ["wide"], ["most"], keepdims=1),
        helper.make_node("Add", ["x", "most"], ["y"]),
    ]
    return Case(serialized(nodes, (4, 4), [weights]), ROW, ROW + np.float32(4 * 2.0**-10))


def saturating(weight: int = 127) -> Case:
    """An int8 matrix product whose pairs of products exceed 16 bits: 2 × 255 × 127 = 64,770."""
    inner, outer = 64, 16
    weights = np.full((inner, outer), weight, np.int8)
    scale = np.float32(1 / 255), np.float32(1 / weight), np.float32(inner / 255)
    zero_u8, zero_s8 = np.uint8(0), np.int8(0)
    tensors = [
        numpy_helper.from_array(np.asarray(value), name)
        for name, value in (
            ("w", weights), ("sx", scale[0]), ("sw", scale[1]), ("sy", scale[2]), ("zu", zero_u8), ("zs", zero_s8),
        )
    ]  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "sx", "zu"], ["qx"]),
        helper.make_node("DequantizeLinear", ["qx", "sx", "zu"], ["dx"]),
        helper.make_node("DequantizeLinear", ["w", "sw", "zs"], ["dw"]),
        helper.make_node("MatMul", ["dx", "dw"], ["m"]),
        helper.make_node("QuantizeLinear", ["m", "sy", "zu"], ["qy"]),
        helper.make_node("DequantizeLinear", ["qy", "sy", "zu"], ["y"]),
    ]
    x = np.ones((2, inner), np.float32)
    model = serialized(nodes, (inner, outer), tensors)
    return Case(model, x, np.full((2, outer), inner, np.float32), "int8", atol=0.6)
