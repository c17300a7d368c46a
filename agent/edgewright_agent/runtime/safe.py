"""What a model declares for when nothing on the device can run it: `safeOutput` of its `runtime.json`.

>>> safe = parse({"kind": "constant", "outputs": {"brake": [1.0]}})
>>> safe.kind, safe.outputs
('constant', {'brake': [1.0]})

`no-decision` is an error an application must handle. `constant` is the answer for one sample, given to every sample.
`hold-last` is the last answer of a model, while it is not older than `maxAgeS`; then there is no decision either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewright_agent.contract import FILE_RUNTIME
from edgewright_agent.engine import Port
from edgewright_agent.errors import AgentError, HealthError
from edgewright_agent.settings import read_json

if TYPE_CHECKING:
    from edgewright_agent.engine import Arrays

NO_DECISION, CONSTANT, HOLD_LAST = "no-decision", "constant", "hold-last"


class NoDecisionError(AgentError):
    """No model on this device can answer, and the model's declared safe output is to decide nothing.

    Code `no-decision`; the cause is in the message.
    """


@dataclass(frozen=True)
class SafeOutput:
    """A declared safe output.

    Attributes:
        kind: `no-decision`, `constant` or `hold-last`.
        outputs: Of `constant`: nested lists by output name, for one sample.
        max_age_s: Of `hold-last`.
    """

    kind: str = NO_DECISION
    outputs: Mapping[str, Any] = field(default_factory=dict)
    max_age_s: float = 0.0


@dataclass(frozen=True)
class Signature:
    """What a model takes and gives, as its `runtime.json` says: all that is known when no engine can say it."""

    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()


def parse(value: Any) -> SafeOutput:
    """Check a `safeOutput`.

    Raises:
        ValueError: it is none.
    """
    kind = value.get("kind") if isinstance(value, dict) else None
    if kind == NO_DECISION:
        return SafeOutput()
    if kind == CONSTANT and isinstance(value.get("outputs"), dict) and value["outputs"]:
        return SafeOutput(CONSTANT, value["outputs"])
    age = value.get("maxAgeS") if kind == HOLD_LAST else None
    if isinstance(age, (int, float)) and not isinstance(age, bool) and age > 0:
        return SafeOutput(HOLD_LAST, max_age_s=float(age))
    raise ValueError("it must be no-decision, constant with outputs, or hold-last with maxAgeS")


def read_safe_output(folder: Path) -> tuple[SafeOutput | None, Signature]:
    """Return the safe output of the artifact in a folder, if it declares one, and its signature.

    A file that cannot be read declares nothing: it cannot be asked any more.

    Raises:
        HealthError: `health-crash` for a declaration that makes no sense.
    """
    try:
        document = read_json(folder / FILE_RUNTIME)
    except AgentError:
        return None, Signature()
    told = document.get("signature")
    ports = told if isinstance(told, dict) else {}
    signature = Signature(_ports(ports.get("inputs")), _ports(ports.get("outputs")))
    if "safeOutput" not in document:
        return None, signature
    try:
        safe = parse(document["safeOutput"])
        answer(safe, signature, 1)
    except (ValueError, TypeError) as error:
        raise HealthError("health-crash", f"safeOutput of {folder / FILE_RUNTIME}: {error}") from error
    return safe, signature


def answer(safe: SafeOutput, signature: Signature, batch: int) -> Arrays:
    """Return the arrays of a `constant` for so many samples; nothing for other kinds.

    Raises:
        ValueError: the constant does not fit the model's outputs.
    """
    import numpy

    found = {}
    ports = {port.name: port for port in signature.outputs}
    if safe.outputs and ports and set(safe.outputs) != set(ports):
        raise ValueError(f"it answers {sorted(safe.outputs)}, the model {sorted(ports)}")
    for name, value in safe.outputs.items():
        port = ports.get(name, Port(name, "float32", ()))
        sample = numpy.asarray(value, dtype=port.dtype)
        sizes = port.shape[1:]
        if port.shape and (
            len(sizes) != sample.ndim
            or any(want not in (None, have) for want, have in zip(sizes, sample.shape, strict=True))
        ):
            raise ValueError(f"one sample of {name} has shape {list(sizes)}, not {list(sample.shape)}")
        found[name] = numpy.repeat(sample[None], batch, axis=0)
    return found


def held(outputs: Arrays, batch: int) -> Arrays:
    """Return the last outputs of a model for so many samples: themselves when they fit, else the newest sample's."""
    import numpy

    fits = all(array.ndim and len(array) == batch for array in outputs.values())
    if fits:
        return {name: array.copy() for name, array in outputs.items()}
    return {
        name: numpy.repeat(array[-1:], batch, axis=0) if array.ndim and len(array) else array.copy()
        for name, array in outputs.items()
    }


def _ports(value: Any) -> tuple[Port, ...]:
    found = []
    for entry in value if isinstance(value, list) else ():
        try:
            sizes = tuple(size if isinstance(size, int) else None for size in entry["shape"])
            found.append(Port(str(entry["name"]), str(entry["dtype"]), sizes))
        except (TypeError, KeyError):
            return ()
    return tuple(found)
