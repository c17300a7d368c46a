"""Rules of field conditions: each has its own name, changes something, and happens to what a sensor measures."""

from __future__ import annotations

from collections.abc import Iterator

from edgewright.spec.condition import Condition
from edgewright.spec.model import Model, Tensor
from edgewright.spec.problem import did_you_mean
from edgewright.spec.rules import Context, Finding, repeated, rule

SIGNALS = ("float32", "uint8")
_UINT8 = (0, 255)


@rule(Model, "conditions")
def conditions_have_their_own_names(model: Model, context: Context) -> Iterator[Finding]:
    """Gate checks speak of conditions by name."""
    for index, first, name in repeated(condition.name for condition in model.conditions):
        line = context.loaded.source.at(("conditions", first)).line
        yield Finding(("conditions", index, "name"), f"condition '{name}' is already on line {line}")


@rule(Model, "conditions")
def conditions_make_a_difference(model: Model, context: Context) -> Iterator[Finding]:
    """A condition without an effect is a check that cannot fail; a key without one is a misunderstanding."""
    for index, condition in enumerate(model.conditions):
        if not _changes_something(condition) and not _misspelt(context, index):
            message = f"condition '{condition.name}' changes nothing"
            yield Finding(("conditions", index, "name"), message, "add gain, offset, snr, adcBits or dropped")
        if condition.fill is not None and condition.dropped is None:
            message = "'fill' has no effect without 'dropped'"
            yield Finding(("conditions", index, "fill"), message, "add dropped: 2%", value=False)
        if condition.full_scale is not None and not condition.full_scale[0] < condition.full_scale[1]:
            low, high = condition.full_scale
            message = f"full scale must rise, not go from {low:g} to {high:g}"
            yield Finding(("conditions", index, "fullScale"), message, "write the least value first")


def _changes_something(condition: Condition) -> bool:
    knobs = (condition.offset, condition.snr, condition.adc_bits, condition.full_scale, condition.dropped)
    return condition.gain not in (None, 1) or any(knob is not None for knob in knobs)


def _misspelt(context: Context, index: int) -> bool:
    """Whether a key of this condition is unknown: its own problem says so, and what it meant would change something."""
    known = {field.alias for field in Condition.model_fields.values()}
    written = (path for path in context.loaded.source.keys if path[:2] == ("conditions", index))
    return any(len(path) == 3 and path[2] not in known for path in written)


@rule(Model, "conditions", "signature")
def conditions_happen_to_signals(model: Model, context: Context) -> Iterator[Finding]:
    """Token numbers and the like come from no sensor; noise on them would mean nothing."""
    inputs = {tensor.name: tensor for tensor in model.signature.inputs}
    signals = [name for name, tensor in inputs.items() if tensor.dtype in SIGNALS]
    for index, condition in enumerate(model.conditions):
        for place, name in enumerate(condition.inputs or ()):
            at = ("conditions", index, "inputs", place)
            if name not in inputs:
                yield Finding(at, f"there is no input '{name}'", did_you_mean(name, inputs, "inputs are"))
            elif name not in signals:
                yield Finding(at, _no_signal(inputs[name]), "leave it out")
        for place, _first, name in repeated(condition.inputs or ()):
            yield Finding(("conditions", index, "inputs", place), f"'{name}' is here twice")
        unfit = next((tensor for name, tensor in inputs.items() if name not in signals), None)
        if condition.inputs is None and unfit is not None:
            hint = f"write inputs: [{', '.join(signals)}]" if signals else "this model can have no conditions"
            yield Finding(("conditions", index, "name"), _no_signal(unfit), hint)


def _no_signal(tensor: Tensor) -> str:
    return f"input '{tensor.name}' is {tensor.dtype}; conditions are for signals ({' or '.join(SIGNALS)})"


@rule(Model, "conditions", "signature")
def full_scale_fits_the_type(model: Model, context: Context) -> Iterator[Finding]:
    """What a byte cannot hold, no converter behind it can express."""
    low, high = _UINT8
    for index, condition in enumerate(model.conditions):
        scale = condition.full_scale
        if scale is None or (low <= min(scale) and max(scale) <= high):
            continue
        for tensor in model.signature.inputs:
            if tensor.dtype == "uint8" and tensor.name in (condition.inputs or (tensor.name,)):
                message = f"input '{tensor.name}' is uint8 and holds {low} to {high}"
                yield Finding(("conditions", index, "fullScale"), message, f"write [{low}, {high}] or less")
                break


@rule(Model, "overrides", "conditions")
def overrides_speak_of_conditions_that_exist(model: Model, context: Context) -> Iterator[Finding]:
    """A floor for a condition that the model does not have, or for the second time, does nothing."""
    known = [condition.name for condition in model.conditions]
    for index, override in enumerate(model.overrides):
        names = [item.name for item in override.conditions or ()]
        for place, name in enumerate(names):
            at = ("overrides", index, "conditions", place, "name")
            if name not in known:
                hint = did_you_mean(name, known, "conditions are") if known else "add it under 'conditions'"
                yield Finding(at, f"there is no condition '{name}'", hint)
        for place, _first, name in repeated(names):
            yield Finding(("overrides", index, "conditions", place, "name"), f"'{name}' is here twice")
