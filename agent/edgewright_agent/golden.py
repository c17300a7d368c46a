"""Golden samples: inputs, and the outputs this artifact gave for them where it was built.

>>> golden = load_golden(folder / FILE_GOLDEN)         # doctest: +SKIP
>>> compare(engine.infer(golden.inputs), golden)       # doctest: +SKIP
"""

from __future__ import annotations

import base64
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewright_agent.errors import HealthError
from edgewright_agent.settings import read_json

if TYPE_CHECKING:
    from edgewright_agent.engine import Array, Arrays, Engine


@dataclass(frozen=True)
class Golden:
    """Inputs and the outputs the artifact gave when it was evaluated.

    `winners` names the outputs whose largest value is the answer; None, in older artifacts: every one with rows.
    """

    inputs: Arrays
    outputs: Arrays
    atol: float
    rtol: float
    winners: tuple[str, ...] | None = None

    @property
    def tells(self) -> bool:
        """Whether a wrong model could fail: every output has values, the tolerances are numbers."""
        values = [*self.inputs.values(), *self.outputs.values()]
        finite = all(math.isfinite(tolerance) for tolerance in (self.atol, self.rtol))
        return bool(self.inputs and self.outputs) and all(array.size for array in values) and finite


def load_golden(path: Path, variant: str = "") -> Golden:
    """Read golden samples (`golden.json`: base64 of little-endian arrays).

    Args:
        path: The file.
        variant: `cpu`: the answers of the model beside it for the processor, to the same inputs.
    """
    document = read_json(path)
    winners = document.get("winners")
    answers = document["fallback"] if variant else document
    return Golden(
        {name: decode_array(value) for name, value in document["inputs"].items()},
        {name: decode_array(value) for name, value in answers["outputs"].items()},
        float(answers["atol"]),
        float(answers["rtol"]),
        None if winners is None else tuple(winners),
    )


def decode_array(value: dict[str, Any]) -> Array:
    """Decode `{"dtype", "shape", "data"}` (base64 of little-endian values) into an array.

    Raises:
        ValueError: the data do not fill the shape.
    """
    import numpy

    raw = base64.b64decode(value["data"], validate=True)
    flat = numpy.frombuffer(raw, numpy.dtype(value["dtype"]).newbyteorder("<"))
    return flat.reshape(value["shape"]).astype(value["dtype"])


def array_of(value: Any, dtype: str) -> Array:
    """Return an array from an encoded one (as `decode_array`) or from nested lists of numbers.

    Raises:
        ValueError: neither.
    """
    import numpy

    return decode_array(value) if isinstance(value, dict) else numpy.asarray(value, dtype=dtype)


def batch_is_free(engine: Engine) -> bool:
    """Whether a model takes any number of samples at once."""
    return all(port.shape and port.shape[0] is None for port in engine.inputs)


def one_by_one(
    engine: Engine, inputs: Arrays, came_back: Callable[[float], None] = lambda ms: None
) -> Arrays:
    """Infer each sample by itself, as applications do and as the golden outputs were made; a fixed batch at once.

    Args:
        engine: The loaded model.
        inputs: Samples.
        came_back: Told after every inference how long it took, in milliseconds.

    Raises:
        InferenceError: an inference fails.
    """
    import numpy

    def infer(batch: Arrays) -> Arrays:
        started = time.perf_counter()
        outputs = engine.infer(batch)
        came_back((time.perf_counter() - started) * 1000)
        return outputs

    if not batch_is_free(engine):
        return infer(inputs)
    count = len(next(iter(inputs.values())))
    parts = [infer({name: array[row : row + 1] for name, array in inputs.items()}) for row in range(count)]
    return {name: numpy.concatenate([part[name] for part in parts]) for name in parts[0]}


def compare(outputs: Mapping[str, Any], golden: Golden) -> None:
    """Compare outputs with the golden ones: same names and shapes, finite, within tolerance, same winners.

    Raises:
        HealthError: `health-wrong-output`, saying where and by how much.
    """
    import numpy

    for name, expected in golden.outputs.items():
        if name not in outputs:
            raise HealthError("health-wrong-output", f"the model has no output {name}")
        actual = outputs[name]
        if actual.shape != expected.shape:
            raise HealthError("health-wrong-output", f"{name} has shape {actual.shape}, not {expected.shape}")
        if actual.dtype.kind == "f" and not numpy.isfinite(actual).all():
            raise HealthError("health-wrong-output", f"{name} is not finite")
        if not numpy.allclose(actual, expected, rtol=golden.rtol, atol=golden.atol):
            worst = float(numpy.abs(actual.astype("float64") - expected.astype("float64")).max())
            raise HealthError(
                "health-wrong-output",
                f"{name} is off by up to {worst:.3g}, allowed are {golden.atol:g} + {golden.rtol:g} of it",
            )
        if expected.ndim == 2 and (golden.winners is None or name in golden.winners):
            # A tie in the reference has no winner to agree with.
            chosen = numpy.take_along_axis(expected, actual.argmax(axis=1)[:, None], axis=1)[:, 0]
            wrong = int((chosen != expected.max(axis=1)).sum())
            if wrong:
                raise HealthError("health-wrong-output", f"{name} names another winner for {wrong} samples")
