"""Weight-only int8 and int4: MatMulNBits, an operator of ONNX Runtime that keeps weights in blocks of few bits.

Gemm is not taken by it, so Gemms become MatMul and Add first; embeddings (Gather) get 8-bit rows. Accuracy level 4 lets
kernels multiply in int8.

>>> quantized = weight_only(cleaned, {"bits": 8, "blockSize": 32})
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx

from edgewright.build.canonical import canonical
from edgewright.build.passes.clean import named, quiet
from edgewright.build.passes.dynamic_int8 import quantized_weights
from edgewright.build.passes.static_int8 import NOTHING
from edgewright.errors import BuildError

COMPUTE_INT8 = (
    4  # accuracy_level of MatMulNBits: activations may be rounded to int8 (ONNX Runtime, contrib operators)
)
EIGHT_BITS_SINCE = (1, 22)  # first ONNX Runtime whose CPU kernels take `bits: 8`


def weight_only(model: onnx.ModelProto, settings: Mapping[str, Any]) -> onnx.ModelProto:
    """Return `model` with its MatMul weights in `bits` bits per block of `blockSize`, embeddings in 8.

    Args:
        model: A cleaned fp32 model.
        settings: `bits` (8 or 4), `blockSize`, `embeddings` (whether Gather weights get 8 bits; true by default).

    Raises:
        BuildError: onnxruntime cannot quantize the model, or there is nothing in it to quantize.
    """
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
    from onnxruntime.quantization.onnx_model import ONNXModel

    source = onnx.ModelProto()
    source.CopyFrom(model)
    with quiet():
        if settings.get("embeddings", True) and any(node.op_type == "Gather" for node in source.graph.node):
            source = quantized_weights(source, ("Gather",), reduce_range=False)
        try:
            rewritten = ONNXModel(source)
            rewritten.replace_gemm_with_matmul()
            quantizer = MatMulNBitsQuantizer(
                named(rewritten.model),
                bits=int(settings["bits"]),
                block_size=int(settings.get("blockSize", 32)),
                is_symmetric=True,
                accuracy_level=COMPUTE_INT8,
            )
            quantizer.process()
        except Exception as error:  # onnxruntime.quantization raises whatever went wrong inside
            raise BuildError(f"weight-only fails on this model: {type(error).__name__}: {error}") from error
        result = canonical(quantizer.model.model)
    if not any(node.op_type == "MatMulNBits" for node in result.graph.node):
        raise BuildError(f"weight-only {NOTHING}")
    return result
