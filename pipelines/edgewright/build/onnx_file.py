"""An ONNX file made elsewhere, read without believing anything it says.

What can be asked of the file alone is asked here; whether it is the model that the signature describes is for
`edgewright.build.imported`.

>>> model = parse(data, "models/detector/detector.onnx")
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import onnx

from edgewright.build.canonical import OPSET
from edgewright.errors import BuildError

OPSETS = range(11, 24)
"""What is read. Before 11, operators differ in ways the quantizer does not know; 23 is the newest whose operators
onnxruntime 1.31 runs on every CPU."""
_NARROW = {
    name
    for name in map(str, onnx.TensorProto.DataType.keys())
    if name.startswith(
        ("FLOAT16", "BFLOAT16", "FLOAT8", "FLOAT4", "INT4", "UINT4", "INT2", "UINT2", "FLOAT6")
    )
}
_QUANTIZED = {
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger",
    "MatMulNBits", "GatherBlockQuantized", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM",
}  # fmt: skip
_RANDOM = {
    "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli",
}  # fmt: skip
_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}


def parse(data: bytes, shown: str) -> onnx.ModelProto:
    """Return the model in `data` after checking what needs no signature.

    Args:
        data: The file.
        shown: How to name it in messages.

    Raises:
        BuildError: it is no ONNX model, keeps weights in other files, is quantized or half precision already, holds
            NaN or infinity, uses operators or versions that are not read here, or breaks ONNX's own rules.
    """
    from google.protobuf.message import DecodeError

    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise BuildError(f"{shown} is not an ONNX model (not a protobuf message)") from error
    if not model.graph.node or not model.opset_import:
        raise BuildError(f"{shown} is not an ONNX model (no operators, or no opset)")
    try:
        _check(model, shown)
    except (TypeError, ValueError, AttributeError) as error:  # names that are not UTF-8 come out as bytes
        raise BuildError(f"{shown} is damaged: {first_line(error)}") from error
    return model


def _check(model: onnx.ModelProto, shown: str) -> None:
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise BuildError(
                f"{shown} keeps {tensor.name or 'a tensor'!r} in another file",
                hint="save it as one file: onnx.save(onnx.load(PATH), PATH, save_as_external_data=False)",
            )
    _check_versions(model, shown)
    _check_operators(model, shown)
    _check_numbers(model, shown)
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # the checker and shape inference share no class of their own
        raise BuildError(f"{shown} breaks the rules of ONNX: {first_line(error)}") from error


def _check_versions(model: onnx.ModelProto, shown: str) -> None:
    if model.ir_version > onnx.IR_VERSION:
        raise BuildError(f"{shown} has IR version {model.ir_version}; up to {onnx.IR_VERSION} is read")
    if (opset := opset_of(model)) not in OPSETS:
        raise BuildError(
            f"{shown} has opset {opset}; {OPSETS[0]} to {OPSETS[-1]} are read",
            hint=f"export it again with opset {OPSET}",
        )


def _check_operators(model: onnx.ModelProto, shown: str) -> None:
    own = {(function.domain, function.name) for function in model.functions}
    for node in _nodes(model):
        if node.op_type in _QUANTIZED or node.op_type.startswith("QLinear"):
            raise BuildError(
                f"{shown} is quantized already ({node.op_type}, node {node.name!r})",
                hint="give the fp32 model: the pipeline quantizes for each class and measures what it costs",
            )
        if node.op_type in _RANDOM:
            raise BuildError(f"{shown} draws random numbers ({node.op_type}, node {node.name!r})")
        if node.domain not in _DOMAINS and (node.domain, node.op_type) not in own:
            raise BuildError(
                f"{shown} uses {node.domain}::{node.op_type} (node {node.name!r}), which onnxruntime does not have",
                hint="export it with operators of ONNX itself",
            )


def _check_numbers(model: onnx.ModelProto, shown: str) -> None:
    for tensor in _tensors(model):
        name = onnx.TensorProto.DataType.Name(tensor.data_type)
        if name in _NARROW or (name == "DOUBLE" and len(tensor.dims) > 1):
            raise BuildError(
                f"{shown} keeps {tensor.name!r} as {name.lower()}; only models with fp32 weights are taken",
                hint="give the fp32 model: the pipeline makes it smaller for each class and measures what it costs",
            )
        if name in ("FLOAT", "DOUBLE"):
            try:
                values = onnx.numpy_helper.to_array(tensor)
            except Exception as error:
                raise BuildError(f"{shown}: {tensor.name!r} cannot be read: {first_line(error)}") from error
            # A single infinity is how masks and clips are written; in a weight it is damage.
            if np.isnan(values).any() or (values.ndim and values.size > 1 and np.isinf(values).any()):
                raise BuildError(f"{shown} holds NaN or infinity in {tensor.name!r}")


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of ONNX's own operators that a model uses."""
    return int(
        max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    )


def weights_in(model: onnx.ModelProto) -> int:
    """Return the number of floating-point values that a model holds."""
    floats = (tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT)
    return sum(math.prod(tensor.dims) for tensor in floats)


def first_line(error: BaseException) -> str:
    """Return the first line an exception says, its name when it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


Body: TypeAlias = onnx.GraphProto | onnx.FunctionProto
"""What holds nodes."""


def _bodies(model: onnx.ModelProto) -> Iterator[Body]:
    """Yield everything that may compute: the graph, the file's own functions, and the branches and loops in both."""
    yield from _within(model.graph)
    for function in model.functions:
        yield from _within(function)


def _within(body: Body) -> Iterator[Body]:
    yield body
    for attribute in _attributes(body):
        for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield from _within(inner)


def _attributes(body: Body) -> Iterator[onnx.AttributeProto]:
    for node in body.node:
        yield from node.attribute
    if isinstance(body, onnx.FunctionProto):
        yield from body.attribute_proto  # defaults, for calls that do not say


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    for body in _bodies(model):
        yield from body.node


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for body in _bodies(model):
        sparse = []
        if isinstance(body, onnx.GraphProto):
            yield from body.initializer
            sparse += body.sparse_initializer
        for attribute in _attributes(body):
            yield from (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors)
            sparse += [*([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else [])]
            sparse += attribute.sparse_tensors
        for tensor in sparse:
            yield from (tensor.values, tensor.indices)
