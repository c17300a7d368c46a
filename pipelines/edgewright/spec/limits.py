"""What one lane must meet, and which key of which file says so.

>>> effective_limits(hardware, model, "raspberry-pi-4").latency.p95
30.0
>>> limit_sources(model, "digit-reader", "raspberry-pi-4")["latency-p95"]
'models/digit-reader/model.yaml#overrides.0.limits.latency.p95'
>>> limit_values(hardware.limits)["regression-load"]
1.0
"""

from __future__ import annotations

from typing import Any, TypeVar

from edgewright.spec.base import Spec
from edgewright.spec.budget import InstructionLimits, Latency, Limits
from edgewright.spec.condition import Condition
from edgewright.spec.hardware import HardwareClass
from edgewright.spec.model import LimitsOverride, Metric, Model, Optimization, Override

S = TypeVar("S", bound=Spec)
T = TypeVar("T")

LIMIT_PATHS: dict[str, tuple[str, ...]] = {
    "artifact-size": ("artifactSize",),
    "load-time": ("loadTime",),
    "power-cycle": ("powerCycle",),
    "latency-p95": ("latency", "p95"),
    "latency-p99": ("latency", "p99"),
    "peak-memory": ("peakMemory",),
    "instructions-load": ("instructions", "load"),
    "instructions-inference": ("instructions", "inference"),
    "regression-load": ("regression",),
    "regression-inference": ("regression",),
}
"""Gate check → where its limit stands below `limits`."""

METRIC_PATHS: dict[str, tuple[str, ...]] = {
    "accuracy-floor": ("floor",),
    "accuracy-drop": ("maxDrop",),
    "label-drop": ("maxLabelDrop",),
    "target-drop": ("maxDrop",),
    "provider-drop": ("maxDrop",),
}
"""Gate check → where its limit stands below `metric`."""


def condition_check(name: str) -> str:
    """Return the gate check of a field condition."""
    return f"accuracy-under-{name}"


CHECKS = (
    "artifact-size", "load-time", "latency-p95", "latency-p99", "peak-memory", "accuracy-floor", "accuracy-drop",
    "target-outputs", "target-drop",
)  # fmt: skip
"""Checks that every lane has, in the order of a gate report; `edgewright.spec.checks` adds a lane's own."""


def override_of(model: Model, class_name: str) -> Override | None:
    """Return what `model` says about one class, if anything."""
    return next((item for item in model.overrides if item.hardware_class == class_name), None)


def effective_limits(hardware: HardwareClass, model: Model, class_name: str) -> Limits:
    """Return the limits of a lane: the class's own, narrowed by the model's override where it has one."""
    override = override_of(model, class_name)
    return narrowed(hardware.limits, override.limits if override else None)


def narrowed(limits: Limits, override: LimitsOverride | None) -> Limits:
    """Return `limits` with what `override` sets put in their place."""
    if override is None:
        return limits
    latency = override.latency
    return limits.model_copy(
        update={
            "artifact_size": _first(override.artifact_size, limits.artifact_size),
            "load_time": _first(override.load_time, limits.load_time),
            "power_cycle": _first(override.power_cycle, limits.power_cycle),
            "latency": Latency.model_construct(
                p95=_first(latency.p95 if latency else None, limits.latency.p95),
                p99=_first(latency.p99 if latency else None, limits.latency.p99),
            ),
            "peak_memory": _first(override.peak_memory, limits.peak_memory),
            "instructions": _instructions(override.instructions, limits.instructions),
            "regression": _first(override.regression, limits.regression),
        }
    )


def _instructions(
    override: InstructionLimits | None, limits: InstructionLimits | None
) -> InstructionLimits | None:
    if override is None or limits is None:
        return override or limits
    return InstructionLimits.model_construct(
        load=_first(override.load, limits.load), inference=_first(override.inference, limits.inference)
    )


def limit_values(limits: Limits | LimitsOverride) -> dict[str, float]:
    """Return gate check → its limit in base units, for those `limits` has (bytes, milliseconds, percent, counts)."""
    tree = limits.model_dump(by_alias=True)
    found = {check: _value(tree, path) for check, path in LIMIT_PATHS.items()}
    return {check: value for check, value in found.items() if value is not None}


def effective_metric(model: Model, class_name: str) -> Metric:
    """Return the metric of a lane, with the floor and the drops its override sets."""
    override = override_of(model, class_name)
    return _updated(model.metric, override.metric if override else None)


def effective_conditions(model: Model, class_name: str) -> tuple[Condition, ...]:
    """Return the field conditions of a lane, in the model's order, with the floors its override sets."""
    override = override_of(model, class_name)
    floors = {item.name: item.floor for item in (override.conditions or ())} if override else {}
    return tuple(
        condition.model_copy(update={"floor": floors.get(condition.name, condition.floor)})
        for condition in model.conditions
    )


def effective_optimization(model: Model, class_name: str) -> Optimization:
    """Return what may be tried on one class and what counts, with what its override sets."""
    override = override_of(model, class_name)
    return _updated(model.optimization, override.optimization if override else None)


def recipients_of(hardware: HardwareClass, model: Model) -> tuple[str, ...]:
    """Return the files of the public keys that a lane's weights are encrypted for; none: they are not encrypted."""
    encryption = hardware.encryption
    if encryption is None:
        return ()
    wanted = encryption.default if model.encrypt is None else model.encrypt
    return encryption.recipients if wanted else ()


def limit_sources(model: Model, model_name: str, class_name: str) -> dict[str, str]:
    """Return gate check → the YAML that decides its limit (or would, were there one), as `file#dotted.path`.

    Paths, not lines: a comment added above a limit must change no report. `Workspace.line` finds the line.
    """
    model_file, class_file = model_file_of(model_name), class_file_of(class_name)
    index = next((i for i, o in enumerate(model.overrides) if o.hardware_class == class_name), None)
    override = model.overrides[index].model_dump(by_alias=True) if index is not None else {}
    sources = {"dropped-requests": f"{model_file}#workload.maxDropped"} if model.workload else {}
    sections = (("limits", LIMIT_PATHS, class_file), ("metric", METRIC_PATHS, model_file))
    for section, checks, file in sections:
        for check, below in checks.items():
            path = ".".join((section, *below))
            if _value(override, (section, *below)) is not None:
                sources[check] = f"{model_file}#overrides.{index}.{path}"
            else:
                sources[check] = f"{file}#{path}"
    return sources | _floor_sources(model, model_file, index)


def _floor_sources(model: Model, model_file: str, override_index: int | None) -> dict[str, str]:
    """Return the check of each field condition → the YAML that sets its floor."""
    places = {item.name: f"conditions.{i}.floor" for i, item in enumerate(model.conditions)}
    if override_index is not None:
        overridden = model.overrides[override_index].conditions or ()
        places |= {
            item.name: f"overrides.{override_index}.conditions.{i}.floor" for i, item in enumerate(overridden)
        }
    return {condition_check(name): f"{model_file}#{place}" for name, place in places.items()}


def class_file_of(class_name: str) -> str:
    """Return the file of a hardware class, relative to the repository."""
    return f"hardware/{class_name}.yaml"


def model_file_of(model_name: str) -> str:
    """Return the file of a model, relative to the repository."""
    return f"models/{model_name}/model.yaml"


def _value(tree: Any, path: tuple[str, ...]) -> Any:
    """Return the value at `path`; None where `p95:` or one of its parents is left empty or out."""
    for step in path:
        tree = tree.get(step) if isinstance(tree, dict) else None
    return tree


def _updated(spec: S, override: Spec | None) -> S:
    """Return `spec` with every field that `override` sets."""
    if override is None:
        return spec
    chosen = {name: getattr(override, name) for name in type(override).model_fields}
    return spec.model_copy(update={name: value for name, value in chosen.items() if value is not None})


def _first(value: T | None, otherwise: T) -> T:
    return otherwise if value is None else value
