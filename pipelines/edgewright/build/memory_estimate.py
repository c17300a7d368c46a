"""How much memory a model takes on a device, from its graph alone: the same figure on every machine.

A measured peak differs between machines by pages, so it cannot stand in a file whose digest must not differ. This is
what can: the session itself, the weights as they are loaded, and the most that live activations take at batch 1.

>>> estimate(model_bytes).total_bytes                     # doctest: +SKIP
11534336

The terms were found with `bench.memory.peak_memory` (ONNX Runtime 1.31.1, x86-64, one thread, level `extended`):

* A session of two nodes takes 8.9 to 9.3 MiB over the imported engine, mostly its own code; every node adds
  about 24 KiB, those of Q/DQ nothing, for they go into their neighbours.
* Matrix weights are packed into another order. Then the original goes; so loading them from inside the file peaks at
  all of them and two of the largest, as 16 of 1 MiB (18 MiB) and 4 of 16 MiB (96 MiB) did. With the arena, which grows
  in powers of two, it is one more: 22 and 112 MiB. From a file of their own, mapped, it is all and one: 17 and 80.
* Convolution weights are used as they are: 15.8 MiB took 17.3 MiB from inside the file and 17.7 MiB mapped.
* Activations: the arena's powers of two double what lives at the same time.

`tests/benchmarks/test_memory_estimate.py` prints the ratio to the measured peak for the models of this repository.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx

MIB = 2**20
SESSION_BYTES = 9 * MIB
NODE_BYTES = 24 * 1024
PACKED = {
    "MatMul",
    "Gemm",
    "MatMulNBits",
    "MatMulInteger",
    "QGemm",
    "QLinearMatMul",
    "GRU",
    "LSTM",
    "Attention",
}
"""Operators that keep a packed copy of their weights."""


@dataclass(frozen=True)
class Estimate:
    """What a model takes.

    Attributes:
        weights_bytes: Initializers, as they are stored.
        loading_bytes: What loading them takes beyond that, at the worst moment.
        activations_bytes: Most that lives at the same time, at batch 1.
        nodes: Of the graph, without Q/DQ.
        unknown: Tensors whose size shape inference does not tell; they count nothing.
        arena: Whether the CPU arena is on.
    """

    weights_bytes: int
    loading_bytes: int
    activations_bytes: int
    nodes: int
    unknown: int
    arena: bool

    @property
    def total_bytes(self) -> int:
        """Peak over the bare engine, in whole mebibytes."""
        activations = self.activations_bytes * (2 if self.arena else 1)
        # What loading needed for a moment is free again for activations.
        session = SESSION_BYTES + NODE_BYTES * self.nodes
        total = session + self.weights_bytes + max(self.loading_bytes, activations)
        return -(-total // MIB) * MIB

    @property
    def basis(self) -> str:
        """How the figure was got, in words."""
        text = "estimated from the graph: session, weights as loaded, live activations at batch 1"
        return text + (f"; {self.unknown} tensors of unknown size" if self.unknown else "")


def estimate(model: bytes, *, external: bool = False, arena: bool = True) -> Estimate:
    """Return what a model takes when it is opened and infers one sample.

    Args:
        model: The serialized model, weights inside.
        external: Whether a device finds the weights in a file of their own, which is mapped and not read.
        arena: Whether the CPU arena is on.
    """
    proto = at_batch_1(onnx.load_model_from_string(model))
    graph = proto.graph
    sizes = {tensor.name: tensor_bytes(tensor.data_type, tensor.dims) for tensor in graph.initializer}
    packed = {name for node in graph.node if node.op_type in PACKED for name in node.input} | _dequantized(
        graph
    )
    largest = max((size for name, size in sizes.items() if name in packed), default=0)
    nodes = sum(node.op_type not in ("QuantizeLinear", "DequantizeLinear") for node in graph.node)
    copies = (1 if external else 2) + (1 if arena and not external else 0)
    activations, unknown = live_bytes(graph, known_bytes(proto))
    return Estimate(sum(sizes.values()), copies * largest, activations, nodes, unknown, arena)


def at_batch_1(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model` with 1 for every free dimension of its inputs, and the shapes that follow from it."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for value in result.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if not dim.HasField("dim_value"):
                dim.dim_value = 1
    for stale in (result.graph.output, result.graph.value_info):  # they speak of the free dimension
        for value in stale:
            value.type.tensor_type.ClearField("shape")
    return onnx.shape_inference.infer_shapes(result)


def known_bytes(model: onnx.ModelProto) -> dict[str, int]:
    """Return tensor name → bytes, for the tensors whose shape is known to the last dimension."""
    graph, sizes = model.graph, {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        dims = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.shape.dim]
        if kind.HasField("shape") and min(dims, default=0) >= 0:
            sizes[value.name] = tensor_bytes(kind.elem_type, dims)
    for node in graph.node:
        # The engine computes between Q and DQ in whole numbers: the fp32 tensor of the file never exists.
        if node.op_type == "DequantizeLinear" and node.input[0] in sizes:
            sizes[node.output[0]] = 0
    return sizes


def live_bytes(graph: onnx.GraphProto, sizes: Mapping[str, int]) -> tuple[int, int]:
    """Return the most bytes of activations that live at the same time, in node order, and how many are of unknown size.

    Args:
        graph: Nodes in the order in which they run.
        sizes: From `known_bytes`.
    """
    weights = {tensor.name for tensor in graph.initializer}
    last = {name: turn for turn, node in enumerate(graph.node) for name in node.input}
    last |= {value.name: len(graph.node) for value in graph.output}
    live = {value.name for value in graph.input} - weights
    made: set[str] = set(live)
    most = _sum(live, sizes)
    for turn, node in enumerate(graph.node):
        fresh = {name for name in node.output if name}
        live, made = live | fresh, made | fresh
        most = max(most, _sum(live, sizes))
        live = {name for name in live if last.get(name, -1) > turn}
    return most, len(made - set(sizes))


def tensor_bytes(data_type: int, dims: Iterable[int]) -> int:
    """Return the size of a tensor of an ONNX element type; 4-bit numbers lie two to a byte."""
    count = math.prod(dims)
    if data_type in (onnx.TensorProto.INT4, onnx.TensorProto.UINT4):
        return -(-count // 2)
    return count * int(onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize)


def _dequantized(graph: onnx.GraphProto) -> set[str]:
    """Return the weights that reach a packing operator through DequantizeLinear, as Q/DQ models have them."""
    fed = {name for node in graph.node if node.op_type in PACKED for name in node.input}
    return {
        node.input[0] for node in graph.node if node.op_type == "DequantizeLinear" and fed & set(node.output)
    }


def _sum(names: Iterable[str], sizes: Mapping[str, int]) -> int:
    return sum(sizes.get(name, 0) for name in names)
