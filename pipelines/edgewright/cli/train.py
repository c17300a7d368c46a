"""`edgewright train`: new weights for a model, and what they are worth."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgewright.cli.options import root_option
from edgewright.errors import SpecError
from edgewright.publish.durable import write_file

if TYPE_CHECKING:
    from edgewright.spec.model import Checkpoint

WEIGHTS = "weights.safetensors"


@click.command()
@root_option
@click.argument("model")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Another seed than the model's own.")
@click.option("--write", is_flag=True, help="Replace the weights file and its digest in model.yaml.")
def command(root: Path, model: str, seed: int | None, write: bool) -> None:
    """Train MODEL and print what it is worth on held-out samples.

    With --write, a model with a checkpoint gets the new weights file, and model.yaml its digest. A model with
    a `train` section is trained by the pipeline itself: here it is only tried, and nothing is written.
    """
    # The document alone, not the whole fleet: a missing or wrong checkpoint is why one is here.
    from edgewright.spec.document import load_document
    from edgewright.spec.model import Model
    from edgewright.spec.problem import InvalidSpec

    folder = root / "models" / model
    file = folder / "model.yaml"
    if not file.is_file():
        known = sorted(path.parent.name for path in root.glob("models/*/model.yaml"))
        raise SpecError(f"there is no model {model!r}", hint=f"models here: {', '.join(known) or 'none'}")
    loaded = load_document(Model, file, f"models/{model}/model.yaml", model)
    if loaded.problems:
        raise InvalidSpec(list(loaded.problems))

    target = _target(root, model, loaded.document.checkpoint)

    from edgewright.build.training import train

    spec = loaded.document.model_dump(mode="json", by_alias=True, exclude_none=True)
    training = train(folder, spec, seed=seed)
    click.echo(f"parameters  {training.parameters:,}")
    click.echo(f"trained in  {training.seconds:.1f} s, one thread")
    score = training.score
    click.echo(f"{training.metric:<11} {score.value:.4f} on {score.samples} held-out samples (fp32, torch)")
    click.echo(f"interval    {score.low:.4f} to {score.high:.4f}, 95 %")
    for label, recall in training.recall.items():
        click.echo(f"  {label:<20} {'no samples' if recall is None else f'{recall:.4f}'}")
    click.echo(f"sha256      {training.sha256}")
    if target is None or loaded.document.checkpoint is None:
        click.echo(f"\n{model} is trained by the pipeline; nothing was written.")
        return
    line = loaded.source.at(("checkpoint", "sha256")).line
    if not write:
        click.echo(
            f"\nnothing was written; `edgewright train {model} --write` replaces the weights and their digest"
        )
        return
    write_file(target, training.weights)
    _replace_digest(file, line, training.sha256)
    click.echo(f"\nwrote {target.relative_to(root)} and its digest in models/{model}/model.yaml:{line}")
    if loaded.document.checkpoint.uri is not None:
        click.echo(f"upload the file to {loaded.document.checkpoint.uri} before the next run")


def _target(root: Path, model: str, checkpoint: Checkpoint | None) -> Path | None:
    """Return where new weights belong, None for a model that has no checkpoint.

    Raises:
        SpecError: the path leaves the model's folder; nothing outside it is ever written.
    """
    if checkpoint is None:
        return None
    folder = root / "models" / model
    target = folder / (checkpoint.path or WEIGHTS)
    if not target.resolve().is_relative_to(folder.resolve()):
        raise SpecError(
            f"models/{model}/model.yaml: checkpoint.path {checkpoint.path} leaves the model's folder",
            hint="put the weights beside model.yaml",
        )
    return target


def _replace_digest(file: Path, line: int, sha256: str) -> None:
    """Replace the digest on one line (from 1) and nothing else: comments and layout are the author's."""
    lines = file.read_bytes().split(b"\n")
    lines[line - 1] = re.sub(rb"[0-9a-f]{64}", sha256.encode(), lines[line - 1], count=1)
    write_file(file, b"\n".join(lines))
