"""Which checks the gate of one lane has: told from the specs alone, before anything is measured.

>>> checks_of(workspace, "digit-reader", "raspberry-pi-4")[-2:]     # it has a baseline
('regression-load', 'regression-inference')

A lane has a check where somebody demands something: the checks of `limits.CHECKS` always, the others where an optional
limit, a baseline or another optional part of the specs is there. Each function of `_DEMANDS` names those of one part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from edgewright.spec.limits import CHECKS, condition_check, effective_limits, effective_metric, limit_values
from edgewright.spec.workspace import Workspace

Demand = Callable[[Workspace, str, str], Iterator[str]]
"""Workspace, model, hardware class → the checks that one part of the specs demands of this lane."""


def checks_of(workspace: Workspace, model: str, hardware_class: str) -> tuple[str, ...]:
    """Return the checks of one lane, in the order of its gate report.

    A regression may be named here and absent from the report: only counting shows that the baseline comes from another
    engine (`edgewright.bench.baseline`). Whoever shows checks shows that as a warning, never as a pass.
    """
    return tuple(check for demand in _DEMANDS for check in demand(workspace, model, hardware_class))


def _always(_workspace: Workspace, _model: str, _hardware_class: str) -> Iterator[str]:
    yield from CHECKS


def _labels(workspace: Workspace, model: str, hardware_class: str) -> Iterator[str]:
    """The worst label is judged where a model says how much it may lose."""
    if effective_metric(workspace.models[model], hardware_class).max_label_drop is not None:
        yield "label-drop"


def _budgets(workspace: Workspace, model: str, hardware_class: str) -> Iterator[str]:
    """Instruction counts and a power cycle have a budget where a sheet or a model sets one."""
    limits = effective_limits(workspace.hardware[hardware_class], workspace.models[model], hardware_class)
    has = limit_values(limits)
    yield from (
        check for check in ("power-cycle", "instructions-load", "instructions-inference") if check in has
    )


def _regressions(workspace: Workspace, model: str, hardware_class: str) -> Iterator[str]:
    """Instruction counts are compared where there is something to compare them with."""
    if workspace.baseline_of(model, hardware_class) is not None:
        yield from ("regression-load", "regression-inference")


def _load(workspace: Workspace, model: str, _hardware_class: str) -> Iterator[str]:
    """A workload is simulated, and what it may lose is limited."""
    if workspace.models[model].workload is not None:
        yield "dropped-requests"


def _provider(workspace: Workspace, _model: str, hardware_class: str) -> Iterator[str]:
    """An execution provider is held to what the processor is, where a build of it runs without its device."""
    hardware = workspace.hardware[hardware_class]
    if hardware.cpu.arch == "amd64" and "OpenVINOExecutionProvider" in hardware.runtime.providers:
        yield from ("provider-outputs", "provider-drop")


def _fallback(workspace: Workspace, _model: str, hardware_class: str) -> Iterator[str]:
    """What runs when the accelerator does not start is held to the same metric."""
    if workspace.hardware[hardware_class].runtime.cpu_fallback:
        yield from ("fallback-floor", "fallback-drop")


def _conditions(workspace: Workspace, model: str, _hardware_class: str) -> Iterator[str]:
    """A field condition has a floor."""
    yield from (condition_check(condition.name) for condition in workspace.models[model].conditions)


_DEMANDS: tuple[Demand, ...] = (
    _always,
    _labels,
    _load,
    _provider,
    _budgets,
    _fallback,
    _regressions,
    _conditions,
)
