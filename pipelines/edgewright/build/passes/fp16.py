"""fp16: half-precision weights and arithmetic, inputs and outputs as they were (onnxruntime.transformers.float16).

For classes that have such arithmetic. A plain CPU runs it slower than fp32 and gains the size alone.

>>> half = fp16(cleaned)
"""

from __future__ import annotations

import warnings

import onnx

from edgewright.build.canonical import canonical
from edgewright.build.passes.clean import quiet
from edgewright.errors import BuildError


def fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model` in half precision.

    Raises:
        BuildError: it cannot be converted.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    source = onnx.ModelProto()
    source.CopyFrom(model)
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tiny weights become zero; the accuracy tells whether that matters
        try:
            return canonical(convert_float_to_float16(source, keep_io_types=True))
        except Exception as error:  # whatever went wrong inside
            raise BuildError(f"fp16 fails on this model: {type(error).__name__}: {error}") from error
