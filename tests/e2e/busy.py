"""More work than this machine has cores, while something is measured."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def busy_machine() -> Iterator[None]:
    """Keep every core busy."""
    program = [sys.executable, "-c", "while True: sum(range(10**5))"]
    hogs = [subprocess.Popen(program) for _ in range(len(os.sched_getaffinity(0)) + 1)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
