"""What the emulated target says about one built artifact: does it work, what does it cost, how does it bear load.

>>> found = assess(workspace, Lane("digit-reader", "raspberry-pi-4"), artifact, targets_cache())   # doctest: +SKIP
>>> found.timing.latency_ms.high, found.calibration                                              # doctest: +SKIP
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

from edgewright.bench.counting.build import build
from edgewright.bench.counting.counts import Counts, count
from edgewright.bench.functional import Functional, check, sample_of
from edgewright.bench.report import Check
from edgewright.bench.target.emulator import Target, emulated_target, open_target
from edgewright.bench.target.processor import Core, nearest
from edgewright.bench.timing import Precision, Timing, predict
from edgewright.bench.virtual.simulate import Simulation, simulate
from edgewright.build.entry import ModelCode
from edgewright.build.samples import load
from edgewright.errors import BuildError, EnvironmentFault
from edgewright.plan.lane import Lane
from edgewright.plan.stage import dump
from edgewright.spec.hardware import HardwareClass
from edgewright.spec.limits import effective_limits, effective_metric, limit_sources
from edgewright.spec.workspace import Workspace

VERSION = 1
TELL_CASE = "hot"  # what a device must bear: the class's hottest air
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Artifact:
    """The files of one lane that its device would run.

    Attributes:
        model: `model.onnx`.
        runtime: `runtime.json`.
        golden: `golden.json`.
    """

    model: Path
    runtime: Path
    golden: Path

    @property
    def storage_bytes(self) -> int:
        """What a device reads before it can infer."""
        return self.model.stat().st_size + self.runtime.stat().st_size

    @property
    def settings(self) -> dict[str, Any]:
        """The content of `runtime.json`."""
        document: dict[str, Any] = json.loads(self.runtime.read_bytes())
        return document


@dataclass(frozen=True)
class Assessment:
    """What is known of one artifact on one class.

    Attributes:
        precision: Of the artifact, as its `runtime.json` says.
        functional: Whether it works there.
        counts: What it costs in instructions; None where it does not run.
        timing: What it costs in time; None where it does not run.
        simulation: Queue and heat, at the upper end of the latency's band; None without `workload` in model.yaml.
        checks: Limits of the lane that can be judged from these.
        notes: What stands between the figures and the device.
    """

    lane: Lane
    precision: str
    functional: Functional
    counts: Counts | None
    timing: Timing | None
    simulation: Simulation | None
    checks: tuple[Check, ...]
    notes: tuple[str, ...]

    @property
    def calibration(self) -> str:
        """How the times relate to the device."""
        return self.timing.calibration if self.timing else "none"

    @property
    def verdict(self) -> str:
        """`pass` when the artifact works on its target and every check passes."""
        works = self.functional.verdict == "pass"
        return "pass" if works and all(check.verdict == "pass" for check in self.checks) else "fail"

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values, the same for the same artifact, class and target."""
        return {
            "version": VERSION,
            "model": self.lane.model,
            "hardwareClass": self.lane.hardware_class,
            "precision": self.precision,
            "verdict": self.verdict,
            "calibration": self.calibration,
            "functional": self.functional.to_json(),
            "counts": self.counts.to_json() if self.counts else None,
            "timing": self.timing.to_json() if self.timing else None,
            "virtual": self.simulation.document() if self.simulation else None,
            "checks": [check_json(item) for item in self.checks],
            "notes": list(self.notes),
        }


def assess(
    workspace: Workspace,
    lane: Lane,
    artifact: Artifact,
    cache: Path,
    progress: Progress = lambda _step: None,
) -> Assessment:
    """Run, count, predict and simulate one artifact.

    Args:
        workspace: The fleet.
        lane: Model and class.
        artifact: Built for this lane.
        cache: The targets cache.
        progress: Called with what begins.

    Raises:
        EnvironmentFault: a userland, the emulator or a compiler is missing; names the command that mends it.
        SpecError: the class names a processor the emulator does not know.
        BuildError: the validation data cannot be loaded, or counting fails where running did not.
    """
    hardware, model = workspace.hardware[lane.hardware_class], workspace.models[lane.model]
    target = open_target(hardware, cache)
    counted = countable(target, hardware, cache)
    plugin = build(cache)
    settings, golden = artifact.settings, json.loads(artifact.golden.read_bytes())

    progress(f"running on {target.label}")
    code = ModelCode(workspace.root / "models" / lane.model)
    validation = load(code, model.data.validation, dump(model.signature))
    sample = sample_of(validation, artifact.model.read_bytes())
    functional = check(target, artifact.model, artifact.runtime, golden, sample)

    counts = timing = simulation = None
    if functional.accuracy is not None:  # it ran, whatever it answered
        progress(f"counting instructions on {counted.label}")
        counts = count(counted, artifact.model, settings, golden, plugin=plugin)
        precision = arithmetic(settings["precision"])
        timing = predict(counts, hardware, artifact.storage_bytes, precision=precision)
        progress("simulating load and heat")
        simulation = under_load(workspace, lane, timing)
    return Assessment(
        lane=lane,
        precision=settings["precision"],
        functional=functional,
        counts=counts,
        timing=timing,
        simulation=simulation,
        checks=checks(workspace, lane, functional, timing, simulation),
        notes=_notes(functional, target, counted, timing, simulation),
    )


def countable(target: Target, hardware: HardwareClass, cache: Path) -> Target:
    """Return the emulated processor on which a class's instructions are counted.

    That is its target; for a class that runs on this machine's own processor, the nearest emulated one.

    Raises:
        EnvironmentFault: its userland is missing.
        SpecError: the emulator does not know it.
    """
    if target.emulated:
        return target
    cpu = hardware.cpu
    userland = "amd64-qemu" if cpu.arch == "amd64" else cpu.arch
    emulated = nearest(cpu.arch, cpu.model, cpu.isa)
    why = f"instructions are counted on an emulated {emulated}, in place of {cpu.model}"
    return emulated_target(Core(userland, emulated, cpu.model, cpu.cores, cpu.isa, why), cache)


def arithmetic(precision: str) -> Precision:
    """Return which of a class's two coefficients a precision is priced with."""
    return "int8" if precision.startswith("int") else "fp32"


def under_load(workspace: Workspace, lane: Lane, timing: Timing) -> Simulation | None:
    """Play the model's workload at the upper end of the latency; None when model.yaml declares none."""
    hardware, model = workspace.hardware[lane.hardware_class], workspace.models[lane.model]
    if model.workload is None:
        return None
    return simulate(
        dump(model.workload),
        dump(hardware.thermal),
        hardware.cpu.clock,
        latency_ms=timing.latency_ms.to_json()["high"],
        calibration=timing.calibration,
        seed=str(lane),
    )


def checks(
    workspace: Workspace,
    lane: Lane,
    functional: Functional,
    timing: Timing | None,
    simulation: Simulation | None,
) -> tuple[Check, ...]:
    """Return the lane's limits beside the upper ends of what was predicted.

    Latency percentiles are those of the service in the class's hottest air, where heat slows it down; without a
    workload to simulate, both are the latency itself.
    """
    model, name = workspace.models[lane.model], lane.hardware_class
    limits = effective_limits(workspace.hardware[name], model, name)
    metric, sources = effective_metric(model, name), limit_sources(model, lane.model, name)
    latency, startup = (
        (timing.latency_ms.to_json()["high"], timing.startup_ms.to_json()["high"]) if timing else (None, None)
    )
    service = service_ms(simulation) or {"p95": latency, "p99": latency}
    return (
        Check("load-time", startup, limits.load_time, "ms", "max", sources["load-time"]),
        Check("latency-p95", service["p95"], limits.latency.p95, "ms", "max", sources["latency-p95"]),
        Check("latency-p99", service["p99"], limits.latency.p99, "ms", "max", sources["latency-p99"]),
        Check("accuracy-floor", functional.accuracy, metric.floor, "ratio", "min", sources["accuracy-floor"]),
    )


def service_ms(simulation: Simulation | None) -> Mapping[str, float | None] | None:
    """Return the percentiles of the service in the hottest air, None when nothing was served or simulated."""
    if simulation is None:
        return None
    cases = {case["name"]: case for case in simulation.document()["cases"]}
    found: Mapping[str, float | None] | None = (cases.get(TELL_CASE) or next(iter(cases.values())))[
        "serviceMs"
    ]
    return found


def check_json(item: Check) -> dict[str, Any]:
    """Return one check as JSON values."""
    return {
        "name": item.name,
        "measured": item.measured,
        "limit": item.limit,
        "unit": item.unit,
        "direction": item.direction,
        "headroom": item.headroom,
        "verdict": item.verdict,
        "source": item.source,
    }


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
        yield


def artifact_of(files: Mapping[str, Path]) -> Artifact:
    """Return the artifact among a lane's files, `"<stage>/<file name>"` → path as stages name them.

    Raises:
        BuildError: one is missing.
    """
    try:
        return Artifact(
            files["optimized/model.onnx"], files["optimized/runtime.json"], files["evaluated/golden.json"]
        )
    except KeyError as error:
        raise BuildError(f"the lane has no {error.args[0]}", hint="edgewright run") from error


def _notes(
    functional: Functional,
    target: Target,
    counted: Target,
    timing: Timing | None,
    simulation: Simulation | None,
) -> tuple[str, ...]:
    notes = [*functional.notes]
    if timing is None:
        return tuple(notes)
    if counted is not target:
        notes += counted.notes
    notes += timing.notes
    if simulation is None:
        notes.append("model.yaml declares no workload: neither queue nor heat was simulated")
    return tuple(dict.fromkeys(notes))
