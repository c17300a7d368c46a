"""A model in memory, and who is using it: let go of after its last request in flight, never before.

>>> resident = bring_up(OnnxRuntime(), step, folder)             # doctest: +SKIP
>>> ticket = resident.enter()                                    # doctest: +SKIP
>>> resident.infer({"image": pixels}); resident.leave(ticket)    # doctest: +SKIP
>>> resident.retire()          # released now, or by the last one who uses it                  # doctest: +SKIP
"""

from __future__ import annotations

import itertools
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgewright_agent import memory
from edgewright_agent.contract import FILE_GOLDEN
from edgewright_agent.engine import DTYPES, Engine, InferenceError, Port, import_engine, load, load_labels
from edgewright_agent.errors import AgentError, HealthError
from edgewright_agent.golden import Golden, compare, load_golden
from edgewright_agent.runtime.ladder import Step
from edgewright_agent.settings import BESIDE, Settings, read

if TYPE_CHECKING:
    from edgewright_agent.engine import Arrays

PROVIDER_DOWN = "provider-down"
NOT_FINITE = "non-finite-output"


@dataclass(frozen=True)
class Served:
    """What a request was served: outputs, and by whom."""

    outputs: Arrays
    digest: str
    version: str
    rung: str
    labels: tuple[str, ...] = ()
    decided: bool = True


class Loader(Protocol):
    """What turns an artifact's folder into an engine."""

    def available(self) -> tuple[str, ...]:
        """Return the execution providers that there are."""

    def load(self, folder: Path, *, variant: str, providers: tuple[str, ...] | None) -> Engine:
        """Load a model; see `engine.load`."""


class OnnxRuntime:
    """The installed onnxruntime."""

    def available(self) -> tuple[str, ...]:
        """Return the execution providers of this build.

        Raises:
            EngineError: `runtime-missing`.
        """
        return tuple(import_engine().get_available_providers())

    def load(self, folder: Path, *, variant: str, providers: tuple[str, ...] | None) -> Engine:
        """Load a model; see `engine.load`."""
        return load(folder, variant=variant, providers=providers)


class Resident:
    """A loaded model.

    Attributes:
        step: Where on the ladder it stands; the rung may be renamed while it runs.
        engine: None once it is released.
        inputs, outputs, providers, labels: As the engine and the artifact have them; they outlive the engine.
        version: Of the artifact, for people.
        failed: Whether the last inference failed: a success then has something to clear.
        wrong: Whether it was found to be of no use: it answers on where nothing else can, and is loaded anew.
    """

    def __init__(self, step: Step, engine: Engine, labels: tuple[str, ...], version: str = "") -> None:
        self.step = step
        self.engine: Engine | None = engine
        self.labels = labels
        self.version = version
        self.inputs: tuple[Port, ...] = engine.inputs
        self.outputs: tuple[Port, ...] = engine.outputs
        self.providers = engine.providers
        self.failed = self.wrong = False
        self._lock = threading.Lock()
        self._tickets = itertools.count()
        self._in_flight: dict[int, float] = {}
        self._retired = False
        self._released = threading.Event()

    def enter(self) -> int | None:
        """Return a ticket to give back to `leave`; None when this model is on its way out."""
        with self._lock:
            if self._retired:
                return None
            ticket = next(self._tickets)
            self._in_flight[ticket] = time.monotonic()
            return ticket

    def leave(self, ticket: int) -> None:
        """End what `enter` began."""
        with self._lock:
            del self._in_flight[ticket]
            if self._retired and not self._in_flight:
                self._release()

    def retire(self) -> None:
        """Let nobody in any more, and release the engine when the last one has left."""
        with self._lock:
            self._retired = True
            if not self._in_flight:
                self._release()

    def wait_released(self, timeout_s: float | None = None) -> bool:
        """Wait until the engine is released; return whether it is."""
        return self._released.wait(timeout_s)

    @property
    def released(self) -> bool:
        """Whether the engine is gone."""
        return self._released.is_set()

    def oldest_s(self) -> float:
        """Return the age of the oldest inference in flight, 0 when there is none."""
        with self._lock:
            return time.monotonic() - min(self._in_flight.values()) if self._in_flight else 0.0

    def infer(self, inputs: Arrays) -> Arrays:
        """Run one batch, between `enter` and `leave`.

        Raises:
            InferenceError: `inference-failed`, or `non-finite-output`: an answer that is no number is no answer.
        """
        assert self.engine is not None  # noqa: S101  not released while somebody is in
        outputs = self.engine.infer(inputs)
        for name, array in outputs.items():
            if not is_finite(array):
                raise InferenceError(NOT_FINITE, f"the model's {name} is not a finite number")
        return outputs

    def _release(self) -> None:
        self.engine = None
        self._released.set()


def bring_up(loader: Loader, step: Step, folder: Path) -> Resident:
    """Load what a step names, from an artifact's folder.

    Raises:
        EngineError: this device's engine cannot run it.
        HealthError: `health-crash`, or `provider-down` when the engine left out the first provider without a word.
        AgentError: `damaged`.
    """
    engine = loader.load(folder, variant=step.variant, providers=step.providers)
    if step.providers and engine.providers[:1] != step.providers[:1]:
        raise HealthError(
            PROVIDER_DOWN,
            f"{step.providers[0]} did not start; the engine would use {', '.join(engine.providers)}",
        )
    return Resident(step, engine, load_labels(folder))


def warm_up(resident: Resident, folder: Path) -> None:
    """Run one golden sample (or zeros): the first inference builds what later ones use.

    Raises:
        InferenceError: it cannot be run.
    """
    golden = _golden(folder)
    if golden is None:
        _run_stand_ins(resident)
        return
    first = is_free(resident.inputs)
    resident.infer({name: array[:1] if first else array for name, array in golden.inputs.items()})


def judge(resident: Resident, folder: Path) -> None:
    """Replay the golden samples, as the trial did: whether this model is still right on this device.

    Raises:
        InferenceError: it cannot be run.
        HealthError: `health-wrong-output`; `health-crash` for a model beside another that has no golden answers.
    """
    from edgewright_agent.golden import one_by_one

    golden = _golden(folder, resident.step.variant)
    if golden is None:
        if resident.step.variant:
            raise HealthError("health-crash", f"{folder / FILE_GOLDEN} has no answers of the model beside")
        _run_stand_ins(resident)
        return
    assert resident.engine is not None  # noqa: S101  nobody else has it yet, or the caller is in
    compare(one_by_one(resident.engine, golden.inputs), golden)


def let_go(error: BaseException) -> None:
    """Let go of what the frames of a failed inference hold, which is the engine; where it failed stays to be read."""
    found: BaseException | None = error
    while found is not None:
        traceback.clear_frames(found.__traceback__)
        found = found.__cause__


def fits_beside(folder: Path) -> bool:
    """Whether an artifact may be loaded while another model is in memory: as its manifest says, or if there is room."""
    try:
        settings = read(folder)
    except AgentError:
        return True  # loading it says what is wrong
    return settings.swap == BESIDE if settings.swap else lacking_bytes(settings) == 0


def lacking_bytes(settings: Settings) -> float:
    """Return how much memory is missing for one more model, as far as its manifest and the kernel tell."""
    available = memory.available_bytes()
    expected = settings.expected.get("memoryBytes", 0.0)
    return 0.0 if available is None else max(0.0, expected - available)


def is_free(ports: tuple[Port, ...]) -> bool:
    """Whether a model takes batches of any size."""
    return bool(ports) and all(port.shape and port.shape[0] is None for port in ports)


def _golden(folder: Path, variant: str = "") -> Golden | None:
    try:
        golden = load_golden(folder / FILE_GOLDEN, variant)
    except (AgentError, ValueError, TypeError, KeyError):
        return None
    return golden if golden.tells else None


def stand_ins(ports: tuple[Port, ...]) -> Arrays | None:
    """Return zeros in place of golden inputs, one sample; None where nobody knows what a model could run.

    A free dimension other than the batch has a smallest size that only the model knows.
    """
    import numpy

    known = all(port.dtype in DTYPES.values() and None not in port.shape[1:] for port in ports)
    return (
        {port.name: numpy.zeros([size or 1 for size in port.shape], port.dtype) for port in ports}
        if known
        else None
    )


def _run_stand_ins(resident: Resident) -> None:
    zeros = stand_ins(resident.inputs)
    if zeros is not None:
        resident.infer(zeros)


def is_finite(array: Any) -> bool:
    """Whether every value of an array is a number; of what is no array of floating point, always."""
    import numpy

    return (
        getattr(array, "dtype", None) is None or array.dtype.kind != "f" or bool(numpy.isfinite(array).all())
    )
