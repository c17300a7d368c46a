"""Dynamic int8: weights quantized now, activations at run time (onnxruntime.quantization.quantize_dynamic).

Only MatMul, Gemm and Gather: the API's default takes convolutions too, whose dynamic kernels are 4 to 21 times slower
than fp32.

>>> quantized = dynamic_int8(cleaned, {"reduceRange": False})
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from edgewright.build.canonical import canonical, to_bytes
from edgewright.build.passes.clean import quiet
from edgewright.build.passes.static_int8 import NOTHING
from edgewright.errors import BuildError

OPERATORS = ("MatMul", "Gemm", "Gather")
_INTEGER = {"MatMulInteger", "DynamicQuantizeLinear", "DequantizeLinear", "GatherBlockQuantized"}


def dynamic_int8(model: onnx.ModelProto, settings: Mapping[str, Any]) -> onnx.ModelProto:
    """Return `model` with 8-bit weights per output channel.

    Args:
        model: A cleaned fp32 model.
        settings: `reduceRange` (weights of 7 bits), `keep` (nodes that stay fp32), `operators` (of `OPERATORS`).

    Raises:
        BuildError: onnxruntime cannot quantize the model, or there is nothing in it to quantize.
    """
    result = quantized_weights(
        model,
        settings.get("operators", OPERATORS),
        reduce_range=bool(settings.get("reduceRange", False)),
        keep=settings.get("keep", ()),
    )
    if not _INTEGER & {node.op_type for node in result.graph.node}:
        raise BuildError(f"dynamic int8 {NOTHING}")
    return result


def quantized_weights(
    model: onnx.ModelProto, operators: Sequence[str], *, reduce_range: bool, keep: Sequence[str] = ()
) -> onnx.ModelProto:
    """Return `model` with the constant weights of `operators` in 8 bits.

    Raises:
        BuildError: onnxruntime cannot quantize the model.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory(prefix="edgewright-int8-") as scratch, quiet():
        source, target = Path(scratch) / "fp32.onnx", Path(scratch) / "int8.onnx"
        source.write_bytes(to_bytes(model))
        try:
            quantize_dynamic(
                source,
                target,
                per_channel=True,
                reduce_range=reduce_range,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=list(operators),
                nodes_to_exclude=list(keep),
                extra_options={"MatMulConstBOnly": True},
            )
        except Exception as error:  # onnxruntime.quantization raises whatever went wrong inside
            raise BuildError(f"dynamic int8 fails on this model: {type(error).__name__}: {error}") from error
        return canonical(onnx.load(target))
