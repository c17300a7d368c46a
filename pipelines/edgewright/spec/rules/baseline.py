"""Rules of a baseline: it speaks of a model and of classes that exist, of each class once."""

from __future__ import annotations

from collections.abc import Iterator

from edgewright.spec.baseline import Baseline
from edgewright.spec.problem import did_you_mean
from edgewright.spec.rules import Context, Finding, repeated, rule


@rule(Baseline)
def model_exists(_baseline: Baseline, context: Context) -> Iterator[Finding]:
    """The file's name is the model's."""
    name = context.loaded.name
    if name not in context.draft.models:
        message = f"there is no model '{name}' (models/{name}/model.yaml)"
        yield Finding((), message, did_you_mean(name, context.draft.models) or "delete this file")


@rule(Baseline, "classes")
def classes_are_built(baseline: Baseline, context: Context) -> Iterator[Finding]:
    """Every class has its sheet and is one of the model's, and has one entry."""
    model = context.draft.models.get(context.loaded.name)
    built = model.document.classes if model is not None and model.has("classes") else None
    for index, entry in enumerate(baseline.classes):
        path, name = ("classes", index, "hardwareClass"), entry.hardware_class
        if name not in context.draft.hardware:
            hint = did_you_mean(name, context.draft.hardware) or "delete this entry"
            yield Finding(path, f"there is no hardware class '{name}' (hardware/{name}.yaml)", hint)
        elif built is not None and name not in built:
            message = f"'{name}' is not one of the 'classes' of {context.loaded.name}"
            yield Finding(path, message, "delete this entry")
    for index, first, name in repeated(entry.hardware_class for entry in baseline.classes):
        line = context.loaded.source.at(("classes", first)).line
        yield Finding(("classes", index, "hardwareClass"), f"'{name}' already has an entry on line {line}")
