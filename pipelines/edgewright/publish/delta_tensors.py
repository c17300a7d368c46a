"""Where the tensors of an ONNX model lie, as byte ranges of its files: deltas are made tensor by tensor.

>>> [(tensor.name, tensor.offset, tensor.length) for tensor in tensors(model)]      # doctest: +SKIP
[('fc.weight', 128, 20480)]

The protobuf library gives values and no positions, so this reads the wire format itself, and of it only the way to the
initializers (onnx.proto: ModelProto.graph, GraphProto.initializer, TensorProto) and to constants among the nodes.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass

Bytes = memoryview | mmap.mmap | bytes

_GRAPH, _NODE, _INITIALIZER = 7, 1, 5
_NODE_OUTPUT, _NODE_ATTRIBUTE, _ATTRIBUTE_NAME, _ATTRIBUTE_TENSOR = 2, 5, 1, 5
_DIMS, _DATA_TYPE, _FLOAT_DATA, _NAME, _RAW_DATA, _EXTERNAL_DATA = 1, 2, 4, 8, 9, 13
_KEY, _VALUE = 1, 2
_VARINT, _LENGTH = 0, 2
_SIZES = {0: 0, 1: 8, 5: 4}
# TensorProto.DataType → bytes of an element; what is not listed is read byte by byte.
_WIDTHS = {1: 4, 4: 2, 5: 2, 6: 4, 7: 8, 10: 2, 11: 8, 12: 4, 13: 8, 14: 4, 15: 8, 16: 2}


@dataclass(frozen=True)
class Tensor:
    """The values of one tensor as a range of a file.

    Attributes:
        name: Of the initializer; of a constant its node's output and attribute.
        kind: Data type and shape.
        width: Bytes of an element.
        location: File that holds it; empty for the model's own.
    """

    name: str
    kind: tuple[int, ...]
    width: int
    offset: int
    length: int
    location: str = ""


def tensors(model: Bytes) -> list[Tensor]:
    """Return the tensors of a model in the order of the graph.

    Raises:
        ValueError: this is no ONNX model.
    """
    found: list[Tensor] = []
    for number, start, end in _fields(model, 0, len(model)):
        if number == _GRAPH:
            for inner, first, last in _fields(model, start, end):
                if inner == _INITIALIZER:
                    found += _tensor(model, first, last)
                elif inner == _NODE:
                    found += _constants(model, first, last)
    return found


def _constants(model: Bytes, start: int, end: int) -> Iterator[Tensor]:
    fields = list(_fields(model, start, end))
    output = next((_text(model, *span) for number, *span in fields if number == _NODE_OUTPUT), "")
    for number, first, last in fields:
        if number == _NODE_ATTRIBUTE:
            inner = list(_fields(model, first, last))
            name = next((_text(model, *span) for n, *span in inner if n == _ATTRIBUTE_NAME), "")
            for n, begin, until in inner:
                if n == _ATTRIBUTE_TENSOR:
                    yield from _tensor(model, begin, until, called=f"{output}/{name}")


def _tensor(model: Bytes, start: int, end: int, called: str = "") -> Iterator[Tensor]:
    dims: list[int] = []
    name, data_type, values, outside = called, 0, (0, 0), {}
    for number, first, last in _fields(model, start, end):
        if number == _DIMS:
            dims += _varints(model, first, last)
        elif number == _DATA_TYPE:
            data_type = _varint(model, first)[0]
        elif number == _NAME and not called:
            name = _text(model, first, last)
        elif number == _RAW_DATA or (number == _FLOAT_DATA and data_type == 1 and (last - first) % 4 == 0):
            values = (first, last)
        elif number == _EXTERNAL_DATA:
            entry = {n: _text(model, *span) for n, *span in _fields(model, first, last)}
            outside[entry.get(_KEY, "")] = entry.get(_VALUE, "")
    width = _WIDTHS.get(data_type, 1)
    if outside:
        offset, length = int(outside.get("offset", "0")), int(outside.get("length", "0"))
        if length:
            yield Tensor(name, (data_type, *dims), width, offset, length, outside.get("location", ""))
    elif values[1] > values[0]:
        yield Tensor(name, (data_type, *dims), width, values[0], values[1] - values[0])


def _fields(data: Bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, start and end of every field of a message (protobuf encoding, Message Structure)."""
    position = start
    while position < end:
        tag, position = _varint(data, position)
        wire = tag & 7
        if wire == _VARINT:
            first = position
            _, position = _varint(data, position)
        elif wire == _LENGTH:
            length, first = _varint(data, position)
            position = first + length
        elif wire in _SIZES:
            first, position = position, position + _SIZES[wire]
        else:
            raise ValueError(f"no field has wire type {wire}")
        if position > end:
            raise ValueError("a field is longer than what it is in")
        yield tag >> 3, first, position


def _varint(data: Bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            break
        byte = int(data[position])
        value |= (byte & 127) << shift
        position += 1
        if byte < 128:
            return value, position
    raise ValueError("a number has no end")


def _varints(data: Bytes, position: int, end: int) -> list[int]:
    """Read a repeated number: one of several fields, or all of them packed in one."""
    found = []
    while position < end:
        value, position = _varint(data, position)
        found.append(value)
    return found


def _text(data: Bytes, start: int, end: int) -> str:
    return bytes(data[start:end]).decode("utf-8", "replace")
