"""Optimized: the model in the precision its hardware class runs best, and how to run it there.

The one recipe so far is `static-int8`: QDQ with unsigned activations, signed weights per output channel,
ranges by minimum and maximum over the calibration samples. Where the class has no int8, or the model asks for
no recipe, the fp32 model passes unchanged. Whether the result is good enough is for the gate to say, not for
this stage.

Inputs: `exported/model.onnx`. Outputs: `model.onnx`, `runtime.json`.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx

from edgewright.build.calibrate import activation_ranges
from edgewright.build.canonical import canonical, to_bytes
from edgewright.build.entry import ModelCode
from edgewright.build.manifest import runtime_manifest
from edgewright.build.samples import Samples, load
from edgewright.errors import BuildError
from edgewright.plan.job import Job, Result
from edgewright_agent.contract import FILE_MODEL, FILE_RUNTIME, canonical_json


def run(job: Job) -> Result:
    """Write `model.onnx` and `runtime.json`.

    Raises:
        BuildError: the calibration data contradict the signature, or the model cannot be quantized.
    """
    spec = job.spec
    exported = job.inputs["exported/model.onnx"].read_bytes()
    precision, why = choose(spec["recipes"], spec["precisions"])
    facts: dict[str, Any] = {"precision": precision, "why": why, "size_before_bytes": len(exported)}
    if precision == "int8":
        narrow = needs_reduced_range(spec["arch"], spec["isa"])
        if narrow:
            facts["weights"] = (
                "7 bit: without VNNI, sums of two 8-bit products saturate in 16 bit (AVX2, SSE)"
            )
        code = ModelCode(job.root / "models" / job.model)
        samples = load(code, spec["data"]["calibration"], spec["signature"])
        job.progress(f"calibrating on {len(samples)} samples")
        optimized = to_bytes(static_int8(onnx.load_model_from_string(exported), samples, reduce_range=narrow))
        facts["calibration_samples"] = len(samples)
    else:
        optimized = exported
    (job.out / FILE_MODEL).write_bytes(optimized)
    (job.out / FILE_RUNTIME).write_bytes(
        canonical_json(runtime_manifest(spec["runtime"], spec["signature"], precision))
    )
    return Result(
        {**facts, "size_bytes": len(optimized), "size_ratio": round(len(optimized) / len(exported), 3)}
    )


def choose(recipes: list[str], precisions: list[str]) -> tuple[str, str]:
    """Return the precision to build and the reason for it.

    >>> choose(["static-int8"], ["fp32"])
    ('fp32', 'the hardware class lists no int8')
    """
    if "static-int8" not in recipes:
        return "fp32", "the model names no recipe"
    if "int8" not in precisions:
        return "fp32", "the hardware class lists no int8"
    return "int8", "static-int8: the hardware class supports int8"


def needs_reduced_range(arch: str, isa: list[str]) -> bool:
    """Whether 8-bit weights would saturate: x86 without VNNI adds products in 16 bits."""
    return arch == "amd64" and not any(extension.endswith("vnni") for extension in isa)


def static_int8(model: onnx.ModelProto, samples: Samples, *, reduce_range: bool) -> onnx.ModelProto:
    """Return `model` quantized to QDQ U8S8 per channel.

    Args:
        model: The fp32 model.
        samples: Calibration samples.
        reduce_range: Quantize weights to 7 bit.

    Raises:
        BuildError: onnxruntime cannot quantize the model, or there is nothing in it to quantize.
    """
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(prefix="edgewright-int8-") as scratch, _quiet():
        source, prepared, ranges, target = (
            Path(scratch) / name for name in ("fp32.onnx", "prepared.onnx", "ranges.json", "int8.onnx")
        )
        source.write_bytes(to_bytes(model))
        try:
            # Symbolic shape inference adds nothing here and fails on models it does not know.
            quant_pre_process(source, prepared, skip_symbolic_shape=True)
            activation_ranges(prepared, samples.inputs, ranges)
            quantize_static(
                prepared,
                target,
                calibration_cache_path=ranges,
                per_channel=True,
                reduce_range=reduce_range,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        except BuildError:
            raise
        except Exception as error:  # onnxruntime.quantization raises whatever went wrong inside
            raise BuildError(
                f"static-int8 fails on this model: {type(error).__name__}: {error}",
                hint="leave `static-int8` out of the model's recipes to ship fp32",
            ) from error
        result = canonical(onnx.load(target))
    if not any(node.op_type == "QuantizeLinear" for node in result.graph.node):
        raise BuildError("static-int8 found nothing to quantize in this model")
    return result


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantizer's advice, which it gives to the root logger, off the terminal."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)
