"""Every file of a folder, in one order, links followed but never in a circle.

>>> [path.name for path in files_below(root / "models" / "digit-reader")]     # doctest: +SKIP
['README.md', 'data.py', 'model.yaml', …]
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def files_below(folder: Path) -> Iterator[Path]:
    """Yield every file below `folder`, none where there is no such folder; Python's own caches are left out."""
    seen = set()
    for base, folders, files in os.walk(folder, followlinks=True):
        state = Path(base).stat()
        if (state.st_dev, state.st_ino) in seen:
            folders.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        yield from (Path(base) / name for name in sorted(files))
