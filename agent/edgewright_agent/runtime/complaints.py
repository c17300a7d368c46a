"""Failed requests in the log, without drowning it: a model may fail a thousand times a second.

>>> complaints = Complaints("digit-reader")                                 # doctest: +SKIP
>>> complaints.warn(InferenceError("inference-failed", "device lost"))     # doctest: +SKIP
>>> complaints.warn(InferenceError("inference-failed", "device lost"))     # doctest: +SKIP
"""

from __future__ import annotations

import logging
import time

from edgewright_agent.engine import InferenceError

QUIET_S = 10.0  # between two lines about failures of one kind
log = logging.getLogger("edgewright")


class Complaints:
    """What is logged of the failures of one session; threads that race for it may log a line too many."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._code, self._quiet_until, self._left_out = "", 0.0, 0

    def warn(self, error: InferenceError) -> None:
        """Log a failure: the first of its kind, then one every few seconds with how many there were."""
        now = time.monotonic()
        if error.code == self._code and now < self._quiet_until:
            self._left_out += 1
            return
        more = f" (and {self._left_out} more like the last one told)" if self._left_out else ""
        self._code, self._quiet_until, self._left_out = error.code, now + QUIET_S, 0
        log.warning("%s: %s: %s%s", self._model, error.code, str(error), more)
