"""Notices when the device begins, changes or ends an experiment, and keeps the candidate it is about.

>>> lookout = Lookout("digit-reader", state, OnnxRuntime(), None)        # doctest: +SKIP
>>> lookout.look(); lookout.candidate                                    # doctest: +SKIP
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from edgewright_agent.experiments import path_of, read
from edgewright_agent.runtime.candidate import Candidate
from edgewright_agent.runtime.experiment import Comparison
from edgewright_agent.runtime.resident import Loader

LOOK_S = 1.0


class Lookout:
    """The experiment on one model, as `<state>/experiments/<model>.json` says; safe to share between threads.

    Attributes:
        candidate: Of the experiment; None without one.
        due: When to look again, of `time.monotonic`.
    """

    def __init__(
        self,
        model: str,
        state: Path,
        loader: Loader,
        on_comparison: Callable[[Comparison], None] | None,
    ) -> None:
        self.candidate: Candidate | None = None
        self.due = float("-inf")
        self._model, self._state, self._loader = model, state, loader
        self._on_comparison = on_comparison
        self._path = path_of(state, model)
        self._stamp: tuple[int, ...] | None = None
        self._ended = False
        self._lock = threading.Lock()

    def look(self) -> None:
        """Look at the file: one system call while nothing has changed. A candidate is loaded in the background."""
        with self._lock:
            self.due = time.monotonic() + LOOK_S
            try:
                found = self._path.stat()
                stamp: tuple[int, ...] | None = (found.st_mtime_ns, found.st_ino, found.st_size)
            except OSError:
                stamp = None
            if stamp == self._stamp or self._ended:
                return
            self._stamp = stamp
            experiment = read(self._state, self._model) if stamp else None
            old = self.candidate
            if old is not None and old.experiment == experiment:
                return
            self.candidate = (
                Candidate(experiment, self._model, self._state, self._loader, self._on_comparison)
                if experiment
                else None
            )
        if old is not None:
            old.end()

    def end(self) -> None:
        """Let go of the candidate."""
        with self._lock:
            self._ended = True
            old, self.candidate = self.candidate, None
        if old is not None:
            old.end()
