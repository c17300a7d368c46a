"""What the telemetry spool knows about itself: what was delivered, what was lost, and when the next try is.

One page, kept in two slots that take turns as the record's do: a torn one costs nothing but the change it was.

>>> head = Head().acknowledged(Priority.ERROR, 5, 9, waiting=[12])
>>> head.is_acknowledged(Priority.ERROR, 9), head.is_acknowledged(Priority.ERROR, 12)
(True, False)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from edgewright_agent.contract import canonical_json
from edgewright_agent.slots import decode, encode
from edgewright_agent.spool_layout import HEAD_BYTES, Priority
from edgewright_agent.transport.document import parse_json

VERSION = 1
MAX_SPANS = 8  # of acknowledged numbers, per priority: the batches beyond are sent again
MAX_DROPPING = 32
_NONE = (0, 0, 0, 0)
Spans = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Head:
    """The head of a spool; lists are by priority.

    Attributes:
        sequence: Highest number known to have been given when this was written.
        acked: Spans of numbers that were delivered or given up; the first begins at 0 and is the cursor.
        dropped: Records that had to make room before they were delivered, or could not be written.
        rejected: Records that the receiver refused.
        delivered: Records that the receiver took.
        thinned: Aggregates that were merged into others.
        dropping: Generations of segments that are counted in `dropped` and may still lie there.
        dropping_before: Those of the head before; both are needed, see `spool_ring`.
        tried: When delivery was last tried, seconds since 1970; 0 is never.
        succeeded: When a batch was last taken.
        next_try: When the next try is due.
        more: Whether the last try left something behind that could have gone; when it went wrong, whether it says
            anything about update statuses and errors, too.
        failures: Tries in a row that went wrong.
        batch_failures: How often in a row the receiver failed at the batch under way.
        outcome: What the last try brought: `ok`, or the code of an error.
        message: The same in words.
    """

    sequence: int = 0
    acked: tuple[Spans, Spans, Spans, Spans] = ((), (), (), ())
    dropped: tuple[int, ...] = _NONE
    rejected: tuple[int, ...] = _NONE
    delivered: tuple[int, ...] = _NONE
    thinned: int = 0
    dropping: tuple[int, ...] = ()
    dropping_before: tuple[int, ...] = ()
    tried: int = 0
    succeeded: int = 0
    next_try: int = 0
    more: bool = False
    failures: int = 0
    batch_failures: tuple[int, ...] = _NONE
    outcome: str = ""
    message: str = ""

    def is_acknowledged(self, priority: Priority, sequence: int) -> bool:
        """Whether a record needs no sending any more."""
        return any(first <= sequence <= last for first, last in self.acked[priority])

    def acknowledged(self, priority: Priority, first: int, last: int, *, waiting: Iterable[int]) -> Head:
        """Return this head with a span of numbers done.

        Args:
            priority: Of the records.
            first: First number.
            last: Last number.
            waiting: Numbers of the records of this priority that are not in any span, this one included.
        """
        numbers = sorted(waiting)
        spans = sorted([*self.acked[priority], (first, last)])
        done: list[tuple[int, int]] = [(0, 0)]
        for start, end in spans:
            # Nothing waits between two spans: they are one.
            if any(done[-1][1] < number < start for number in numbers):
                done.append((start, end))
            else:
                done[-1] = (done[-1][0], max(end, done[-1][1]))
        acked = list(self.acked)
        acked[priority] = tuple(done[:MAX_SPANS])
        return replace(self, acked=(acked[0], acked[1], acked[2], acked[3]))

    def counted(self, what: str, priority: Priority, number: int) -> Head:
        """Return this head with one of its lists of counts advanced."""
        counts: list[int] = list(getattr(self, what))
        counts[priority] += number
        changed: Mapping[str, Any] = {what: tuple(counts)}
        return replace(self, **changed)

    def tried_again(self, priority: Priority) -> Head:
        """Return this head with nothing against the next batch of a priority."""
        return self.counted("batch_failures", priority, -self.batch_failures[priority])

    def without(self, generations: tuple[int, ...]) -> Head:
        """Return this head with segments given up."""
        return replace(self, dropping=generations, dropping_before=self.dropping)


def to_slot(generation: int, head: Head) -> bytes:
    """Return one page for a generation of the head."""
    payload = canonical_json({"version": VERSION, **asdict(head)})
    slot = encode(generation, payload)
    if len(slot) > HEAD_BYTES:  # only words can be that long
        slot = encode(generation, canonical_json({"version": VERSION, **asdict(replace(head, message=""))}))
    return slot.ljust(HEAD_BYTES, b"\0")


def from_slots(region: bytes) -> tuple[int, Head]:
    """Return the newest head and its generation; generation 0 and an empty head when there is none."""
    found = [decode(region[at : at + HEAD_BYTES]) for at in (0, HEAD_BYTES)]
    for generation, payload in sorted((one for one in found if one), reverse=True):
        try:
            return generation, from_bytes(payload)
        except ValueError:
            continue
    return max((one[0] for one in found if one), default=0), Head()


def from_bytes(payload: bytes) -> Head:
    """Parse what a slot holds.

    Raises:
        ValueError: it is no head, or that of another version.
    """
    document = parse_json(payload, "the head of the spool")
    if not isinstance(document, dict) or document.pop("version", None) != VERSION:
        raise ValueError("not a head of this version")
    if document.keys() != {entry.name for entry in fields(Head)}:
        raise ValueError("not the fields of a head")
    try:
        for name in ("dropped", "rejected", "delivered", "batch_failures"):
            document[name] = _numbers(document[name], len(Priority))
        for name in ("dropping", "dropping_before"):
            document[name] = _numbers(document[name])
        for name in ("sequence", "thinned", "tried", "succeeded", "next_try", "failures"):
            (document[name],) = _numbers([document[name]])
        acked = [tuple(_span(span) for span in spans) for spans in document["acked"]]
        document["acked"] = (acked[0], acked[1], acked[2], acked[3])
    except (TypeError, IndexError) as error:
        raise ValueError("not the values of a head") from error
    if type(document["more"]) is not bool:
        raise ValueError("not the state of a head")
    if not isinstance(document["outcome"], str) or not isinstance(document["message"], str):
        raise ValueError("not the words of a head")
    return Head(**document)


def _span(value: Any) -> tuple[int, int]:
    first, last = _numbers(value, 2)
    return first, last


def _numbers(value: Any, count: int | None = None) -> tuple[int, ...]:
    if not isinstance(value, list) or any(type(one) is not int or not 0 <= one < 2**63 for one in value):
        raise ValueError("not a list of numbers")
    if count is not None and len(value) != count:
        raise ValueError("not as many numbers as there must be")
    return tuple(value)
