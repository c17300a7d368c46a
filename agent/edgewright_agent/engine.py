"""A model in the inference engine: loaded under its own settings, fed with inputs that fit it.

>>> engine = load(store.path(digest))                                       # doctest: +SKIP
>>> engine.infer(check_inputs(engine.inputs, {"image": pixels}))["scores"]   # doctest: +SKIP

The health check and `runtime` share it, so what passed the trial is what applications get.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewright_agent.contract import FILE_LABELS, FILE_MODEL, FILE_RUNTIME
from edgewright_agent.errors import AgentError, ConfigError, HealthError
from edgewright_agent.settings import read, read_json
from edgewright_agent.store import ENGINES, STORE
from edgewright_agent.versions import in_range

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]
    Arrays = dict[str, Array]

# ONNX type names (`tensor(float)`) in numpy's words; what an artifact's signature and golden inputs use.
DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(int16)": "int16",
    "tensor(uint16)": "uint16",
    "tensor(int32)": "int32",
    "tensor(uint32)": "uint32",
    "tensor(int64)": "int64",
    "tensor(uint64)": "uint64",
    "tensor(bool)": "bool",
}


class InputError(ConfigError, ValueError):
    """The application gave inputs the model does not take; the message says which and what it takes."""


class EngineError(HealthError):
    """This device's engine cannot run the model: not the model's fault, so nothing is held against it.

    Codes: `runtime-missing` (no onnxruntime), `runtime-version` (outside the manifest's range).
    """

    exit_code = 3


class InferenceError(AgentError):
    """The engine could not run a model it had loaded."""


@dataclass(frozen=True)
class Port:
    """One input or output: numpy dtype name; None is a free dimension."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


class Engine:
    """A loaded model."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.inputs = tuple(_port(value) for value in session.get_inputs())
        self.outputs = tuple(_port(value) for value in session.get_outputs())
        self.providers: tuple[str, ...] = tuple(session.get_providers())

    def infer(self, inputs: Arrays) -> Arrays:
        """Run one batch; the inputs must fit `self.inputs`.

        Raises:
            InferenceError: `inference-failed`: the engine gave up.
        """
        names = [port.name for port in self.outputs]
        try:
            return dict(zip(names, self._session.run(names, inputs), strict=True))
        except Exception as error:  # noqa: BLE001  onnxruntime raises bare Exception subclasses of its own
            told = str(error) or type(error).__name__  # a MemoryError has no words
            raise InferenceError("inference-failed", f"the model cannot run these inputs: {told}") from error


def import_engine() -> Any:
    """Import onnxruntime.

    Raises:
        EngineError: `runtime-missing`.
    """
    # Its Linux wheel starts a telemetry thread and looks up host names at import, unless told not to.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import numpy  # noqa: F401
        import onnxruntime
    except ImportError as error:
        advice = "pip install 'edgewright-agent[runtime]'"
        raise EngineError(
            "runtime-missing", f"the inference engine is not installed ({error}): {advice}"
        ) from error
    return onnxruntime


def load(folder: Path) -> Engine:
    """Load `folder/model.onnx` with the settings of `folder/runtime.json`.

    Raises:
        EngineError: `runtime-missing`, `runtime-version`.
        HealthError: `health-crash` when the engine rejects the model, or its settings make no sense.
    """
    settings = read(folder)
    engine = import_engine()
    try:
        fits = in_range(engine.__version__, settings.versions)
    except ValueError as error:
        raise HealthError("health-crash", f"{folder / FILE_RUNTIME} makes no sense: {error}") from error
    if not fits:
        raise EngineError(
            "runtime-version",
            f"the model needs onnxruntime {settings.versions}, this is {engine.__version__}",
        )
    options = settings.session_options(engine)
    mode = stat.S_IMODE(folder.stat().st_mode)
    providers = settings.providers_of(engine, caches_of(folder), mode=mode)
    if not providers:
        raise EngineError(
            "runtime-missing", f"none of {', '.join(settings.providers)} is in this build of onnxruntime"
        )
    try:
        # By its path, so that weights in a file beside it are found, and mapped instead of read.
        return Engine(engine.InferenceSession(str(folder / FILE_MODEL), options, providers=providers))
    except Exception as error:  # noqa: BLE001  onnxruntime raises bare Exception subclasses of its own
        raise HealthError("health-crash", f"onnxruntime rejects the model: {error}") from error


def caches_of(folder: Path) -> Path | None:
    """Return where providers keep what they build for an installed artifact; None when it is not installed."""
    return folder.parent.parent / ENGINES / folder.name if folder.parent.name == STORE else None


def load_labels(folder: Path) -> tuple[str, ...]:
    """Return the class names of an artifact's last output; empty when it has none.

    Raises:
        AgentError: `damaged`.
    """
    path = folder / FILE_LABELS
    if not path.exists():
        return ()
    labels = read_json(path).get("labels")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise AgentError("damaged", f"{path} is not a list of labels")
    return tuple(labels)


def check_inputs(ports: tuple[Port, ...], inputs: Mapping[str, Array]) -> Arrays:
    """Return `inputs`, if they are what the model takes.

    Raises:
        InputError: `bad-input`, naming the input, what it is and what it should be.
    """
    import numpy

    wanted = {port.name: port for port in ports}
    if set(inputs) != set(wanted):
        raise InputError("bad-input", f"the inputs are {sorted(inputs)}, the model takes {sorted(wanted)}")
    checked = {}
    for name, port in wanted.items():
        array = numpy.asarray(inputs[name])
        if array.dtype.name != port.dtype:
            raise InputError("bad-input", f"{name} is {array.dtype.name}, the model takes {port.dtype}")
        fits = len(array.shape) == len(port.shape) and all(
            want in (None, have) for want, have in zip(port.shape, array.shape, strict=True)
        )
        if not fits:
            shape = "[" + ", ".join("any" if size is None else str(size) for size in port.shape) + "]"
            raise InputError("bad-input", f"{name} has shape {list(array.shape)}, the model takes {shape}")
        checked[name] = array
    return checked


def _port(value: Any) -> Port:
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return Port(value.name, DTYPES.get(value.type, value.type), shape)
