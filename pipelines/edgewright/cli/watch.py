"""What verbs about one lane share: which lane is meant, and progress while it is worked on.

>>> with progress(quiet=False) as tell:                # doctest: +SKIP
...     tell("running on qemu-aarch64")
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from edgewright.errors import SpecError

if TYPE_CHECKING:
    from edgewright.plan.lane import Lane
    from edgewright.spec.workspace import Workspace

Tell = Callable[[str], None]


def lane_of(workspace: Workspace, model: str, hardware_class: str) -> Lane:
    """Return the lane of a model and a class.

    Raises:
        SpecError: there is no such model or class, or the model is not built for it; names those there are.
    """
    from edgewright.plan.lane import Lane

    for kind, name, known in (
        ("model", model, workspace.models),
        ("hardware class", hardware_class, workspace.hardware),
    ):
        if name not in known:
            raise SpecError(
                f"there is no {kind} {name!r}", hint=f"here: {', '.join(sorted(known)) or 'none'}"
            )
    if hardware_class not in workspace.classes_of(model):
        classes = ", ".join(workspace.classes_of(model))
        raise SpecError(f"{model} is not built for {hardware_class}", hint=f"its classes: {classes}")
    return Lane(model, hardware_class)


@contextlib.contextmanager
def progress(*, quiet: bool) -> Iterator[Tell]:
    """Show what is going on, on a terminal with a bar that moves; on stderr, so that a table can be piped."""
    if quiet:
        yield lambda _step: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda step: click.echo(f"{step} …", err=True)
        return
    columns = (BarColumn(bar_width=24), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("starting", total=None)
        yield lambda step: bars.update(task, description=step)
