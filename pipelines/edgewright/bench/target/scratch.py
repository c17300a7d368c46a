"""Working folders whose names are of one length, and that vanish even when their maker was killed.

>>> with scratch("target") as folder:
...     len(folder.name)
41
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "edgewright"
_OURS = re.compile(rf"{_PREFIX}-+[a-z]{{4,6}}-(\d{{10}})-\w+")


@contextlib.contextmanager
def scratch(kind: str) -> Iterator[Path]:
    """Make an empty folder and remove it afterwards.

    Args:
        kind: What it is for, four to six letters.
    """
    # In /tmp where that can be had: a path of the same length on every machine, for what sees it.
    place = "/tmp" if os.access("/tmp", os.W_OK | os.X_OK) else None  # noqa: S108  names in it are random
    name = f"{_PREFIX}-{kind:->6}-{os.getpid():010d}-"
    with tempfile.TemporaryDirectory(prefix=name, dir=place) as folder:
        yield Path(folder)


def sweep() -> None:
    """Remove the folders of makers that are gone: a process that is killed cannot tidy up."""
    for folder in Path("/tmp").glob(f"{_PREFIX}-*"):  # noqa: S108
        made = _OURS.fullmatch(folder.name)
        if made and not Path(f"/proc/{int(made[1])}").exists():
            shutil.rmtree(folder, ignore_errors=True)
