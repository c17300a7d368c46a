"""Rules of a model's variants: each has what its recipe needs, a name of its own, and a way to come into being."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from edgewright.spec.model import RECIPES, Model, Variant
from edgewright.spec.quantity import PERCENT
from edgewright.spec.rules import Context, Finding, repeated, rule
from edgewright.spec.rules.model import check_checkpoint, is_onnx
from edgewright.spec.source import Path

_RATIO = ("prune", "sparsify")
_TAKEN = frozenset({*RECIPES, *get_args(Variant.model_fields["recipe"].annotation), "fp32", "trained"})
"""What tables call other things."""
_LEAST, _MOST = 1.0, 95.0
"""Below a percent nothing is gained, and beyond 95 % no network of those measured was worth anything."""


@rule(Model, "optimization")
def variants_have_names_of_their_own(model: Model, context: Context) -> Iterator[Finding]:
    """A table of candidates names each by variant and recipe."""
    names = [variant.name for variant in model.optimization.variants]
    for index, first, name in repeated(names):
        yield Finding((*_place(index), "name"), f"'{name}' is already variant {first}")
    for index, name in enumerate(names):
        if name in _TAKEN:
            message = f"'{name}' is what a recipe is called"
            yield Finding((*_place(index), "name"), message, f"say what it is: {name}-1, small, taught")


@rule(Model, "optimization")
def variants_say_what_their_recipe_needs(model: Model, context: Context) -> Iterator[Finding]:
    """See `needs_of_recipes`."""
    yield from needs_of_recipes(model)


def needs_of_recipes(model: Model) -> Iterator[Finding]:
    """Find what is missing or of no effect: `ratio` belongs to pruning, `student` to distillation.

    A variant that is only read from its pinned file needs neither.
    """
    for index, variant in enumerate(model.optimization.variants):
        place, pinned = _place(index), variant.checkpoint is not None and variant.train is None
        if variant.recipe in _RATIO:
            if variant.ratio is None and not pinned:
                what = "channels to remove" if variant.recipe == "prune" else "weights set to zero"
                yield Finding(
                    place, f"'ratio' is missing: the share of {what}", "add ratio: 50%", value=False
                )
            elif variant.ratio is not None and not _LEAST <= variant.ratio <= _MOST:
                message = f"must be {PERCENT.format(_LEAST)} to {PERCENT.format(_MOST)}"
                yield Finding((*place, "ratio"), f"{message}, not {PERCENT.format(variant.ratio)}")
        elif variant.ratio is not None:
            message = f"'ratio' has no effect with {variant.recipe}"
            yield Finding((*place, "ratio"), message, "remove it", value=False)
        if variant.recipe == "distill":
            if variant.student is None and not pinned:
                message = "'student' is missing: what builds the network to teach"
                yield Finding(place, message, "add student: {factory: network:small}", value=False)
        elif variant.student is not None:
            message = f"'student' has no effect with {variant.recipe}"
            yield Finding((*place, "student"), message, "remove it", value=False)


@rule(Model, "network", "optimization", "data")
def variants_come_from_somewhere(model: Model, context: Context) -> Iterator[Finding]:
    """A pinned ONNX file, or training code and a network for it."""
    for index, variant in enumerate(model.optimization.variants):
        place = _place(index)
        if variant.checkpoint is not None:
            yield from check_checkpoint(variant.checkpoint, (*place, "checkpoint"), context)
            if (variant.checkpoint.path or variant.checkpoint.uri) and not is_onnx(variant.checkpoint):
                key = "path" if variant.checkpoint.path is not None else "uri"
                message = "a variant is pinned as a whole model, an .onnx file"
                hint = f"edgewright variants {context.loaded.name} --write makes it"
                yield Finding((*place, "checkpoint", key), message, hint)
        elif model.network is None:
            message = "there is no 'network' that this variant could be trained from"
            yield Finding(place, message, "pin it: checkpoint: {path: NAME.onnx, sha256: …}", value=False)
        elif variant.train is None:
            message = "neither 'train' nor 'checkpoint'"
            yield Finding(
                place, message, "name the entry that tunes it: train: {entry: train:finetune}", value=False
            )
        if variant.train is not None and model.network is None and variant.checkpoint is not None:
            message = "'train' has no effect without a 'network'"
            yield Finding((*place, "train"), message, "remove it", value=False)
    if model.data.training is None and any(variant.train for variant in model.optimization.variants):
        message = "'training' is missing: variants are trained on it, and no other set may hold its samples"
        yield Finding(("data",), message, "add training: data:training", value=False)


def _place(index: int) -> Path:
    return ("optimization", "variants", index)
