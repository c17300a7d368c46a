"""Options that several verbs share.

>>> @click.command()
... @root_option
... def command(root: Path) -> None: ...
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from edgewright.errors import SpecError

F = TypeVar("F", bound=Callable[..., Any])

FLEET_FILE = "fleet.yaml"


def find_root(start: Path) -> Path:
    """Return the nearest folder at or above `start` that holds a `fleet.yaml`.

    Raises:
        SpecError: There is none.
    """
    for folder in (start, *start.parents):
        if (folder / FLEET_FILE).is_file():
            return folder
    raise SpecError(
        f"there is no {FLEET_FILE} in {start} or above it",
        hint="go to the fleet's repository, or name it with --root DIR",
    )


def _resolve(_context: click.Context, _parameter: click.Parameter, value: Path | None) -> Path:
    if value is None:
        return find_root(Path.cwd())
    if not (value / FLEET_FILE).is_file():
        raise SpecError(
            f"there is no {FLEET_FILE} in {value}", hint="name the folder that holds it with --root"
        )
    return value.resolve()


def root_option(function: F) -> F:
    """Add `--root DIR`; the command gets `root`, the folder of `fleet.yaml`."""
    return click.option(
        "--root",
        type=click.Path(path_type=Path, file_okay=False),
        callback=_resolve,
        help=f"Folder of {FLEET_FILE}; by default the nearest one at or above the current folder.",
    )(function)
