"""Rules of the safe output: a constant must be an answer that the model itself could have given."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from edgewright.spec.model import Model, Tensor
from edgewright.spec.problem import did_you_mean
from edgewright.spec.rules import Context, Finding, rule
from edgewright.spec.source import Path

_RANGES = {"uint8": (0, 2**8 - 1), "int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}
_FLOAT32_MAX = float.fromhex("0x1.fffffep+127")
MAX_VALUES = 4096  # of all outputs: it is read by people, and lies in runtime.json


@rule(Model, "safe_output", "signature", "labels")
def constant_is_an_answer_of_the_model(model: Model, context: Context) -> Iterator[Finding]:
    """Every output, of its shape and type for one sample; with labels it names one."""
    safe = model.safe_output
    if safe is None or safe.outputs is None:
        return
    place: Path = ("safeOutput", "outputs")
    tensors = {tensor.name: tensor for tensor in model.signature.outputs}
    for name in safe.outputs:
        if name not in tensors:
            message = f"the signature has no output '{name}'"
            yield Finding((*place, name), message, did_you_mean(name, tensors, "it has"), value=False)
    for name in tensors:
        if name not in safe.outputs:
            yield Finding(
                place, f"output '{name}' is missing", "an application expects every output", value=False
            )
    sound = True
    for name, value in safe.outputs.items():
        if (tensor := tensors.get(name)) is None:
            continue
        wrong = _wrong(value, tensor)
        sound = sound and wrong is None
        if wrong is not None:
            yield Finding((*place, name), wrong, f"write nested lists of {_sizes(tensor)} for one sample")
    first = model.signature.outputs[0].name
    if sound and model.labels and first in safe.outputs:
        scores = _values(safe.outputs[first])
        if scores.count(max(scores)) > 1:
            message = f"'{first}' names no label: {scores.count(max(scores))} values are the largest"
            yield Finding((*place, first), message, "make one the largest, or write kind: no-decision")


def _wrong(value: Any, tensor: Tensor) -> str | None:
    """Return what is wrong with a constant, or None."""
    shape = tensor.shape[1:]
    if math.prod(int(size) for size in shape if size != "batch") > MAX_VALUES:
        return f"'{tensor.name}' has more than {MAX_VALUES} values for one sample"
    found = _shape(value)
    if found != shape:
        told = "no regular nested list" if found is None else f"of shape {list(found)}"
        return f"'{tensor.name}' is {list(shape)} for one sample, this is {told}"
    for number in _values(value):
        if isinstance(number, bool) or not isinstance(number, int | float):
            return f"'{tensor.name}' is {tensor.dtype}, and {number!r} is no number"
        if tensor.dtype in _RANGES:
            low, high = _RANGES[tensor.dtype]
            if not isinstance(number, int) or not low <= number <= high:
                return f"'{tensor.name}' is {tensor.dtype}, and {number!r} is none"
        elif not abs(number) <= _FLOAT32_MAX:
            return f"'{tensor.name}' is {tensor.dtype}, and {number!r} is beyond it"
    return None


def _shape(value: Any) -> tuple[int, ...] | None:
    """Return the shape of nested lists, None when they are not regular."""
    if not isinstance(value, list):
        return ()
    inner = {_shape(item) for item in value}
    if len(inner) != 1 or None in inner:
        return None
    (one,) = inner
    return (len(value), *(one or ()))


def _values(value: Any) -> list[Any]:
    return [number for item in value for number in _values(item)] if isinstance(value, list) else [value]


def _sizes(tensor: Tensor) -> str:
    sizes = " × ".join(str(size) for size in tensor.shape[1:])
    return f"{sizes} numbers" if sizes else "one number"
