"""Exported: the trained network as an fp32 ONNX model with a dynamic batch, proven equal to torch.

torch's dynamo exporter only: the legacy one bakes data-dependent branches in silently, so there is no falling
back.

A model whose checkpoint is an ONNX file is not exported but imported: see `edgewright.build.imported`.

Inputs: `checkpoint/weights.safetensors` or `checkpoint/model.onnx`. Output: `model.onnx`, the same bytes on every run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from edgewright.build.canonical import OPSET, canonical, to_bytes
from edgewright.build.checkpoint import restore
from edgewright.build.entry import ModelCode
from edgewright.build.fault import first_not_finite, frozen_batch, refusal, silent
from edgewright.build.samples import Network
from edgewright.build.torch_mode import repeatable
from edgewright.errors import BuildError
from edgewright.plan.job import Job, Result

TOLERANCE = 1e-4  # absolute, and relative for outputs beyond ±1; measured differences are about 1e-6
BATCHES = (1, 2, 5)  # 1 because exporters like to treat it as a constant, 5 because none was exported with it


def run(job: Job) -> Result:
    """Write `model.onnx`.

    Raises:
        BuildError: the network cannot be exported, its outputs contradict the signature, or the ONNX model
            computes something else than torch does; or an ONNX checkpoint contradicts the signature.
    """
    if job.spec.get("network") is None:
        return _import(job)
    code = ModelCode(job.root / "models" / job.model)
    network = restore(code, job.spec["network"], job.inputs["checkpoint/weights.safetensors"].read_bytes())
    job.progress(f"exporting {job.model}")
    with repeatable(seed=0):
        model = export(network, job.spec["signature"], code.folder)
        difference = check_parity(network, model, job.spec["signature"], code.folder)
    data = to_bytes(model)
    (job.out / "model.onnx").write_bytes(data)
    return Result(
        {
            "size_bytes": len(data),
            "opset": OPSET,
            "nodes": len(model.graph.node),
            "largest_difference_to_torch": float(f"{difference:.2g}"),
        }
    )


def _import(job: Job) -> Result:
    from edgewright.build.imported import conform
    from edgewright.build.onnx_file import parse

    shown = f"{job.model}'s ONNX checkpoint"
    job.progress(f"importing {shown}")
    given = parse(job.inputs["checkpoint/model.onnx"].read_bytes(), shown)
    model, facts = conform(given, job.spec["signature"], shown)
    data = to_bytes(model)
    (job.out / "model.onnx").write_bytes(data)
    return Result({"size_bytes": len(data), "nodes": len(model.graph.node), **facts})


def export(
    network: torch.nn.Module, signature: Mapping[str, Any], folder: Path | None = None
) -> onnx.ModelProto:
    """Return `network` as a canonical ONNX model with the names, types and shapes of `signature`.

    Args:
        network: In evaluation mode.
        signature: As in `model.yaml`.
        folder: The model's folder; with it, messages name the author's own lines.

    Raises:
        BuildError: the exporter refuses (the operator and the line are named), or gives other types or shapes than
            the signature says.
    """
    inputs, outputs = signature["inputs"], signature["outputs"]
    # One Dim object for all inputs: they are batched together.
    batch = torch.export.Dim("batch")
    dynamic = tuple({0: batch} if tensor["shape"][0] == "batch" else None for tensor in inputs)
    try:
        with silent():
            program = torch.onnx.export(
                network,
                example(signature, batch=2, seed=0),
                None,
                dynamo=True,
                opset_version=OPSET,
                input_names=[tensor["name"] for tensor in inputs],
                output_names=[tensor["name"] for tensor in outputs],
                dynamic_shapes=dynamic if any(dynamic) else None,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # the exporter's own classes, and whatever user code raises under tracing
        raise refusal(error, network, signature, folder) from error
    if program is None:
        raise BuildError("torch exported nothing")
    model = program.model_proto
    if any(dynamic) and not all(_is_batched(value) for value in model.graph.output):
        examples = [example(signature, batch=batch, seed=0) for batch in (2, 3)]
        if place := frozen_batch(network, examples, folder):
            raise BuildError(
                f"{place}: this line works for one number of samples only, so the batch cannot be dynamic",
                hint="take sizes from the tensor: x.flatten(1), x.shape[0]; never write the batch as a number",
            )
    _check_values("output", model.graph.output, outputs)
    _check_values("input", model.graph.input, inputs)
    result = canonical(model)
    onnx.checker.check_model(result, full_check=True)
    return result


def example(signature: Mapping[str, Any], *, batch: int, seed: int) -> tuple[torch.Tensor, ...]:
    """Return one random tensor per input: standard normal, or 0 and 1 for whole numbers."""
    dice = torch.Generator().manual_seed(seed)
    tensors = []
    for tensor in signature["inputs"]:
        shape = [batch if size == "batch" else size for size in tensor["shape"]]
        if tensor["dtype"] == "float32":
            tensors.append(torch.randn(shape, generator=dice))
        else:
            tensors.append(torch.randint(0, 2, shape, generator=dice, dtype=getattr(torch, tensor["dtype"])))
    return tuple(tensors)


def check_parity(
    network: torch.nn.Module, model: onnx.ModelProto, signature: Mapping[str, Any], folder: Path | None = None
) -> float:
    """Return the largest difference between torch and onnxruntime on random inputs of several batch sizes.

    Raises:
        BuildError: an output is not finite in torch (the operator and the line are named), differs by more than
            `TOLERANCE`, or has another shape.
    """
    session = Network(to_bytes(model))
    names = [tensor["name"] for tensor in signature["inputs"]]
    largest = 0.0
    for batch in BATCHES if signature["inputs"][0]["shape"][0] == "batch" else (1,):
        tensors = example(signature, batch=batch, seed=batch)
        with torch.no_grad():
            given = network(*tensors)
        expected = given if isinstance(given, tuple) else (given,)
        for name, tensor in zip(session.outputs, expected, strict=True):
            if not torch.isfinite(tensor).all():
                raise _not_finite(name, tensor, first_not_finite(network, tensors, folder))
        feed = {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)}
        found = session.run(feed, batch=max(len(array) for array in feed.values()))
        for name, wanted in zip(session.outputs, (tensor.numpy() for tensor in expected), strict=True):
            if found[name].shape != wanted.shape:
                raise BuildError(
                    f"{name} is {list(found[name].shape)} in ONNX and {list(wanted.shape)} in torch"
                    f" at batch {batch}"
                )
            difference = np.abs(found[name].astype(np.float64) - wanted) / np.maximum(1.0, np.abs(wanted))
            worst = float(difference.max(initial=0.0))
            if not worst <= TOLERANCE:  # also true for NaN
                raise BuildError(
                    f"the exported model is not the network: {name} differs by {worst:.2g} at batch {batch};"
                    f" {TOLERANCE:g} is tolerated",
                    hint="branches on data and Python-side state do not survive an export",
                )
            largest = max(largest, worst)
    return largest


def _check_values(kind: str, values: Any, wanted: Any) -> None:
    found = {value.name: _described(value) for value in values}
    for tensor in wanted:
        expected = tensor["dtype"] + str(list(tensor["shape"])).replace("'", "")
        if found.get(tensor["name"]) != expected:
            raise BuildError(
                f"{kind} {tensor['name']!r} is {found.get(tensor['name'], 'absent')};"
                f" the signature says {expected}"
            )
    if len(found) != len(wanted):
        raise BuildError(f"the network has {kind}s {sorted(found)}; the signature names {len(wanted)}")


def _described(value: onnx.ValueInfoProto) -> str:
    tensor = value.type.tensor_type
    shape = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
    return str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)) + str(shape).replace("'", "")


def _is_batched(value: onnx.ValueInfoProto) -> bool:
    dims = value.type.tensor_type.shape.dim
    return bool(dims) and bool(dims[0].dim_param)


def _not_finite(name: str, tensor: torch.Tensor, culprit: str | None) -> BuildError:
    rows = ~torch.isfinite(tensor).flatten(1).all(dim=1) if tensor.ndim > 1 else ~torch.isfinite(tensor)
    return BuildError(
        f"the network gives NaN or infinity in output {name!r} for {int(rows.sum())} of {len(rows)} random inputs"
        + (f"; first in {culprit}" if culprit else ""),
        hint="log and division need a floor: torch.log(x.clamp_min(1e-6))",
    )
