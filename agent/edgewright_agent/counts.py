"""What the sessions of one model did, summed up: from cumulative beats to what is new, and to totals.

>>> total = Counts()
>>> total.add(since(None, beat)); total.add(since(beat, later))          # doctest: +SKIP
>>> total.inferences                                                     # doctest: +SKIP
128
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from edgewright_agent.beat import CONFIDENCE_BINS, Beat, Share

# No device ever counts so far, and every reader of JSON still agrees on it (RFC 8259 6). An application that says so
# again and again must not make a number that no collector takes.
MOST = 2**53 - 1


@dataclass
class Counts:
    """What happened, of one digest: a sum that only grows.

    Attributes:
        crashed: Processes that ended while they had a session open and should not have.
        hangs: Inferences that took longer than any should.
        experiment: What belongs to the experiment heard of last.
    """

    inferences: int = 0
    errors: int = 0
    input_errors: int = 0
    safe_outputs: int = 0
    crashed: int = 0
    hangs: int = 0
    latency: dict[int, int] = field(default_factory=dict)
    confidence: tuple[int, ...] | None = None
    experiment: Share | None = None

    def add(self, more: Counts) -> None:
        """Add what happened since."""
        self.inferences = plus(self.inferences, more.inferences)
        self.errors = plus(self.errors, more.errors)
        self.input_errors = plus(self.input_errors, more.input_errors)
        self.safe_outputs = plus(self.safe_outputs, more.safe_outputs)
        self.crashed = plus(self.crashed, more.crashed)
        self.hangs = plus(self.hangs, more.hangs)
        _pour(self.latency, more.latency)
        self.confidence = _bins(self.confidence, more.confidence)
        self.experiment = _joined(self.experiment, more.experiment)

    def document(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        return {
            "inferences": self.inferences,
            "errors": self.errors,
            "inputErrors": self.input_errors,
            "safeOutputs": self.safe_outputs,
            "crashed": self.crashed,
            "hangs": self.hangs,
            "latency": _pairs(self.latency),
            "confidence": list(self.confidence) if self.confidence else None,
            "experiment": _experiment(self.experiment) if self.experiment else None,
        }

    def __bool__(self) -> bool:
        return self != Counts()


def plus(one: int, other: int) -> int:
    """Return a sum of counts, or the highest count there is."""
    return min(one + other, MOST)


def since(before: Beat | None, now: Beat) -> Counts:
    """Return what happened between two beats of one session; without the first, all that the second tells.

    Numbers that have gone down were begun anew, as they are for another digest.
    """
    old, was = before, before
    if old is None or old.digest != now.digest or old.inferences > now.inferences or old.errors > now.errors:
        old = None
    latency, bins = dict(now.latency), now.confidence
    if old is not None:
        latency = {i: n - old.latency.get(i, 0) for i, n in latency.items() if n > old.latency.get(i, 0)}
        if bins and old.confidence:
            bins = tuple(max(0, n - o) for n, o in zip(bins, old.confidence, strict=True))
    return Counts(
        now.inferences - (old.inferences if old else 0),
        now.errors - (old.errors if old else 0),
        max(0, now.input_errors - (old.input_errors if old else 0)),
        max(0, now.safe_outputs - (old.safe_outputs if old else 0)),
        latency=latency,
        confidence=bins,
        experiment=_experiment_since(was.experiment if was else None, now.experiment),
    )


def mean_confidence(bins: Iterable[int] | None) -> float | None:
    """Return the mean of a confidence histogram, taking each bin for its middle; None without any."""
    counts = list(bins or ())
    total = sum(counts)
    if not total:
        return None
    return round(sum(n * (i + 0.5) for i, n in enumerate(counts)) / (total * CONFIDENCE_BINS), 4)


def _pour(into: dict[int, int], more: Mapping[int, int]) -> None:
    for bucket, count in more.items():
        into[bucket] = plus(into.get(bucket, 0), count)


def _bins(one: tuple[int, ...] | None, other: tuple[int, ...] | None) -> tuple[int, ...] | None:
    if one is None or other is None:
        return other if one is None else one
    return tuple(plus(a, b) for a, b in zip(one, other, strict=True))


def _same(one: Share, other: Share) -> bool:
    return (one.name, one.kind, one.digest) == (other.name, other.kind, other.digest)


def _joined(one: Share | None, other: Share | None) -> Share | None:
    if one is None or other is None or not _same(one, other):
        return other or one
    latency = dict(one.latency)
    _pour(latency, other.latency)
    return replace(
        one,
        requests=plus(one.requests, other.requests),
        agree=plus(one.agree, other.agree),
        errors=plus(one.errors, other.errors),
        dropped=plus(one.dropped, other.dropped),
        latency=latency,
    )


def _experiment_since(before: Share | None, now: Share | None) -> Share | None:
    if now is None or before is None or not _same(before, now) or before.requests > now.requests:
        return now
    return replace(
        now,
        requests=now.requests - before.requests,
        agree=max(0, now.agree - before.agree),
        errors=max(0, now.errors - before.errors),
        dropped=max(0, now.dropped - before.dropped),
        latency={
            i: n - before.latency.get(i, 0) for i, n in now.latency.items() if n > before.latency.get(i, 0)
        },
    )


def _experiment(share: Share) -> dict[str, Any]:
    return {
        "name": share.name,
        "kind": share.kind,
        "digest": share.digest,
        "requests": share.requests,
        "agree": share.agree,
        "errors": share.errors,
        "dropped": share.dropped,
        "latency": _pairs(share.latency),
    }


def _pairs(sketch: Mapping[int, int]) -> list[list[int]]:
    return [[bucket, sketch[bucket]] for bucket in sorted(sketch)]
