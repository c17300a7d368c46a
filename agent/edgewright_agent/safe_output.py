"""The safe output: what an application gets when no model can be used, as the model's `runtime.json` declares it.

>>> parse({"kind": "hold-last", "maxAgeS": 5}, {}).max_age_s
5.0
>>> parse(None, {}).kind
'no-decision'

It is checked when the model is installed, not when it is needed. Standard library only.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

NO_DECISION, CONSTANT, HOLD_LAST = KINDS = ("no-decision", "constant", "hold-last")
MAX_VALUES = 4096
MAX_DIMENSIONS = 8
MAX_AGE_S = 10 * 365 * 86_400

# Types of outputs in the words of `struct`, which holds a number to the range of its type.
_CODES = {
    "float16": "e", "float32": "f", "float64": "d", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H",
    "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q", "bool": "?",
}  # fmt: skip


@dataclass(frozen=True)
class SafeOutput:
    """A declared safe output.

    Attributes:
        kind: One of `KINDS`.
        outputs: With `constant`: output → nested lists for one sample.
        dtypes: With `constant`: output → its type, in numpy's words.
        max_age_s: With `hold-last`: how old the last answer may be, in seconds; then it is `no-decision`.
    """

    kind: str = NO_DECISION
    outputs: Mapping[str, Any] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)
    max_age_s: float | None = None


def parse(value: object, signature: object) -> SafeOutput:
    """Return the safe output that a runtime manifest declares; absent: `no-decision`.

    Args:
        value: The manifest's `safeOutput`.
        signature: Its `signature`: a constant must be what the model itself could have answered.

    Raises:
        ValueError: says what is wrong with it.
    """
    if value is None:
        return SafeOutput()
    if not isinstance(value, dict) or value.get("kind") not in KINDS:
        raise ValueError(f"safeOutput must be an object whose kind is one of {', '.join(KINDS)}")
    kind = value["kind"]
    wanted = {CONSTANT: {"kind", "outputs"}, HOLD_LAST: {"kind", "maxAgeS"}}.get(kind, {"kind"})
    if set(value) != wanted:
        raise ValueError(f"safeOutput of kind {kind} has {sorted(value)}, it must have {sorted(wanted)}")
    if kind == HOLD_LAST:
        age_s = value["maxAgeS"]
        if type(age_s) not in (int, float) or not 0 < age_s <= MAX_AGE_S:
            raise ValueError("safeOutput.maxAgeS must be seconds above 0")
        return SafeOutput(kind, max_age_s=float(age_s))
    return _constant(value["outputs"], _outputs(signature)) if kind == CONSTANT else SafeOutput(kind)


def _outputs(signature: object) -> dict[str, tuple[str, tuple[Any, ...]]]:
    """Return output → type and shape without the batch dimension."""
    try:
        return {
            tensor["name"]: (tensor["dtype"], tuple(tensor["shape"])[1:])
            for tensor in signature["outputs"]  # type: ignore[index]
        }
    except (TypeError, KeyError):
        raise ValueError("safeOutput is a constant, and the signature names no outputs") from None


def _constant(outputs: object, signature: Mapping[str, tuple[str, tuple[Any, ...]]]) -> SafeOutput:
    if not isinstance(outputs, dict) or set(outputs) != set(signature):
        raise ValueError(f"safeOutput.outputs must have {sorted(signature)}, every output of the model")
    for name, nested in outputs.items():
        dtype, shape = signature[name]
        found, values = _flat(nested)
        if found != shape or len(values) > MAX_VALUES or not all(_is_one(number, dtype) for number in values):
            raise ValueError(f"safeOutput.outputs.{name} must be {dtype} of shape {list(shape)}, finite")
    return SafeOutput(CONSTANT, outputs, {name: signature[name][0] for name in outputs})


def _flat(value: Any, depth: int = 0) -> tuple[tuple[int, ...] | None, list[Any]]:
    """Return shape and values of nested lists; no shape when they are not regular."""
    if not isinstance(value, list):
        return (), [value]
    if depth >= MAX_DIMENSIONS:
        return None, []
    parts = [_flat(item, depth + 1) for item in value]
    shapes = {shape for shape, _ in parts}
    inner = shapes.pop() if len(shapes) == 1 else None
    shape = None if inner is None else (len(value), *inner)
    return shape, [number for _, numbers in parts for number in numbers]


def _is_one(number: Any, dtype: object) -> bool:
    """Whether a number is one of that type: finite, within its range, and whole where it is an integer."""
    code = _CODES.get(str(dtype))
    if code is None or type(number) not in (int, float):
        return False
    if code == "?":
        return number in (0, 1)
    try:
        struct.pack(f"<{code}", number)
        return math.isfinite(number)
    except (struct.error, OverflowError):
        return False
