"""What decides which recipes are worth trying: facts of a hardware class, and facts of a model's graph.

>>> facts = ClassFacts(arch="amd64", isa=("avx2",), precisions=("int8", "fp32"), providers=("CPUExecutionProvider",))
>>> facts.saturates
True
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

COMPUTE = ("Conv", "ConvTranspose", "MatMul", "Gemm")
"""Operators whose work grows with products of weights and activations."""
PATCHES = 10
"""Patch releases of one minor version that are reckoned with; ONNX Runtime has had three at most (1.16.0 to 1.16.3)."""


@dataclass(frozen=True)
class ClassFacts:
    """What a hardware class's sheet says about arithmetic.

    Attributes:
        arch: `amd64`, `arm64`, …
        isa: Extensions, as in `cpu.isa`.
        precisions: What the class runs well.
        providers: Execution providers in order.
        versions: PEP 440 range of ONNX Runtime on its devices.
    """

    arch: str
    isa: tuple[str, ...]
    precisions: tuple[str, ...]
    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    versions: str = ">=1.20"

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> ClassFacts:
        """Read them from the slice of the stage `searched`."""
        cpu, runtime = spec["hardware"]["cpu"], spec["hardware"]["runtime"]
        return cls(
            cpu["arch"],
            tuple(cpu["isa"]),
            tuple(spec["precisions"]),
            tuple(runtime["providers"]),
            runtime["versions"],
        )

    @property
    def saturates(self) -> bool:
        """Whether sums of two full-range U8S8 products overflow 16 bits, so that weights must be narrower."""
        return saturates(self.arch, self.isa)

    @property
    def tensorrt(self) -> bool:
        """Whether TensorRT comes first, which takes QDQ with zero points of zero and no integer operators."""
        return self.providers[:1] in (("TensorrtExecutionProvider",), ("NvTensorRTRTXExecutionProvider",))

    @property
    def arm(self) -> bool:
        """Whether kernels are those of Arm, which take signed activations as readily as unsigned ones."""
        return self.arch in ("arm64", "armv7")

    @property
    def int8_gain(self) -> float:
        """Roughly what an int8 product costs against an fp32 one; ranks candidates before any is measured.

        From instruction counts of ONNX Runtime 1.31 on the emulated targets: dot-product instructions do four products
        a lane; SSE4.2, AVX2 and plain NEON need widening.
        """
        if any(extension.endswith("vnni") or extension in ("asimddp", "amx") for extension in self.isa):
            return 0.35
        return 0.6 if self.arch == "amd64" else 0.9

    def runs_engine_before(self, version: tuple[int, int]) -> bool:
        """Whether its devices may have an ONNX Runtime older than `version`."""
        from packaging.specifiers import SpecifierSet

        allowed = SpecifierSet(self.versions)
        # Patch releases too: ">=1.21.1" or "==1.21.1" allow an engine of 1.21 and not 1.21.0.
        return any(
            f"{version[0]}.{minor}.{patch}" in allowed
            for minor in range(version[1])
            for patch in range(PATCHES)
        )


def saturates(arch: str, isa: Sequence[str]) -> bool:
    """Whether 8-bit weights would saturate: x86 without VNNI adds products in 16 bits (`pmaddubsw`)."""
    return arch == "amd64" and not any(extension.endswith("vnni") for extension in isa)


@dataclass(frozen=True)
class GraphFacts:
    """What a graph is made of.

    Attributes:
        operators: Operator → how many nodes.
        compute: Names of nodes of `COMPUTE` with constant weights, in the order of the graph.
        weighted: Operator → bytes of its constant weights.
        macs: Operator → multiply-adds of one sample; nodes whose shapes are unknown count nothing.
        elements: Elements of all activations of one sample, for what conversions cost.
    """

    operators: Mapping[str, int]
    compute: tuple[str, ...]
    weighted: Mapping[str, int]
    macs: Mapping[str, int]
    elements: int

    @property
    def total_macs(self) -> int:
        """Multiply-adds of one sample."""
        return sum(self.macs.values())


def graph_facts(model: onnx.ModelProto) -> GraphFacts:
    """Return the facts of a model, its batch taken as one sample."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    shapes = {value.name: _shape(value) for value in (*inferred.graph.value_info, *inferred.graph.output)}
    shapes |= {value.name: _shape(value) for value in inferred.graph.input}
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    weighted: Counter[str] = Counter()
    macs: Counter[str] = Counter()
    compute = []
    for node in model.graph.node:
        constant = [weights[name] for name in node.input if name in weights]
        for tensor in constant:
            weighted[node.op_type] += math.prod(tensor.dims) * _width(tensor)
        if node.op_type in COMPUTE:
            if constant:
                compute.append(node.name)
            macs[node.op_type] += _macs(node, shapes, weights)
    elements = sum(math.prod(shape) for name, shape in shapes.items() if shape and name not in weights)
    operators = Counter(node.op_type for node in model.graph.node)
    return GraphFacts(dict(operators), tuple(compute), dict(weighted), dict(macs), elements)


def _macs(node: onnx.NodeProto, shapes: Mapping[str, Any], weights: Mapping[str, onnx.TensorProto]) -> int:
    """Return multiply-adds of one node: elements of the output times the length of each sum."""
    output = shapes.get(node.output[0])
    if output is None:
        return 0
    weight = weights.get(node.input[1])
    if node.op_type == "Conv" and weight is not None:
        return int(math.prod(output) * math.prod(weight.dims[1:]))
    if node.op_type == "ConvTranspose" and weight is not None:
        taken = shapes.get(node.input[0])
        return int(math.prod(taken) * math.prod(weight.dims[1:])) if taken else 0
    left = shapes.get(node.input[0])
    return int(math.prod(output) * left[-1]) if left else 0


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    """Return the dimensions of one sample; None when one is unknown that is not the batch."""
    dims = value.type.tensor_type.shape.dim
    sizes = [
        dim.dim_value if dim.HasField("dim_value") else 1 if index == 0 else None
        for index, dim in enumerate(dims)
    ]
    return None if None in sizes else tuple(size for size in sizes if size is not None)


def _width(tensor: onnx.TensorProto) -> int:
    element: Any = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return int(element.itemsize)
