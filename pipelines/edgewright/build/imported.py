"""Imported: an ONNX file made elsewhere, checked and brought into the form that the pipeline's own exports have.

`onnx_file.parse` asks what can be asked of the file alone; `conform` brings the model in line with the signature and
shows by running both that it still computes the same.

>>> model, facts = conform(parse(data, "models/detector/detector.onnx"), signature, "models/detector/detector.onnx")
>>> facts["changes"]
['the batch, fixed at 1, is dynamic: checked with 2 and 5 samples', 'opset 13 converted to 20']
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx

from edgewright.build.canonical import OPSET, canonical, to_bytes
from edgewright.build.onnx_file import first_line, opset_of
from edgewright.build.samples import Network
from edgewright.errors import BuildError

NEWEST_KEPT = 21
"""Newest opset that is kept where a conversion is not possible: what onnxruntime 1.20 reads, which a sheet may name."""
IR_VERSION = 10  # what torch writes; readable from onnxruntime 1.18 on
TOLERANCE = 1e-4
BATCHES = (2, 5)


def conform(
    model: onnx.ModelProto, signature: Mapping[str, Any], shown: str
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Return a canonical model with the names, types, shapes and dynamic batch of `signature`, and facts about it.

    Opset 20 is what recipes are made for; a model of another opset is converted when the converter's result computes
    the same, and kept otherwise.

    Raises:
        BuildError: names, types or shapes contradict the signature, the batch is fixed and cannot be made dynamic, the
            model does not run, or gives NaN or infinity.
    """
    changes: list[str] = []
    original = onnx.ModelProto()
    original.CopyFrom(model)
    model = _inlined(model)
    _drop_weights_among_inputs(model.graph)
    fixed = _check_signature(model.graph, signature, shown)
    if fixed:
        model = _with_dynamic_batch(model, signature, shown)
        changes.append(
            f"the batch, fixed at 1, is dynamic: checked with {BATCHES[0]} and {BATCHES[1]} samples"
        )
    elif not _is_declared(model.graph, signature):
        _declare(model, signature)
    model, converted = _converted(model, signature, shown)
    changes += converted
    model.ir_version = IR_VERSION
    del model.metadata_props[:], model.training_info[:]
    _pack(model.graph)
    result = canonical(model)
    try:
        onnx.checker.check_model(result, full_check=True)
    except Exception as error:  # an open dimension of the file that its operators contradict
        raise BuildError(f"{shown} contradicts the signature: {first_line(error)}") from error
    difference = _check_run(result, original, signature, shown, one_by_one=fixed)
    return result, {"changes": changes, "opset": opset_of(result), "largest_difference_to_file": difference}


def example(signature: Mapping[str, Any], *, batch: int, seed: int) -> dict[str, np.ndarray]:
    """Return one random array per input: standard normal, or 0 and 1 for whole numbers."""
    dice = np.random.default_rng(seed)
    feed = {}
    for tensor in signature["inputs"]:
        shape = [batch if size == "batch" else size for size in tensor["shape"]]
        drawn = dice.standard_normal(shape) if tensor["dtype"] == "float32" else dice.integers(0, 2, shape)
        feed[tensor["name"]] = drawn.astype(tensor["dtype"])
    return feed


def _check_signature(graph: onnx.GraphProto, signature: Mapping[str, Any], shown: str) -> bool:
    """Return whether the batch is fixed at 1, after comparing names, types and shapes with the signature.

    Raises:
        BuildError: they differ.
    """
    fixed = set()
    for kind, values in (("input", graph.input), ("output", graph.output)):
        wanted = {tensor["name"]: tensor for tensor in signature[f"{kind}s"]}
        found = {value.name: value for value in values}
        if sorted(found) != sorted(wanted):
            raise BuildError(f"{shown} has {kind}s {sorted(found)}; the signature names {sorted(wanted)}")
        for name, value in found.items():
            if not value.type.HasField("tensor_type"):
                raise BuildError(
                    f"{shown}: {kind} {name!r} is not a tensor",
                    hint="export a classifier of scikit-learn with zipmap=False",
                )
            fixed.add(_check_value(kind, value, wanted[name], shown))
    fixed.discard(None)
    if len(fixed) > 1 or fixed - {1, "batch"}:
        raise BuildError(
            f"{shown} has first dimensions {sorted(map(str, fixed))}; one dynamic batch, or 1 throughout, is taken",
            hint=_EXPORT_DYNAMIC,
        )
    return fixed == {1}


def _check_value(
    kind: str, value: onnx.ValueInfoProto, tensor: Mapping[str, Any], shown: str
) -> int | str | None:
    """Return the first dimension: a number, `batch` for a name, None where an output does not say."""
    found = value.type.tensor_type
    dims = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?" for dim in found.shape.dim]
    dtype = str(onnx.helper.tensor_dtype_to_np_dtype(found.elem_type)) if found.elem_type else "undefined"
    wanted = list(tensor["shape"])
    fits = dtype == tensor["dtype"] and (
        (kind == "output" and not found.HasField("shape"))
        or len(dims) == len(wanted)
        and all(isinstance(dim, str) or dim == size for dim, size in zip(dims[1:], wanted[1:], strict=True))
    )
    if not fits:
        raise BuildError(
            f"{shown}: {kind} {value.name!r} is {dtype}{_plain(dims)};"
            f" the signature says {tensor['dtype']}{_plain(wanted)}"
        )
    if not dims:
        return None
    if isinstance(dims[0], int):
        return dims[0]
    return "batch" if dims[0] != "?" or kind == "input" else None


_EXPORT_DYNAMIC = (
    "export it again with a dynamic first dimension (torch: dynamic_shapes, TensorFlow: batch size None)"
)


def _with_dynamic_batch(model: onnx.ModelProto, signature: Mapping[str, Any], shown: str) -> onnx.ModelProto:
    """Return the model with a dynamic batch where shape inference carries it from the inputs to every output.

    Reshapes to a constant shape that begins with 1 are the one thing rewritten: 0 there means the size it comes in
    with. That the result computes the same is for `_check_run` to show.

    Raises:
        BuildError: the batch does not reach an output.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    _free_reshapes(result.graph)
    for value in result.graph.input:
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    for value in result.graph.output:
        value.type.tensor_type.ClearField("shape")
    del result.graph.value_info[:]
    try:
        inferred = onnx.shape_inference.infer_shapes(result, strict_mode=True, data_prop=True)
    except Exception as error:
        raise _stays_fixed(shown, first_line(error)) from error
    for value in inferred.graph.output:
        dims = value.type.tensor_type.shape.dim
        if dims and dims[0].HasField("dim_value"):
            raise _stays_fixed(shown, f"output {value.name!r} is of size {dims[0].dim_value} for any batch")
    _declare(result, signature)
    return result


def _stays_fixed(shown: str, why: str) -> BuildError:
    return BuildError(
        f"{shown} has a batch fixed at 1 that cannot be made dynamic: {why}", hint=_EXPORT_DYNAMIC
    )


def _free_reshapes(graph: onnx.GraphProto) -> None:
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    for node in graph.node:
        if node.op_type != "Reshape" or node.input[1] not in constants:
            continue
        if any(attribute.name == "allowzero" and attribute.i for attribute in node.attribute):
            continue
        shape = onnx.numpy_helper.to_array(constants[node.input[1]])
        if shape.ndim == 1 and len(shape) > 1 and shape[0] == 1:
            name = f"{node.input[1]}_of_any_batch"
            if name not in constants:
                free = np.concatenate([np.array([0], np.int64), shape[1:]])
                constants[name] = onnx.numpy_helper.from_array(free, name)
                graph.initializer.append(constants[name])
            node.input[1] = name


def _declare(model: onnx.ModelProto, signature: Mapping[str, Any]) -> None:
    """Write the signature's names, order and shapes into the graph; what is between is inferred anew."""
    graph = model.graph
    for values, tensors in ((graph.input, signature["inputs"]), (graph.output, signature["outputs"])):
        declared = [
            onnx.helper.make_tensor_value_info(
                tensor["name"],
                onnx.helper.np_dtype_to_tensor_dtype(np.dtype(tensor["dtype"])),
                list(tensor["shape"]),
            )
            for tensor in tensors
        ]
        del values[:]
        values.extend(declared)
    del graph.value_info[:]


def _is_declared(graph: onnx.GraphProto, signature: Mapping[str, Any]) -> bool:
    """Whether the graph says exactly what the signature says: a file the pipeline wrote itself stays as it is."""
    for values, tensors in ((graph.input, signature["inputs"]), (graph.output, signature["outputs"])):
        found = [
            (value.name, [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim])
            for value in values
        ]
        if found != [(tensor["name"], list(tensor["shape"])) for tensor in tensors]:
            return False
    return True


def _drop_weights_among_inputs(graph: onnx.GraphProto) -> None:
    """Before IR 4, every weight was listed as an input too, which lets nobody fold it."""
    weights = {tensor.name for tensor in graph.initializer}
    kept = [value for value in graph.input if value.name not in weights]
    copies = [_copy(value) for value in kept]
    del graph.input[:]
    graph.input.extend(copies)


def _pack(graph: onnx.GraphProto) -> None:
    """Keep every weight as bytes: lists of numbers, as `onnx.helper` writes them, cannot be laid apart and mapped."""
    for tensor in graph.initializer:
        if not tensor.HasField("raw_data") and tensor.data_type != onnx.TensorProto.STRING:
            packed = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name)
            if packed.data_type == tensor.data_type:
                tensor.CopyFrom(packed)


def _copy(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    result = onnx.ValueInfoProto()
    result.CopyFrom(value)
    return result


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnx.inliner import inline_local_functions

    return inline_local_functions(model) if model.functions else model


def _converted(
    model: onnx.ModelProto, signature: Mapping[str, Any], shown: str
) -> tuple[onnx.ModelProto, list[str]]:
    """Return the model in `OPSET` where the converter keeps what it computes, and what was done."""
    from onnx.version_converter import convert_version

    opset = opset_of(model)
    if opset == OPSET:
        return model, []
    why = ""
    try:
        converted = convert_version(model, OPSET)
        onnx.checker.check_model(converted, full_check=True)
        _declare(converted, signature)
        feed = example(signature, batch=BATCHES[0], seed=0)
        before, after = (Network(to_bytes(which)).run(feed) for which in (model, converted))
        if all(np.array_equal(before[name], after[name], equal_nan=True) for name in before):
            return converted, [f"opset {opset} converted to {OPSET}"]
        why = "the converted model computes something else"
    except Exception as error:  # noqa: BLE001  (a converter that fails in any way is a converter not used)
        why = first_line(error)
    if opset > NEWEST_KEPT:
        raise BuildError(
            f"{shown} has opset {opset}, which devices with onnxruntime 1.20 cannot read, and cannot be converted to"
            f" {OPSET}: {why}",
            hint=f"export it again with opset {OPSET}",
        )
    return model, [f"opset {opset} kept: {why}"]


def _check_run(
    model: onnx.ModelProto,
    original: onnx.ModelProto,
    signature: Mapping[str, Any],
    shown: str,
    *,
    one_by_one: bool,
) -> float:
    """Return the largest difference to the file itself on random inputs of several batch sizes.

    Raises:
        BuildError: the model does not run, gives NaN or infinity or another shape, or computes something else.
    """
    ours, theirs = Network(to_bytes(model)), Network(to_bytes(original))
    largest = 0.0
    for batch in BATCHES:
        feed = example(signature, batch=batch, seed=batch)
        found = ours.run(feed, batch=batch)
        expected = theirs.run(feed, batch=1 if one_by_one else batch)
        for tensor in signature["outputs"]:
            name = tensor["name"]
            shape = [batch if size == "batch" else size for size in tensor["shape"]]
            if list(found[name].shape) != shape or str(found[name].dtype) != tensor["dtype"]:
                raise BuildError(
                    f"{shown}: output {name!r} is {found[name].dtype}{list(found[name].shape)} for {batch} samples;"
                    f" the signature says {tensor['dtype']}{shape}"
                )
            if not np.isfinite(found[name].astype(np.float64)).all():
                raise BuildError(f"{shown} gives NaN or infinity in output {name!r} for random inputs")
            wanted = expected[name].astype(np.float64)
            difference = float(
                (np.abs(found[name] - wanted) / np.maximum(1.0, np.abs(wanted))).max(initial=0.0)
            )
            if difference > TOLERANCE:
                raise (
                    _stays_fixed(
                        shown, f"{name!r} of a sample is off by {difference:.2g} among {batch} samples"
                    )
                    if one_by_one
                    else BuildError(f"{shown}: {name!r} differs by {difference:.2g} after the import")
                )
            largest = max(largest, difference)
    return float(f"{largest:.2g}")


def _plain(dims: Iterable[object]) -> str:
    return f"[{', '.join(map(str, dims))}]"
