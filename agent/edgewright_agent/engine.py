"""A model in the inference engine: loaded under its own settings, fed with inputs that fit it.

>>> engine = load(store.path(digest))                                       # doctest: +SKIP
>>> engine.infer(check_inputs(engine.inputs, {"image": pixels}))["scores"]   # doctest: +SKIP

The health check and `runtime` share it, so what passed the trial is what applications get.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewright_agent.contract import FILE_LABELS
from edgewright_agent.errors import AgentError, ConfigError, HealthError
from edgewright_agent.settings import VARIANTS, read, read_json
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
        self._names = [port.name for port in self.outputs]

    def infer(self, inputs: Arrays) -> Arrays:
        """Run one batch; the inputs must fit `self.inputs`.

        Raises:
            InferenceError: `inference-failed`: the engine gave up.
        """
        try:
            return dict(zip(self._names, self._session.run(self._names, inputs), strict=True))
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


def has_variant(folder: Path, variant: str) -> bool:
    """Whether an artifact ships such a model beside its own."""
    # Not `Path.is_file`: a folder that may not be read is no error here, opening it says what is wrong.
    return all(os.path.isfile(folder / name) for name in VARIANTS[variant])  # noqa: PTH113


def load(folder: Path, variant: str = "", *, providers: Sequence[str] | None = None) -> Engine:
    """Load `folder/model.onnx` with the settings of `folder/runtime.json`.

    Args:
        folder: An installed artifact.
        variant: `cpu`: the model shipped beside, for when the accelerator is down.
        providers: Only these of the settings' providers, and no others behind the caller's back: one that fails
            to start is an error. None: all of them, with the engine's own fallback.

    Raises:
        EngineError: `runtime-missing`, `runtime-version`.
        HealthError: `health-crash` when the engine rejects the model, or its settings make no sense.
    """
    settings = read(folder, variant)
    name, manifest = VARIANTS[variant]
    engine = import_engine()
    try:
        fits = in_range(engine.__version__, settings.versions)
    except ValueError as error:
        raise HealthError("health-crash", f"{folder / manifest} makes no sense: {error}") from error
    if not fits:
        raise EngineError(
            "runtime-version",
            f"the model needs onnxruntime {settings.versions}, this is {engine.__version__}",
        )
    options = settings.session_options(engine)
    usable = settings.providers_of(engine, caches_of(folder))
    if providers is not None:
        usable = [one for one in usable if (one if isinstance(one, str) else one[0]) in providers]
    if not usable:
        raise EngineError(
            "runtime-missing", f"none of {', '.join(settings.providers)} is in this build of onnxruntime"
        )
    fallback = int(providers is None)
    try:
        # By its path, so that weights in a file beside it are found, and mapped instead of read.
        session = engine.InferenceSession(
            str(folder / name), options, providers=usable, enable_fallback=fallback
        )
        return Engine(session)
    except Exception as error:  # noqa: BLE001  onnxruntime raises bare Exception subclasses of its own
        raise HealthError("health-crash", f"onnxruntime rejects the model: {error}") from error


def caches_of(folder: Path) -> Path | None:
    """Return where providers keep what they build for an installed artifact; None when it is not installed."""
    return folder.parent.parent / ENGINES / folder.name if folder.parent.name == STORE else None


def load_labels(folder: Path) -> tuple[str, ...]:
    """Return the class names of an artifact's first output; empty when it has none.

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
    """Return `inputs`, if they are what the model takes; nothing is cast or reshaped in silence.

    Raises:
        InputError: `bad-input`, naming the input, what it is, what it should be, and how to get there.
    """
    import numpy

    if not isinstance(inputs, Mapping):
        named = ", ".join(f'"{port.name}": …' for port in ports)
        raise InputError(
            "bad-input", f"the inputs are a {type(inputs).__name__}, not arrays by name: {{{named}}}"
        )
    if len(inputs) != len(ports) or not all(port.name in inputs for port in ports):
        wanted = sorted(port.name for port in ports)
        found = sorted(map(str, inputs))
        raise InputError("bad-input", f"the inputs are {found}, the model takes {wanted}")
    checked = {}
    for port in ports:
        try:
            array = numpy.asarray(inputs[port.name])
        except (
            TypeError,
            ValueError,
            RuntimeError,
        ) as error:  # a ragged list, or a tensor that will not be an array
            raise InputError("bad-input", f"{port.name} cannot be made an array: {error}") from error
        if array.dtype.name != port.dtype or not array.dtype.isnative:
            raise InputError("bad-input", _wrong_dtype(port, array))
        shape, want = array.shape, port.shape
        if len(shape) != len(want) or not all(
            size is None or size == have for size, have in zip(want, shape, strict=True)
        ):
            raise InputError("bad-input", _wrong_shape(port, shape))
        # Slices and transposed views are copied here, once, in the caller's sight rather than in the engine's.
        checked[port.name] = array if array.flags.c_contiguous else numpy.ascontiguousarray(array)
    return checked


def _wrong_dtype(port: Port, array: Array) -> str:
    if array.dtype.name == port.dtype:
        advice = f'{port.name}.astype("{port.dtype}")'
        return (
            f"{port.name} has the bytes of its numbers in another machine's order: {advice} puts them right"
        )
    text = f"{port.name} is {array.dtype.name}, the model takes {port.dtype}"
    convertible = array.dtype.kind in "biuf"
    return text + (f': {port.name}.astype("{port.dtype}"), if nothing is lost' if convertible else "")


def _wrong_shape(port: Port, shape: tuple[int, ...]) -> str:
    sizes = "[" + ", ".join("any" if size is None else str(size) for size in port.shape) + "]"
    text = f"{port.name} has shape {list(shape)}, the model takes {sizes}"
    first = port.shape[:1]
    if len(shape) == len(port.shape) - 1 and first in ((None,), (1,)):
        text += f": {port.name}[None] is a batch of one"
    return text


def _port(value: Any) -> Port:
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return Port(value.name, DTYPES.get(value.type, value.type), shape)
