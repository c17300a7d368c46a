"""What each step was last made of, so that a plan can say *why* it must run again.

One small JSON file per fleet (`.edgewright/state/steps.json`) maps steps to their last action key; the cache holds what
that key was made of. Losing it costs explanations, never correctness.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgewright.plan.action import Action
from edgewright.plan.cache import Cache, Record
from edgewright.plan.lane import StepId
from edgewright.plan.note import write_note
from edgewright.spec.baseline import baseline_file_of
from edgewright.spec.limits import LIMIT_PATHS, METRIC_PATHS, condition_check
from edgewright.spec.load import Workspace

_READ_THE_SHEET = ("searched", "optimized")  # stages whose slice holds keys of the hardware sheet
_OPTIMIZATION = (
    "objective",
    "recipes",
    "timeBudget",
    "variants",
)  # keys of a slice that stand in that section
_NOT_THERE = ("missing", "outdated", "damaged")  # states of a userland that stand in place of its digest
_SHEETS = ("hardware", "model")  # first keys of a slice that holds both files' keys


class History:
    """The last action key of every step."""

    def __init__(self, root: Path) -> None:
        self._path = root / ".edgewright" / "state" / "steps.json"
        try:
            noted = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            noted = None
        self._keys: dict[str, str] = noted if isinstance(noted, dict) else {}

    def parts(self, step: StepId, cache: Cache) -> Mapping[str, Any] | None:
        """Return what `step` was last made of, or None when it never ran (or its record is gone)."""
        key = self._keys.get(str(step))
        record = cache.record(key) if key else None
        return record.parts if record else None

    def remember(self, records: Mapping[StepId, Record]) -> None:
        """Note the keys of results at hand; written only when something changed.

        Raises:
            EnvironmentFault: the note cannot be written; the old one stays.
        """
        keys = {**self._keys, **{str(step): record.key for step, record in records.items()}}
        if keys == self._keys:
            return
        self._keys = keys
        write_note(self._path, json.dumps(keys, indent=0, sort_keys=True).encode())


def explain(workspace: Workspace, action: Action, before: Mapping[str, Any]) -> str:
    """Return what differs between an action and its predecessor, most telling cause first."""
    after = action.parts
    causes = [
        f"{_place(workspace, action, path)}{_dotted(path)}: {_brief(old)} → {_brief(new)}"
        for path, old, new in _differences(before.get("spec", {}), after["spec"])
    ]
    causes += [f"{name} changed" for name in _changed(before.get("code", {}), after.get("code", {}))]
    causes += [
        f"{name} {old or 'absent'} → {new or 'absent'}"
        for name, old, new in _pairs(before.get("tools", {}), after["tools"])
    ]
    if before.get("stageVersion") != after["stageVersion"]:
        causes.append(f"stage {action.step.stage} is newer")
    if before.get("host") != after.get("host"):
        causes.append("measured on another machine")
    causes += [
        f"target {name} is {new} here: edgewright targets provision"
        if new in _NOT_THERE
        else f"target {name} changed"
        for name, _, new in _pairs(before.get("place", {}), after.get("place", {}))
    ]
    causes += [f"{name} changed" for name in _changed(before.get("inputs", {}), after["inputs"])]
    shown = "; ".join(causes[:3])
    return (
        shown + (f"; and {len(causes) - 3} more" if len(causes) > 3 else "") if causes else "result is gone"
    )


def _differences(old: Any, new: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any, Any]]:
    old, new = _by_name(old), _by_name(new)
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return [
            found
            for key in sorted({*old, *new})
            for found in _differences(old.get(key), new.get(key), (*path, key))
        ]
    return [] if old == new or path[:1] == ("sources",) else [(path, old, new)]


def _by_name(value: Any) -> Any:
    """Return a list of named items (inputs, conditions) as a mapping from their names, anything else as it is."""
    if (
        isinstance(value, list)
        and value
        and all(isinstance(item, Mapping) and "name" in item for item in value)
    ):
        return {item["name"]: item for item in value}
    return value


def _written(slice_: Any, path: tuple[str, ...]) -> tuple[str | int, ...]:
    """Return a path of `_differences` as the YAML counts it: names of items become their places in the list."""
    keys: list[str | int] = []
    for step in path:
        if _by_name(slice_) is slice_:
            keys.append(step)
        else:
            keys.append(next((i for i, item in enumerate(slice_) if item["name"] == step), step))
        slice_ = _by_name(slice_).get(step) if isinstance(_by_name(slice_), Mapping) else None
    return tuple(keys)


def _pairs(old: Mapping[str, str], new: Mapping[str, str]) -> list[tuple[str, str | None, str | None]]:
    return [
        (name, old.get(name), new.get(name))
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]


def _changed(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    return [name for name, _, _ in _pairs(old, new)]


def _dotted(path: tuple[str, ...]) -> str:
    return ".".join(path[1:] if path[0] in _SHEETS else path)


def _brief(value: Any) -> str:
    # On one line: a cause is a cell of a table.
    text = " ".join(_words(value).split())
    return text if len(text) <= 40 else f"{text[:37]}…"


def _words(value: Any) -> str:
    """Return a value of the YAML as the YAML writes it on one line."""
    if value is None:
        return "absent"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_words(one)}" for key, one in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        # A named item stands for its name, as in the paths of causes.
        items = (
            str(one["name"]) if isinstance(one, Mapping) and "name" in one else _words(one) for one in value
        )
        return "[" + ", ".join(items) + "]"
    return str(value)


def line_of(workspace: Workspace, source: str) -> str:
    """Return `file:line` of a limit named as `file#dotted.path`; one left to its default has that of its section.

    Reports carry the path, not the line, so that a comment added above a limit changes no digest.
    """
    file, _, path = source.partition("#")
    keys = tuple(int(key) if key.isdigit() else key for key in path.split("."))
    if file not in workspace.sources:
        return source
    return workspace.line(file, keys) or f"{workspace.sources[file].line(keys)}, by default"


def _place(workspace: Workspace, action: Action, path: tuple[str, ...]) -> str:
    """Return `file:line ` of the YAML a slice's path came from, or nothing when it is not one line of YAML."""
    step = action.step
    source = action.parts["spec"].get("sources", {}).get(_check_of(path))
    if source is not None:  # a limit: the sheet's own, or the model's for this class
        return f"{line_of(workspace, source)} "
    hardware = f"hardware/{step.hardware_class}.yaml"
    model = f"models/{step.model}/model.yaml"
    keys = _written(action.parts["spec"], path)
    if path[0] in _SHEETS:  # the slice keeps both files apart
        line = workspace.line(hardware if path[0] == "hardware" else model, keys[1:])
        return f"{line} " if line else ""
    candidates = [(model, keys), ("fleet.yaml", keys)]
    if path[:1] == ("baseline",):
        baseline = workspace.baselines.get(step.model)
        index = baseline.index_of(str(step.hardware_class)) if baseline else None
        if index is not None:
            candidates.insert(0, (baseline_file_of(step.model), ("classes", index, *keys[1:])))
    if path[0] in _OPTIMIZATION:
        candidates.insert(0, (model, ("optimization", *keys)))
        overrides = enumerate(workspace.models[step.model].overrides)
        index = next((i for i, one in overrides if one.hardware_class == step.hardware_class), None)
        if index is not None:
            candidates.insert(0, (model, ("overrides", index, "optimization", *keys)))
    if step.stage in _READ_THE_SHEET:  # both files have a description, for one
        candidates = [(hardware, keys), (hardware, ("cpu", *keys)), *candidates]
    if path == ("encryption",):  # switched on or off: by the model, or by the class
        candidates = [(model, ("encrypt",)), (hardware, ("encryption", "default")), (hardware, keys)]
    elif path[0] == "encryption":
        candidates = [(hardware, keys[:3]), (hardware, keys[:2])]
    for file, location in candidates:
        line = workspace.line(file, location) if location else None
        if line is not None:
            return f"{line} "
    return ""


def _check_of(path: tuple[str, ...]) -> str | None:
    """Return the gate check whose limit stands at `path` of the gate's slice."""
    if path[:1] == ("conditions",) and path[2:] == ("floor",):
        return condition_check(path[1])
    places = {("limits", *below): check for check, below in LIMIT_PATHS.items()}
    places |= {("metric", *below): check for check, below in METRIC_PATHS.items()}
    places |= {("maxDropped",): "dropped-requests"}
    return places.get(path)
