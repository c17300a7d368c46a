"""A second model beside the active one: in its shadow, or answering a share of requests.

>>> experiment = read(Path("/var/lib/edgewright"), "digit-reader")   # doctest: +SKIP
>>> takes(experiment, "conveyor-3")                               # doctest: +SKIP
True

The agent writes the file as the signed assignment says and removes it when the experiment is over. Which requests a
candidate sees is a hash of the experiment, the device, and the caller's key or the request's number: the same key
always meets the same model, on every device another share of keys.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgewright_agent.experiments import Experiment

if TYPE_CHECKING:
    from edgewright_agent.engine import Array, Arrays

SHADOW, AB = "shadow", "ab"
ATOL, RTOL = 1e-3, 1e-2  # within which two models that name no winner agree
LOGGED_FIRST, LOGGED_EVERY = 100, 100
DISAGREEMENTS_PER_S = 1.0
log = logging.getLogger("edgewright.experiment")


@dataclass(frozen=True)
class Comparison:
    """One request that both models have seen.

    Attributes:
        experiment, model, active, candidate: Whose.
        key: The caller's, if it gave one.
        agree: Whether they say the same: the same winner for every sample, or outputs within tolerance.
        active_ms, candidate_ms: How long each took.
        active_outputs, candidate_outputs: What each said; the candidate's are None when it failed.
        error: Why it failed.
    """

    experiment: str
    model: str
    active: str
    candidate: str
    key: str | None
    agree: bool
    active_ms: float
    candidate_ms: float
    active_outputs: Arrays
    candidate_outputs: Arrays | None = None
    error: str = ""


def takes(experiment: Experiment, key: str) -> bool:
    """Whether the candidate of an experiment sees the request with this key or number."""
    text = f"{experiment.name}\0{experiment.device}\0{key}"
    place = int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()[:8], "big")
    return place < experiment.share * 2**64


def agree(active: Arrays, candidate: Arrays, *, winners: bool) -> bool:
    """Whether two models say the same.

    Args:
        active: Outputs of the one.
        candidate: Outputs of the other.
        winners: Whether the first output's largest value is the answer; else every value counts.
    """
    import numpy

    if set(active) != set(candidate):
        return False
    if winners:
        name = next(iter(active))
        one, other = active[name], candidate[name]
        return one.shape == other.shape and bool((one.argmax(axis=-1) == other.argmax(axis=-1)).all())
    return all(
        active[name].shape == candidate[name].shape
        and bool(numpy.allclose(active[name], candidate[name], rtol=RTOL, atol=ATOL))
        for name in active
    )


class Journal:
    """Writes comparisons to the log `edgewright.experiment`, one JSON object a line: not all, but enough to look at.

    The first hundred, then every hundredth, and of the disagreements one a second.
    """

    def __init__(self) -> None:
        self._count = 0
        self._disagreed_at = float("-inf")

    def note(self, comparison: Comparison, labels: tuple[str, ...]) -> None:
        """Log a comparison, or pass over it."""
        self._count += 1
        now = time.monotonic()
        rare = not comparison.agree and now - self._disagreed_at >= 1 / DISAGREEMENTS_PER_S
        if not (rare or self._count <= LOGGED_FIRST or self._count % LOGGED_EVERY == 0):
            return
        if rare:
            self._disagreed_at = now
        if log.isEnabledFor(logging.INFO):
            log.info("%s", json.dumps(in_short(comparison, labels), ensure_ascii=False))


def in_short(comparison: Comparison, labels: tuple[str, ...]) -> dict[str, Any]:
    """Return a comparison as JSON values: of outputs the winning labels, or the first values."""
    line = {
        name: str(value) if name == "key" else value  # applications give whatever they have, such as a UUID
        for name, value in vars(comparison).items()
        if not name.endswith("_outputs") and value not in (None, "")
    }
    line["active_ms"], line["candidate_ms"] = (
        round(comparison.active_ms, 3),
        round(comparison.candidate_ms, 3),
    )
    line["active_answer"] = _said(comparison.active_outputs, labels)
    if comparison.candidate_outputs is not None:
        line["candidate_answer"] = _said(comparison.candidate_outputs, labels)
    return line


def winning(outputs: Arrays, labels: tuple[str, ...]) -> tuple[str, ...]:
    """Return the label of each sample's largest value in the first output; nothing where that is no list of classes."""
    first: Array | None = next(iter(outputs.values()), None)
    if not labels or first is None or getattr(first, "ndim", 0) != 2 or first.shape[1] != len(labels):
        return ()
    return tuple([labels[index] for index in first.argmax(axis=1).tolist()])


def _said(outputs: Arrays, labels: tuple[str, ...]) -> Any:
    if names := winning(outputs, labels):
        return list(names[:8])
    return {name: array.reshape(-1)[:8].tolist() for name, array in outputs.items()}
