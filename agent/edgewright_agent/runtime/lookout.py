"""Notices when the device begins, changes or ends an experiment, and keeps the candidate it is about.

>>> lookout = Lookout("digit-reader", state, OnnxRuntime(), None)        # doctest: +SKIP
>>> lookout.look(); lookout.candidate                                    # doctest: +SKIP
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from edgewright_agent.experiments import Experiment, path_of, read
from edgewright_agent.runtime.candidate import Candidate
from edgewright_agent.runtime.experiment import Comparison
from edgewright_agent.runtime.resident import Loader

LOOK_S = 1.0
log = logging.getLogger("edgewright.experiment")


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
        self._leaving: tuple[Candidate, ...] = ()
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
            self._note_leaving(old)
            self.candidate = self._begin(experiment) if experiment else None
        if old is not None:
            old.end()

    def end(self) -> None:
        """Let go of the candidate."""
        with self._lock:
            self._ended = True
            old, self.candidate = self.candidate, None
            self._note_leaving(old)
        if old is not None:
            old.end()

    def wait_over(self, timeout_s: float) -> bool:
        """After `end`: wait until no request is in a candidate's engine any more; return whether that is so."""
        ends = time.monotonic() + timeout_s
        return all(one.wait_over(max(0.0, ends - time.monotonic())) for one in self._leaving)

    def _begin(self, experiment: Experiment) -> Candidate | None:
        try:
            return Candidate(experiment, self._model, self._state, self._loader, self._on_comparison)
        except RuntimeError as error:  # no more threads here: the next look tries again
            log.warning("%s: the experiment %s cannot begin yet: %s", self._model, experiment.name, error)
            self._stamp = None
            return None

    def _note_leaving(self, candidate: Candidate | None) -> None:
        # Requests of an A/B test may be in its engine for a while, also when the next candidate is here.
        if candidate is not None:
            self._leaving = (*(one for one in self._leaving if not one.wait_over(0.0)), candidate)
