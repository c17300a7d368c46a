"""Static int8: QDQ with ranges from calibration samples (onnxruntime.quantization.quantize_static).

Unsigned activations and signed weights per output channel (U8S8) are what x86 kernels are made for; the API's default,
S8S8, is slower than fp32 there. On Arm both are tried. Without VNNI, products of full-range U8S8 saturate: weights get
7 bits, or become unsigned.

>>> quantized = static_int8(cleaned, {"activations": "u8", "weights": "s8"}, ranges)
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from edgewright.build.canonical import canonical, to_bytes
from edgewright.build.passes.clean import clean, quiet
from edgewright.build.passes.facts import COMPUTE
from edgewright.build.samples import Samples
from edgewright.errors import BuildError

NOTHING = "found nothing to quantize in this model"


def static_int8(model: onnx.ModelProto, settings: Mapping[str, Any], ranges: bytes) -> onnx.ModelProto:
    """Return `model` quantized to QDQ, weights per output channel.

    Args:
        model: A cleaned fp32 model.
        settings: `activations` and `weights` (`u8` or `s8`), `symmetric` (every zero point is zero, biases stay fp32:
            what TensorRT takes), `reduceRange` (weights of 7 bits), `operators` (`all` that
            have int8 kernels, or `compute`: those of `COMPUTE`), `nodes` (only these) and `keep` (all but these).
        ranges: Of all activations, from `calibrate.activation_ranges`.

    Raises:
        BuildError: onnxruntime cannot quantize the model, or there is nothing in it to quantize.
    """
    from onnxruntime.quantization import QuantType, quantize_static

    types = {"u8": QuantType.QUInt8, "s8": QuantType.QInt8}
    compute = settings.get("operators", "all") == "compute" or "nodes" in settings
    with tempfile.TemporaryDirectory(prefix="edgewright-int8-") as scratch, quiet():
        source, cache, target = (Path(scratch) / name for name in ("fp32.onnx", "ranges.json", "int8.onnx"))
        source.write_bytes(to_bytes(model))
        cache.write_bytes(ranges)
        try:
            quantize_static(
                source,
                target,
                calibration_cache_path=cache,
                per_channel=True,
                reduce_range=bool(settings.get("reduceRange", False)),
                activation_type=types[settings.get("activations", "u8")],
                weight_type=types[settings.get("weights", "s8")],
                op_types_to_quantize=list(COMPUTE) if compute else None,
                nodes_to_quantize=list(settings.get("nodes", ())) or None,
                nodes_to_exclude=list(settings.get("keep", ())) or None,
                extra_options={"ActivationSymmetric": True, "QuantizeBias": False}
                if settings.get("symmetric")
                else None,
            )
        except Exception as error:  # onnxruntime.quantization raises whatever went wrong inside
            raise BuildError(f"static int8 fails on this model: {type(error).__name__}: {error}") from error
        result = canonical(onnx.load(target))
    if not any(node.op_type == "QuantizeLinear" for node in result.graph.node):
        raise BuildError(f"static int8 {NOTHING}")
    return result


def calibrated(model: onnx.ModelProto, samples: Samples, settings: Mapping[str, Any]) -> onnx.ModelProto:
    """Clean `model`, calibrate it on `samples` and quantize it.

    Raises:
        BuildError: as `static_int8`, or an activation is not finite.
    """
    from edgewright.build.calibrate import activation_ranges

    cleaned = clean(model)
    return static_int8(
        cleaned, settings, activation_ranges(cleaned, samples.inputs, settings.get("method", "minmax"))
    )


def settings_text(settings: Mapping[str, Any]) -> str:
    """Return settings as people write them.

    >>> settings_text({"activations": "u8", "weights": "s8", "reduceRange": True, "operators": "compute"})
    'U8S8 7-bit, compute only'
    """
    text = f"{settings.get('activations', 'u8')}{settings.get('weights', 's8')}".upper()
    if settings.get("symmetric"):
        text += " symmetric"
    if settings.get("reduceRange"):
        text += " 7-bit"
    if settings.get("method", "minmax") != "minmax":
        text += f" {settings['method']}"
    if settings.get("operators") == "compute":
        text += ", compute only"
    return text
