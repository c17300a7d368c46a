"""One byte string per ONNX model: what differs between machines, folders and hash seeds is removed or fixed.

The exporter writes absolute source paths into `metadata_props`, tools write their names and versions, and
protobuf promises no order for maps. None of it changes what the model computes; all of it would change the
digest.

>>> data = to_bytes(canonical(model))
>>> to_bytes(canonical(onnx.load_from_string(data))) == data
True
"""

from __future__ import annotations

import onnx

OPSET = 20
"""What exports speak: from 23 on torch's exporter emits `Attention`, which onnxruntime's CPU provider refuses with
common masks."""
PRODUCER = "edgewright"
GRAPH = "model"


def canonical(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model` without anything that does not belong to the computation.

    Strips `metadata_props` and `doc_string` everywhere, `value_info` of initializers (onnxruntime's dynamic
    quantizer crashes on it), and opset imports no node uses; fixes producer, graph name and the order of
    initializers and value infos. Node order, tensor names and numbers stay as they are.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    result.producer_name, result.producer_version = PRODUCER, ""
    result.domain, result.model_version = "", 0
    result.graph.name = GRAPH
    _strip(result)
    _clean_graph(result.graph)
    used = set(_domains(result.graph)) | {domain for f in result.functions for domain in _domains(f)}
    imports = sorted((i.domain, i.version) for i in result.opset_import if _domain(i.domain) in used)
    del result.opset_import[:]
    result.opset_import.extend(onnx.helper.make_opsetid(domain, version) for domain, version in imports)
    return result


def to_bytes(model: onnx.ModelProto) -> bytes:
    """Serialize so that equal models give equal bytes."""
    return bytes(model.SerializeToString(deterministic=True))


def _strip(message: object) -> None:
    """Clear `metadata_props` and `doc_string` of a message and of everything inside it."""
    for field, value in list(message.ListFields()):  # type: ignore[attr-defined]
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)  # type: ignore[attr-defined]
        elif field.type == field.TYPE_MESSAGE:
            for item in value if field.is_repeated else (value,):
                _strip(item)


def _clean_graph(graph: onnx.GraphProto) -> None:
    weights = {tensor.name for tensor in graph.initializer}
    infos = sorted((v for v in graph.value_info if v.name not in weights), key=lambda value: value.name)
    tensors = sorted(graph.initializer, key=lambda tensor: tensor.name)
    kept_infos, kept_tensors = [_copy(value) for value in infos], [_copy(tensor) for tensor in tensors]
    del graph.value_info[:], graph.initializer[:]
    graph.value_info.extend(kept_infos)
    graph.initializer.extend(kept_tensors)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _clean_graph(attribute.g)


def _copy(message: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    result = type(message)()
    result.CopyFrom(message)
    return result


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _domains(graph: onnx.GraphProto | onnx.FunctionProto) -> list[str]:
    found = []
    for node in graph.node:
        found.append(_domain(node.domain))
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                found += _domains(attribute.g)
    return found
