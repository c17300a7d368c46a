"""How a plan reads: a table for the terminal, Markdown for a pull request, JSON for machines."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from edgewright.plan.cache import Record
from edgewright.plan.figures import shown
from edgewright.plan.lane import StepId, lanes
from edgewright.plan.resolve import Plan, Step
from edgewright.plan.stage import MODEL_STAGES
from edgewright.spec.load import Workspace

Row = tuple[str, str, str, str]
HEADINGS: Row = ("model", "class", "to do", "why")


def rows(workspace: Workspace, plan: Plan) -> list[Row]:
    """Return one row per lane and per index: model, class, what is to be done, why."""
    found = []
    for name in sorted(workspace.models):
        own = [step for step in plan.steps if step.id.model == name and step.id.stage in MODEL_STAGES]
        found.append((name, "–", *_summary(own)))
        found += [
            (name, lane.hardware_class, *_summary(plan.of(lane)))
            for lane in lanes(workspace)
            if lane.model == name
        ]
        index = [step for step in plan.steps if step.id.model == name and step.id.stage == "index"]
        found.append((name, "all", *_summary(index)))
    return found


def _summary(steps: Iterable[Step]) -> tuple[str, str]:
    steps = list(steps)
    run = [step for step in steps if step.state == "run"]
    if run:
        first, last = run[0].id.stage, run[-1].id.stage
        return (first if first == last else f"{first} → {last}"), run[0].cause
    held = next((step for step in steps if step.state == "blocked"), None)
    return ("blocked", held.cause) if held else ("up to date", "")


def table(head: Row, body: list[Row]) -> str:
    """Return aligned columns; the last one is free to be long."""
    widths = [max(len(row[column]) for row in [head, *body]) for column in range(3)]
    return "\n".join(
        "  ".join(
            [*(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)), row[3]]
        ).rstrip()
        for row in [head, *body]
    )


def conclusion(plan: Plan, made: int = 0) -> str:
    """Return one sentence that says what the plan comes to, after a run in which `made` steps were due."""
    held = {
        (step.id.model, step.id.hardware_class)
        for step in plan.steps
        if step.state == "blocked" and step.id.hardware_class is not None
    }
    lanes_to_run = {
        (step.id.model, step.id.hardware_class) for step in plan.to_run if step.id.hardware_class is not None
    }
    blocked = f"; {len(held)} blocked by a gate" if held else ""
    if not plan.to_run:
        begin = f"{made} steps done" if made else "Nothing to do"
        return f"{begin}: every result is at hand{blocked}."
    return f"{len(plan.to_run)} steps in {len(lanes_to_run)} lanes to run{blocked}. Next: edgewright run"


def markdown(workspace: Workspace, plan: Plan) -> str:
    """Return the plan as a pull-request comment."""
    lines = [
        "### Edgewright plan",
        "",
        conclusion(plan),
        "",
        "| model | class | to do | why |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {model} | {name} | {todo} | {_plain(why)} |"
        for model, name, todo, why in rows(workspace, plan)
        if todo != "up to date"
    ]
    return "\n".join(lines if plan.to_run or len(lines) > 6 else lines[:3])


def _plain(text: str) -> str:
    """Return `text` so that Markdown shows it as it is: a cause may quote any words of the YAML."""
    # A zero-width space keeps a word from calling somebody (@name) or linking to an issue (#12).
    return re.sub(r"[@#]", "\\g<0>\u200b", re.sub(r"[\\`*_\[\]<>|~]", r"\\\g<0>", text))


def as_json(plan: Plan) -> dict[str, Any]:
    """Return the plan as JSON values."""
    return {
        "version": 1,
        "steps": [
            {
                "model": step.id.model,
                "stage": step.id.stage,
                "hardwareClass": step.id.hardware_class,
                "state": step.state,
                "cause": step.cause,
                "actionKey": step.record.key if step.record else None,
                "facts": step.record.facts if step.record else None,
            }
            for step in plan.steps
        ],
    }


def headline(step: StepId, record: Record) -> str:
    """Return the one figure of a finished step that a person looks for."""
    facts = record.facts
    match step.stage:
        case "checkpoint":
            return f"{facts['parameters']:,} parameters, {facts['source']}"
        case "exported":
            return f"fp32 {shown(facts['size_bytes'], 'bytes')}"
        case "variants":
            return f"{facts['variants']} variants"
        case "searched":
            return f"{facts['candidates']} candidates, {facts['on_the_target']} on the target"
        case "optimized":
            return f"{facts['chosen']}, {shown(facts['size_bytes'], 'bytes')}"
        case "evaluated":
            interval = f"{facts['low']:.4f} to {facts['high']:.4f}"
            return f"{facts['metric']} {facts['value']:.4f} ({interval}), fp32 {facts['fp32']:.4f}"
        case "benchmarked":
            return f"p95 {shown(facts['p95_ms'], 'ms')}, load {shown(facts['load_ms'], 'ms')} ({facts['calibration']})"
        case "gated":
            failed = ", ".join(facts["failed"])
            return f"blocked: {failed}" if failed else "every limit met"
        case "index":
            return f"{', '.join(facts['tags'])}"
        case _:
            return str(facts["digest"])[:19]
