"""`edgewright variants`: the networks a model derives from its trained one, made, compared and pinned."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgewright.cli.document import model_document, pinned_path
from edgewright.cli.options import root_option
from edgewright.errors import SpecError
from edgewright.publish.durable import storage, write_file

if TYPE_CHECKING:
    from edgewright.build.variants.derive import Derived
    from edgewright.spec.document import Loaded
    from edgewright.spec.model import Model

SMALL_BYTES = 1_000_000
"""Up to here a file is no burden to a Git repository."""


@click.command()
@root_option
@click.argument("model")
@click.option("--only", "names", multiple=True, metavar="NAME", help="Only this variant; may be repeated.")
@click.option("--write", is_flag=True, help="Write the .onnx files, and their digests into model.yaml.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON; no progress.")
def command(root: Path, model: str, names: tuple[str, ...], write: bool, as_json: bool) -> None:
    """Make the variants that MODEL declares, and print what they are worth on the selection data.

    Pruned, sparsified, distilled or quantization-aware networks are trained here whether they are pinned or not. With
    --write each is stored as NAME.onnx beside model.yaml and pinned there, so that every machine builds from the same
    bytes; without, nothing is changed.
    """
    loaded = model_document(root, model)
    chosen = _chosen(loaded, model, names)
    made = _made(root, model, loaded.document, chosen, quiet=as_json)
    if as_json:
        found = [{**derived.facts, "seconds": round(derived.seconds, 1)} for derived in made]
        click.echo(json.dumps({"version": 1, "model": model, "variants": found}, indent=2))
    else:
        click.echo(table(made))
    if write:
        _write(root, model, loaded, made, quiet=as_json)
    elif not as_json:
        click.echo(f"\nnothing was written; `edgewright variants {model} --write` pins them in model.yaml")


def _chosen(loaded: Loaded[Model], model: str, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the variants to make, in the words of the YAML.

    Raises:
        SpecError: there are none, one is unknown, or nothing here could train it.
    """
    from edgewright.spec.problem import InvalidSpec, did_you_mean
    from edgewright.spec.rules.variant import needs_of_recipes

    document = loaded.document
    if not document.optimization.variants:
        raise SpecError(
            f"{model} declares no variants",
            hint="add them under optimization.variants (edgewright explain model.optimization.variants)",
        )
    if document.network is None:
        raise SpecError(f"{model} has no network that variants could be trained from")
    known = [variant.name for variant in document.optimization.variants]
    for name in names:
        if name not in known:
            raise SpecError(f"{model} has no variant {name!r}", hint=did_you_mean(name, known, "it has"))
    problems = [
        loaded.source.problem(found.message, found.path, value=found.value, suggestion=found.suggestion)
        for found in needs_of_recipes(document)
    ]
    if problems:
        raise InvalidSpec(problems)
    chosen = []
    for variant in document.optimization.variants:
        if names and variant.name not in names:
            continue
        if variant.train is not None:
            chosen.append(variant.model_dump(mode="json", by_alias=True, exclude_none=True))
        elif variant.name in names:
            raise SpecError(f"variant {variant.name!r} of {model} has no 'train' entry: it can only be read")
    if not chosen:
        raise SpecError(f"no variant of {model} has a 'train' entry: they can only be read")
    return chosen


def _made(
    root: Path, model: str, document: Model, chosen: Sequence[Mapping[str, Any]], *, quiet: bool
) -> list[Derived]:
    import tempfile

    from edgewright.build.checkpoint import FILE
    from edgewright.build.checkpoint import run as checkpoint
    from edgewright.build.entry import ModelCode
    from edgewright.build.samples import load
    from edgewright.build.variants.derive import derive
    from edgewright.build.variants.origin import Origin
    from edgewright.plan.job import Job

    tell = (lambda _text: None) if quiet else (lambda text: click.echo(f"{text} …", err=True))
    spec = document.model_dump(mode="json", by_alias=True, exclude_none=True)
    code = ModelCode(root / "models" / model)
    with tempfile.TemporaryDirectory(prefix="edgewright-variants-") as scratch:
        checkpoint(Job(root, model, None, spec, {}, Path(scratch), tell))
        weights = (Path(scratch) / FILE).read_bytes()
    selection = load(code, document.data.selection, spec["signature"])
    origin = Origin(code, spec["network"], weights, spec["signature"], selection, document.metric.name)
    return [derive(origin, variant, tell) for variant in chosen]


def table(made: Sequence[Derived]) -> str:
    """Return one row per variant."""
    from edgewright.plan.figures import shown

    rows = [("variant", "recipe", "parameters", "size", "metric", "fp32", "took", "")]
    for derived in made:
        facts, took = derived.facts, f"{derived.seconds:.1f} s"
        if derived.model is None:
            rows.append(
                (facts["name"], facts["recipe"], "", "", "", "", took, f"does not apply: {facts['reason']}")
            )
            continue
        metric = facts["metric"]
        rows.append(
            (
                facts["name"],
                facts["recipe"],
                f"{facts['parameters']:,}",
                shown(facts["sizeBytes"], "bytes"),
                f"{metric['value']:.4f}",
                f"{metric['fp32']:.4f}",
                took,
                remark(facts),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(7)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[7]])
        for row in rows
    ]
    judged = next((derived.facts["metric"] for derived in made if derived.model is not None), None)
    if judged is not None:
        lines.append(f"\nmetric: {judged['name']} on {judged['samples']} selection samples, fp32 in torch")
    return "\n".join(line.rstrip() for line in lines)


def remark(facts: Mapping[str, Any]) -> str:
    """Return what the recipe has to tell, in a few words."""
    if facts["recipe"] == "prune":
        before, after = (sum(widths[side] for widths in facts["channels"].values()) for side in (0, 1))
        return f"{after:,} of {before:,} channels left; kept whole: {', '.join(facts['kept']) or 'none'}"
    if facts["recipe"] == "sparsify":
        return f"{facts['zerosExported']:.1%} zeros"
    if facts["recipe"] == "qat":
        return f"{facts['roundedMetric']:.4f} with int8 rounding"
    taught, scratch = facts["distilled"], facts["scratch"]
    seeds = f"{len(facts['seeds'])} seeds: {_spread(taught)} taught, {_spread(scratch)} from scratch"
    return f"{seeds}; {'the teacher helps' if facts['beyondSpread'] else 'no sure gain from the teacher'}"


def _spread(figure: Mapping[str, float]) -> str:
    return f"{figure['mean']:.4f} ({figure['min']:.4f} to {figure['max']:.4f})"


def _write(root: Path, model: str, loaded: Loaded[Model], made: Sequence[Derived], *, quiet: bool) -> None:
    """Write the files, then the notes about them, then the YAML: whatever stops half-way, no digest names a lost file.

    Raises:
        SpecError: a path leaves the model's folder, or the YAML's layout cannot be extended.
        EnvironmentFault: something cannot be written.
    """
    from edgewright.cli.pin import pinned

    folder = root / "models" / model
    file = folder / "model.yaml"
    say = (lambda _text: None) if quiet else click.echo
    text = file.read_bytes().decode("utf-8")
    variants = loaded.document.optimization.variants
    order = [variant.name for variant in variants]
    writes = []
    for derived in made:
        if derived.model is None:
            continue
        index = order.index(derived.facts["name"])
        checkpoint = variants[index].checkpoint
        target = pinned_path(root, model, checkpoint, derived.facts["file"])
        text = pinned(text, index, target.relative_to(folder).as_posix(), derived.facts["sha256"])
        writes.append((target, derived.model, checkpoint.uri if checkpoint is not None else None))
    if not writes:
        say("\nnothing was written: no recipe applies")
        return
    for target, data, uri in writes:
        with storage("write", target):
            target.parent.mkdir(parents=True, exist_ok=True)
        write_file(target, data)
        large = (
            f" ({len(data) / 1e6:.1f} MB: Git keeps every version of it)" if len(data) > SMALL_BYTES else ""
        )
        say(f"\nwrote {target.relative_to(root)}{large}" + (f"; upload it to {uri}" if uri else ""))
    write_file(folder / "variants.json", _notes(folder / "variants.json", order, made))
    write_file(file, text.encode("utf-8"))
    say(f"wrote models/{model}/variants.json, and the digests into models/{model}/model.yaml")
    say(f"next: git add models/{model} && edgewright run")


def _notes(file: Path, order: Sequence[str], made: Sequence[Derived]) -> bytes:
    """Return `variants.json`: what was found when each variant was made; those not made now keep their note."""
    notes: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):  # whatever is there is made anew
        notes = {entry["name"]: entry for entry in json.loads(file.read_bytes())["variants"]}
    notes.update({derived.facts["name"]: derived.facts for derived in made})
    kept = [notes[name] for name in order if name in notes]
    return (json.dumps({"version": 1, "variants": kept}, indent=2) + "\n").encode()
