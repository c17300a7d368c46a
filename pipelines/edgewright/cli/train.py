"""`edgewright train`: new weights for a model, and what they are worth."""

from __future__ import annotations

import re
from pathlib import Path

import click

from edgewright.cli.document import model_document, pinned_path
from edgewright.cli.options import root_option
from edgewright.errors import SpecError
from edgewright.publish.durable import write_file

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
    loaded = model_document(root, model)
    if loaded.document.network is None:
        raise SpecError(
            f"{model} has no network: its checkpoint is a whole ONNX model, which nothing here can train",
            hint="train it where it was made, and put the new file and its digest into model.yaml",
        )
    folder = root / "models" / model
    file = folder / "model.yaml"
    checkpoint = loaded.document.checkpoint
    target = pinned_path(root, model, checkpoint, WEIGHTS) if checkpoint is not None else None

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
    if target is None or checkpoint is None:
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
    if checkpoint.uri is not None:
        click.echo(f"upload the file to {checkpoint.uri} before the next run")


def _replace_digest(file: Path, line: int, sha256: str) -> None:
    """Replace the digest on one line (from 1) and nothing else: comments and layout are the author's."""
    lines = file.read_bytes().split(b"\n")
    lines[line - 1] = re.sub(rb"[0-9a-f]{64}", sha256.encode(), lines[line - 1], count=1)
    write_file(file, b"\n".join(lines))
