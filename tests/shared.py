"""What is expensive to make is made once per test run, however many workers share the run.

A session fixture runs in every worker of pytest-xdist, for workers are processes. Whoever asks first makes the folder;
the others wait for the lock and find it finished.

>>> made_once(run_folder / "journey", build)      # doctest: +SKIP
PosixPath('/tmp/pytest-of-me/pytest-3/journey')
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path


def made_once(folder: Path, make: Callable[[Path], object]) -> Path:
    """Return `folder`, filled by `make` unless another process of this run has done so.

    Args:
        folder: Below the folder that all workers of a run share (the fixture `run_folder`).
        make: Given the folder, which is not there yet. When it raises, the next who asks tries again.
    """
    finished = folder.with_name(f"{folder.name}.finished")
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            finished.touch()
    return folder
