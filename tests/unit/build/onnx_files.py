"""Small ONNX files as other tools write them, for tests of the import: two dense layers from `point` to `logits`.

>>> data = made(opset=13, batch=1).SerializeToString()
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


def tensor(name: str, array: np.ndarray) -> onnx.TensorProto:
    """An initializer."""
    return numpy_helper.from_array(array, name)


def weights(dtype: type = np.float32) -> list[onnx.TensorProto]:
    """Two matrices and two biases, drawn with a fixed seed."""
    dice = np.random.default_rng(7)
    shapes = {"w1": (4, 8), "b1": (8,), "w2": (8, 3), "b2": (3,)}
    return [tensor(name, dice.standard_normal(shape).astype(dtype)) for name, shape in shapes.items()]


def dense() -> list[onnx.NodeProto]:
    """The nodes."""
    return [
        helper.make_node("MatMul", ["point", "w1"], ["m1"], name="first"),
        helper.make_node("Add", ["m1", "b1"], ["a1"]),
        helper.make_node("Relu", ["a1"], ["r1"]),
        helper.make_node("MatMul", ["r1", "w2"], ["m2"], name="second"),
        helper.make_node("Add", ["m2", "b2"], ["logits"]),
    ]


def made(
    *,
    opset: int = 20,
    batch: int | str | None = "N",
    nodes: Sequence[onnx.NodeProto] | None = None,
    initializers: Sequence[onnx.TensorProto] | None = None,
    point: Sequence[int | str | None] = (4,),
    logits: Sequence[int | str | None] = (3,),
    dtype: int = FLOAT,
    ir_version: int = 8,
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    """A model with everything that may be wrong about it as a parameter."""
    graph = helper.make_graph(
        list(nodes if nodes is not None else dense()),
        "made elsewhere",
        [helper.make_tensor_value_info("point", dtype, [batch, *point])],
        [helper.make_tensor_value_info("logits", dtype, [batch, *logits])],
        list(initializers if initializers is not None else weights()),
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    model = helper.make_model(graph, opset_imports=imports, producer_name="some tool", ir_version=ir_version)
    model.doc_string = "/home/somebody/detector.py"
    return model
