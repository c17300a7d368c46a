"""The safe output at work: what a session answers when nothing on the device can run the model.

>>> safe, signature = read_safe_output(folder)                       # doctest: +SKIP
>>> constant(safe, batch=2)["brake"]                                 # doctest: +SKIP
array([[1.], [1.]], dtype=float32)

`no-decision` is an error an application must handle. `constant` is the answer for one sample, given to every sample.
`hold-last` is the last answer of a model while it is fresh; then there is no decision either. See `safe_output`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewright_agent.contract import FILE_RUNTIME
from edgewright_agent.engine import Port
from edgewright_agent.errors import AgentError, HealthError
from edgewright_agent.safe_output import CONSTANT, HOLD_LAST, SafeOutput, parse
from edgewright_agent.settings import read_json

if TYPE_CHECKING:
    from edgewright_agent.engine import Arrays


class NoDecisionError(AgentError):
    """No model on this device can answer, and the model's declared safe output is to decide nothing.

    Code `no-decision`; the cause is in the message.
    """


@dataclass(frozen=True)
class Signature:
    """What a model takes and gives, as its `runtime.json` says: all that is known when no engine can say it."""

    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()


def read_safe_output(folder: Path) -> tuple[SafeOutput | None, Signature] | None:
    """Return the safe output of the artifact in a folder, if it declares one, and its signature.

    None when its file cannot be read.

    Raises:
        HealthError: `health-crash` for a declaration that makes no sense.
    """
    try:
        document = read_json(folder / FILE_RUNTIME)
    except AgentError:
        return None
    told = document.get("signature")
    ports = told if isinstance(told, dict) else {}
    signature = Signature(_ports(ports.get("inputs")), _ports(ports.get("outputs")))
    if "safeOutput" not in document:
        return None, signature
    try:
        return parse(document["safeOutput"], told), signature
    except ValueError as error:
        raise HealthError("health-crash", f"{folder / FILE_RUNTIME}: {error}") from error


class Stock:
    """What a session can answer with when no model can; safe to share between threads."""

    def __init__(self) -> None:
        self._last: tuple[float, Arrays] | None = None

    def note(self, safe: SafeOutput | None, outputs: Arrays) -> None:
        """Keep a model's answer, where its safe output is the last one: copies, because callers may change theirs."""
        if safe is not None and safe.kind == HOLD_LAST:
            self._last = time.monotonic(), {name: array.copy() for name, array in outputs.items()}

    def outputs(self, safe: SafeOutput, batch: int) -> Arrays | None:
        """Return the safe output for so many samples; None when nothing is to be decided."""
        if safe.kind == CONSTANT:
            return constant(safe, batch)
        last = self._last
        fresh = last is not None and time.monotonic() - last[0] <= (safe.max_age_s or 0.0)
        return held(last[1], batch) if safe.kind == HOLD_LAST and last is not None and fresh else None


def constant(safe: SafeOutput, batch: int) -> Arrays:
    """Return the arrays of a `constant` for so many samples."""
    import numpy

    samples = {name: numpy.asarray(value, safe.dtypes[name]) for name, value in safe.outputs.items()}
    return {name: numpy.repeat(sample[None], batch, axis=0) for name, sample in samples.items()}


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
