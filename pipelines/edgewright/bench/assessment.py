"""What is known of one built artifact on one class: does it work, what does it cost, how does it bear load.

>>> found = assess(subject, targets_cache())                      # doctest: +SKIP
>>> found.timing.latency_ms.high, found.calibration               # doctest: +SKIP
(0.4774, 'public-anchor')

Equal inputs give an equal document: nothing in it is a time of this machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgewright.bench.conditions import conditions_report
from edgewright.bench.counting.build import build
from edgewright.bench.counting.counts import Counts, count, counts_of
from edgewright.bench.functional import Functional, check, warm_up_of
from edgewright.bench.memory import peak_memory
from edgewright.bench.sample import sample_of
from edgewright.bench.target.emulator import Target, emulated_target, open_target
from edgewright.bench.target.observe import Memo
from edgewright.bench.target.place import emulated_userland
from edgewright.bench.target.processor import Core, nearest
from edgewright.bench.target.provider import provider_target
from edgewright.bench.target.scratch import sweep
from edgewright.bench.target.session import not_run_here
from edgewright.bench.timing import Banded, Precision, Timing, predict, significant
from edgewright.bench.virtual.played import Played
from edgewright.bench.virtual.simulate import Simulation, simulate
from edgewright.build.entry import ModelCode
from edgewright.build.layout import restore
from edgewright.build.metric import metric
from edgewright.build.samples import Network, load
from edgewright.errors import BuildError, EnvironmentFault, SpecError
from edgewright.plan.lane import Lane
from edgewright.spec.hardware import Sheet
from edgewright_agent.contract import FILE_DATA, FILE_MODEL

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Subject:
    """One artifact, and what is declared of its model and of the class it is for.

    Attributes:
        lane: Model and class.
        sheet: The class.
        spec: Of the model: `signature`, `data.test`, `metric.name`, `workload`, `conditions`, in the words of its YAML.
        folder: The model's own code.
        model: `model.onnx`.
        runtime: `runtime.json`.
        golden: `golden.json`.
        data: `model.onnx.data`, where the weights lie in a file of their own.
    """

    lane: Lane
    sheet: Sheet
    spec: Mapping[str, Any]
    folder: Path
    model: Path
    runtime: Path
    golden: Path
    data: Path | None = None

    @property
    def whole(self) -> bytes:
        """The serialized model, weights inside."""
        files = {FILE_MODEL: self.model.read_bytes()}
        return restore(files | {FILE_DATA: self.data.read_bytes()} if self.data else files)

    @property
    def storage_bytes(self) -> int:
        """What a device reads before it can infer."""
        files = (self.model, self.runtime, *((self.data,) if self.data else ()))
        return sum(path.stat().st_size for path in files)


@dataclass(frozen=True)
class Assessment:
    """What is known of one artifact on one class.

    Attributes:
        precision: Of the artifact, as its `runtime.json` says.
        functional: Whether it works there.
        provider: The same of the class's own execution provider, where that runs on this machine.
        counts: What it costs in instructions; None where it does not run.
        timing: What it costs in time; None where it does not run.
        simulation: Queue and heat, at the upper end of the latency's band; None without `workload` in model.yaml.
        peak_memory_bytes: Over the bare engine; None where it does not run.
        conditions: What it is worth on worse inputs; None without `conditions` in model.yaml.
        declared: Whether an accelerator stands beside the processor the times are of.
        notes: What stands between the figures and the device.
    """

    lane: Lane
    precision: str
    functional: Functional
    counts: Counts | None = None
    timing: Timing | None = None
    simulation: Simulation | None = None
    peak_memory_bytes: int | None = None
    conditions: Mapping[str, Any] | None = None
    provider: Functional | None = None
    declared: bool = False
    notes: tuple[str, ...] = ()

    @property
    def calibration(self) -> str:
        """How the times relate to the device."""
        if self.timing is None:
            return "none"
        return "declared, not emulated" if self.declared else self.timing.calibration

    def figures(self) -> dict[str, float | None]:
        """Return what a gate judges: the upper ends of the bands.

        Under a workload, latency percentiles and dropped requests are those of the worst simulated case: in the hottest
        air, after hours, heat slows inference down. Without one, both percentiles are the latency itself.
        """
        timing = self.timing
        latency = _high(timing.latency_ms) if timing else None
        service: Mapping[str, float | None] = {"p95": latency, "p99": latency}
        if self.simulation:
            service = worst_service_ms(self.simulation)
        return {
            "loadMs": _high(timing.startup_ms) if timing else None,
            "powerCycleMs": _high(timing.power_cycle_ms) if timing else None,
            "p95Ms": service["p95"],
            "p99Ms": service["p99"],
            "droppedShare": worst_dropped(self.simulation) if self.simulation else None,
            "peakMemoryBytes": self.peak_memory_bytes,
        }

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values, the same for the same artifact, class and target."""
        return {
            "precision": self.precision,
            "calibration": self.calibration,
            **self.figures(),
            "functional": self.functional.to_json(),
            "provider": self.provider.to_json() if self.provider else None,
            "counts": self.counts.to_json() if self.counts else None,
            "timing": self.timing.to_json() if self.timing else None,
            "virtual": self.simulation.document() if self.simulation else None,
            "conditions": self.conditions,
            "notes": list(self.notes),
        }


def assess(
    subject: Subject, cache: Path, *, memo: Memo | None = None, progress: Progress = lambda _step: None
) -> Assessment:
    """Run, count, predict and simulate one artifact.

    Args:
        subject: The artifact.
        cache: The targets cache.
        memo: Where what was seen before is found; None: everything runs.
        progress: Called with what begins.

    Raises:
        EnvironmentFault: a userland, the emulator or a compiler is missing; names the command that mends it.
        BuildError: the test data cannot be loaded, or the artifact does not run on this machine at all.
    """
    settings, golden = json.loads(subject.runtime.read_bytes()), json.loads(subject.golden.read_bytes())
    sheet, precision = subject.sheet, settings["precision"]
    declared = sheet.emulation.method == "declared"
    try:
        target = open_target(sheet, cache)
    except SpecError as error:
        failed = Functional(
            target=str(sheet.emulation.cpu),
            failure="processor-unknown",
            message=str(error),
            advice=(str(error.hint),),
        )
        return Assessment(subject.lane, precision, failed, declared=declared)
    counted, plugin = countable(target, sheet, cache), build(cache)

    progress(f"running on {target.label}")
    held_out = load(ModelCode(subject.folder), subject.spec["data"]["test"], subject.spec["signature"])
    measured = metric(subject.spec["metric"]["name"])
    sample = sample_of(held_out, subject.whole, measured)
    functional = check(
        target,
        subject.model,
        subject.runtime,
        golden,
        sample,
        memory_limit_bytes=sheet.memory.for_models,
        plugin=plugin if target is counted else None,
        memo=memo,
        data=subject.data,
    )
    provider = None
    if (place := provider_target(sheet, cache)) is not None:
        progress(f"running on {place.label}")
        provider = check(place, subject.model, subject.runtime, golden, sample, memo=memo, data=subject.data)
    conditions = None
    if declared_conditions := subject.spec.get("conditions"):
        progress("degrading inputs")
        network = Network(subject.whole)
        conditions = conditions_report(network, held_out, declared_conditions, measured=measured)
    progress("measuring memory")
    peak_bytes = peak_memory(subject.model, settings, golden, memo, data=subject.data)
    notes = [*functional.notes, *(provider.notes if provider else ())]
    if ran := {*functional.providers, *(provider.providers if provider else ())}:
        notes += not_run_here(settings, ran, place.provider_options if place else {})
    counts = timing = simulation = None
    if functional.compared is None:  # it did not run, so there is nothing to count
        pass
    elif target is counted:
        counts = counts_of(functional.observation, target, plugin, warm_up=warm_up_of(golden, sample))
    else:
        progress(f"counting instructions on {counted.label}")
        notes += counted.notes
        try:
            counts = count(
                counted, subject.model, settings, golden, plugin=plugin, memo=memo, data=subject.data
            )
        except BuildError as error:  # it runs here, but not there: no figures, and the report says why
            notes.append(str(error))
    if counts is not None:
        timing = predict(counts, sheet, subject.storage_bytes, precision=arithmetic(precision))
        notes += timing.notes
        progress("simulating load and heat")
        simulation = under_load(subject, timing)
        if simulation is None:
            notes.append("model.yaml declares no workload: neither queue nor heat was simulated")
    return Assessment(
        lane=subject.lane,
        precision=precision,
        functional=functional,
        counts=counts,
        timing=timing,
        simulation=simulation,
        peak_memory_bytes=peak_bytes,
        conditions=conditions,
        provider=provider,
        declared=declared,
        notes=tuple(dict.fromkeys(notes)),
    )


def countable(target: Target, sheet: Sheet, cache: Path) -> Target:
    """Return the emulated processor on which a class's instructions are counted.

    That is its target; for a class that runs on this machine's own processor, the nearest emulated one.

    Raises:
        EnvironmentFault: its userland is missing.
    """
    if target.emulated:
        return target
    cpu = sheet.cpu
    emulated = nearest(cpu.arch, cpu.model, cpu.isa)
    why = f"instructions are counted on an emulated {emulated}, in place of {cpu.model}"
    core = Core(emulated_userland(cpu.arch), emulated, cpu.model, cpu.cores, cpu.isa, why)
    return emulated_target(core, cache)


def arithmetic(precision: str) -> Precision:
    """Return which of a class's two coefficients a precision is priced with."""
    return "int8" if precision.startswith("int") else "fp32"


def under_load(subject: Subject, timing: Timing) -> Simulation | None:
    """Play the model's workload at the upper end of the latency; None when model.yaml declares none."""
    workload = subject.spec.get("workload")
    if workload is None:
        return None
    return simulate(
        workload,
        subject.sheet.thermal.model_dump(mode="json", by_alias=True, exclude_none=True),
        subject.sheet.cpu.clock,
        latency_ms=_high(timing.latency_ms),
        calibration=timing.calibration,
        seed=str(subject.lane),
    )


def worst_service_ms(simulation: Simulation) -> dict[str, float]:
    """Return the largest percentiles of the service over all cases.

    Where requests are so rare that a case served none, one inference at the clock of that case stands for them.
    """
    served = [played.document()["serviceMs"] or rare_ms(simulation, played) for played in simulation.cases]
    return {name: max(found[name] for found in served) for name in ("p95", "p99")}


def rare_ms(simulation: Simulation, played: Played) -> dict[str, float]:
    """Return what an inference takes in a case in which none was asked for: at the lowest clock the die had."""
    clocks, slowest = simulation.die.clocks_khz, max(tick.step for tick in played.ticks)
    latency_ms = significant(simulation.latency_ns / 1e6 * clocks[0] / clocks[slowest])
    return {"p95": latency_ms, "p99": latency_ms}


def worst_dropped(simulation: Simulation) -> float:
    """Return the largest share of requests that a case had no place for."""
    return max(float(played.document()["droppedShare"]) for played in simulation.cases)


@contextlib.contextmanager
def alone(cache: Path, progress: Progress = lambda _step: None) -> Iterator[None]:
    """Hold the place of the one benchmark that may run on this machine; waits for another to end.

    Raises:
        EnvironmentFault: the cache cannot be written.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = (cache / "bench.lock").open("w")
    except OSError as error:
        raise EnvironmentFault(
            f"cannot write {cache}: {error.strerror or error}",
            hint="set EDGEWRIGHT_TARGETS to a folder on another disk",
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another benchmark on this machine")
            fcntl.flock(lock, fcntl.LOCK_EX)
        sweep()
        yield


def _high(figure: Banded) -> float:
    return figure.to_json()["high"]
