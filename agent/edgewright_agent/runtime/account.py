"""What one session has done, model by model, and what it tells the daemon of it.

>>> account = Account(Path("/var/lib/edgewright"), "digit-reader")       # doctest: +SKIP
>>> account.of(digest).success(312.0, inputs, outputs)                   # doctest: +SKIP
>>> account.tell("beat", seat, None)                                     # doctest: +SKIP

One thread at a time tells, and whoever finds that another model answers by now closes the account of the one before,
so that what it has done since the last beat is told: its last error may be the one that counts. After `close` nothing
is told: a daemon would take it for a session that is open, and whose process then ends without a word.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from edgewright_agent.beat import Beat, Share
from edgewright_agent.runtime.beats import Beats
from edgewright_agent.runtime.steps import folder_of
from edgewright_agent.runtime.tally import Figures, Reference, Tally, read_reference

HANGS_S = 10.0  # an inference in flight for so long is worth a beat, though nothing else happened


@dataclass(frozen=True)
class ExperimentFigures:
    """What a session has counted of an experiment.

    Attributes:
        name, kind, digest: As the device has it.
        requests: Requests that the candidate has seen.
        agree: Of a shadow's: those it answered like the active model.
        errors: Those it could not answer.
        dropped: Of a shadow's: requests it should have seen and had no time for.
        latency: `[bucket, count]` of the candidate.
    """

    name: str
    kind: str
    digest: str
    requests: int = 0
    agree: int = 0
    errors: int = 0
    dropped: int = 0
    latency: tuple[tuple[int, int], ...] = ()


class Stand(Protocol):
    """Who answers now: a `Seat`."""

    digest: str
    rung: str
    code: str

    @property
    def providers(self) -> tuple[str, ...]:
        """Execution providers in use."""

    def oldest_s(self) -> float:
        """Return the age of the oldest inference in flight."""


class Account:
    """The tallies of a session; safe to share between threads."""

    def __init__(self, state: Path, model: str) -> None:
        self._state, self._model = state, model
        self._beats = Beats(state)
        self._tallies: dict[str, Tally] = {}
        self._lock = threading.Lock()
        self._last: Beat | None = None
        self._told: tuple[object, ...] = ()
        self._closed = False

    def of(self, digest: str) -> Tally:
        """Return the tally of a model, which begins when it is first asked for."""
        tally = self._tallies.get(digest)
        if tally is None:
            reference = read_reference(folder_of(self._state, digest)) if digest else Reference()
            tally = self._tallies.setdefault(digest, Tally(reference))
        return tally

    def tell(self, event: str, stand: Stand, tried: ExperimentFigures | None) -> None:
        """Tell the daemon of an event: `open`, `beat` or `close`; `swap`, where another model answers by now."""
        with self._lock:
            if self._closed:  # by another thread, while this one was taking an update up
                return
            self._closed = event == "close"
            beat = self._beat(event, stand, tried)
            last = self._last
            if last is not None and last.digest != beat.digest:
                self._beats.send(
                    _filled(replace(last, event="beat", in_flight_s=0.0), self.of(last.digest).figures())
                )
                self._tallies = {beat.digest: self.of(beat.digest)}
                beat = replace(beat, event="swap" if event == "beat" else event)
            self._last = beat
            self._beats.send(beat, anyway=event == "close")

    def tick(self, stand: Stand, tried: ExperimentFigures | None) -> None:
        """Tell what is new since the last tick, if anything is, or that an inference hangs."""
        events = self.of(stand.digest).events
        seen = (stand.digest, stand.rung, stand.code, events, tried and (tried.requests, tried.dropped))
        if seen != self._told or stand.oldest_s() >= HANGS_S:
            self._told = seen
            self.tell("beat", stand, tried)

    def close(self) -> None:
        """Give the socket back."""
        self._beats.close()

    def _beat(self, event: str, stand: Stand, tried: ExperimentFigures | None) -> Beat:
        digest = stand.digest
        beat = Beat(
            self._beats.session,
            self._model,
            digest,
            event,
            stand.rung,
            stand.code,
            stand.providers,
            in_flight_s=stand.oldest_s(),
            experiment=Share(**{**vars(tried), "latency": dict(tried.latency)}) if tried else None,
        )
        return _filled(beat, self.of(digest).figures())


def _filled(beat: Beat, figures: Figures) -> Beat:
    return replace(
        beat,
        inferences=figures.inferences,
        errors=figures.errors,
        input_errors=figures.input_errors,
        safe_outputs=figures.safe_outputs,
        since_success_s=figures.since_success_s,
        latency=dict(figures.latency),
        confidence=figures.confidence,
        drift_confidence=figures.confidence_drift,
        drift_inputs=figures.input_drift,
    )
