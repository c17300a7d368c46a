"""The sessions that live on this device: what their models do, which have crashed, which hang.

>>> live = Live()
>>> live.hear(datagram, pid)                                  # doctest: +SKIP
>>> live.take()["digit-reader"]["inferences"]                 # doctest: +SKIP
128

A session is known by its name *and* by the process that the kernel says has sent the datagram: no process can speak
for another. A crash is a process that ended without closing its session while an inference was under way, or while its
model has still to prove itself (soak). A hang is an inference that is under way for longer than any should.

What a process has said may be read after its end. So the end alone is no crash: whoever calls `ended` or `check` has
read everything that was said before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from edgewright_agent import degrade
from edgewright_agent.beat import Beat, parse
from edgewright_agent.counts import Counts, mean_confidence, plus, since
from edgewright_agent.latency import percentile_ms
from edgewright_agent.peers import Peer

MAX_SESSIONS = 64
MAX_TALLIES = 32
HANG_S = 60.0
FORGET_S = 3600.0  # a session in a process that nobody can look at, not heard of for so long
RECENT_S = 300.0  # the latest whole span of it, and what is heard since, make the figures for people
# Why a session no longer runs a model that it has loaded and used; see `runtime.resident`, which is not imported here.
_FAILED = ("inference-failed", "non-finite-output", "health-wrong-output")
RATE_S = 30.0  # without a beat for so long nothing is going on: they come every 10 s while something does


@dataclass(frozen=True)
class Seen:
    """What there was to be seen of a digest since the last time: what judges a model that has to prove itself.

    Attributes:
        digest: Of the model.
        crashes, hangs: Of applications that ran it.
        errors: Inferences that failed.
        inferences: All of them, those that failed included: sessions count apart what was answered.
    """

    digest: str
    crashes: int = 0
    hangs: int = 0
    errors: int = 0
    inferences: int = 0


@dataclass(frozen=True)
class Lost:
    """A session that ended without saying so, or that hangs."""

    model: str
    digest: str
    session: str
    pid: int
    code: str


@dataclass
class _Session:
    """Whose it is, what was heard of it last, and when."""

    beat: Beat
    peer: Peer
    heard_s: float
    per_s: float = 0.0
    hung: bool = False


@dataclass
class _Tally:
    """Of one model and digest: since the daemon started, since `take`, since `observations`, and lately."""

    model: str
    digest: str
    total: Counts = field(default_factory=Counts)
    fresh: Counts = field(default_factory=Counts)
    judged: Counts = field(default_factory=Counts)
    before: Counts = field(default_factory=Counts)
    lately: Counts = field(default_factory=Counts)
    turned_s: float = 0.0

    def add(self, more: Counts, now_s: float) -> None:
        self.age(now_s)
        for counts in (self.total, self.fresh, self.judged, self.lately):
            counts.add(more)

    def age(self, now_s: float) -> None:
        if now_s - self.turned_s >= RECENT_S:
            self.before = self.lately if now_s - self.turned_s < 2 * RECENT_S else Counts()
            self.lately, self.turned_s = Counts(), now_s

    def recent(self, now_s: float) -> Counts:
        self.age(now_s)
        both = Counts()
        both.add(self.before)
        both.add(self.lately)
        return both


class Live:
    """Every live session, bounded, and the sums over those that were.

    Args:
        clock: Seconds; it stands still while the device sleeps, as its applications do.
        hang_s: How long an inference of a digest may be under way.
        attach: Told of a process that has its first session here.
        detach: Told of a process that has none any more; before its descriptor is closed.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        hang_s: Callable[[str], float] = lambda _digest: HANG_S,
        attach: Callable[[Peer], None] = lambda _peer: None,
        detach: Callable[[Peer], None] = lambda _peer: None,
    ) -> None:
        self.soaking: frozenset[str] = frozenset()  # digests that have still to prove themselves
        self.heard = self.refused = self.dropped = 0
        self._clock, self._hang_s = clock, hang_s
        self._attach, self._detach = attach, detach
        self._sessions: dict[tuple[int, str], _Session] = {}
        self._tallies: dict[tuple[str, str], _Tally] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def restless(self) -> bool:
        """Whether it has to be looked often: something is under way, or the kernel does not tell of an end."""
        return any(
            (one.beat.in_flight_s > 0 and not one.hung) or one.peer.fd is None
            for one in self._sessions.values()
        )

    def hear(self, data: bytes, pid: int) -> list[Lost]:
        """Take a datagram from a process; what is none of ours is counted and left.

        Args:
            data: The datagram.
            pid: Its sender, as the kernel says (unix(7), SCM_CREDENTIALS); 0 when that cannot be seen from here.

        Returns:
            Sessions of an earlier process whose number is another's by now; this one, when it has come to hang.
        """
        try:
            beat = parse(data)
        except ValueError:
            self.refused += 1
            return []
        self.heard += 1
        now = self._clock()
        # A sender that has ended, and nothing more, may have said goodbye: that is read next.
        peer = self._peer(pid)
        lost = self.ended(pid) if peer is not None and peer.replaced() else []
        known = self._sessions.get((pid, beat.session))
        # What was counted before this daemon came up was told to the one before; only an opening begins at nothing.
        before = known.beat if known else (None if beat.event == "open" else beat)
        if known and known.beat.model != beat.model:
            self.refused += 1
            return lost
        gone = since(before, beat)
        self._tally(beat.model, beat.digest, now, heard=True).add(gone, now)
        if known and _has_left(known.beat, beat):
            # It tries again ever more seldom: what else it would tell of the model are a few errors among many answers.
            self._tally(beat.model, known.beat.digest, now).judged.add(Counts(crashed=1))
        session = known or self._admit(pid, beat, now)
        if known and beat.event != "open":
            session.per_s = gone.inferences / max(now - known.heard_s, 1.0)
        session.beat, session.heard_s = beat, now
        session.hung = session.hung and beat.in_flight_s > 0
        if beat.event == "close":
            self._drop((pid, beat.session))
            return lost
        return lost + self._hanging(pid, session, now)

    def ended(self, pid: int) -> list[Lost]:
        """Drop the sessions of a process that has ended and has no more to say; return those it should have closed."""
        lost = []
        for key in [key for key in self._sessions if key[0] == pid]:
            session = self._drop(key)
            beat = session.beat
            crashed = beat.in_flight_s > 0 or beat.digest in self.soaking
            if crashed:
                now = self._clock()
                self._tally(beat.model, beat.digest, now).add(Counts(crashed=1), now)
            code = "crashed" if crashed else "vanished"
            lost.append(Lost(beat.model, beat.digest, beat.session, pid, code))
        return lost

    def check(self) -> list[Lost]:
        """Look at every session: return those whose process has ended, and those that hang since the last look.

        What ended processes have said has been read before.
        """
        lost: list[Lost] = []
        for pid in {pid for pid, _name in self._sessions}:
            peer = self._peer(pid)
            if peer is not None and peer.alive() is False:
                lost += self.ended(pid)
        now = self._clock()
        for key, session in list(self._sessions.items()):
            if session.peer.alive() is None and now - session.heard_s > FORGET_S:
                self._drop(key)
            else:
                lost += self._hanging(key[0], session, now)
        return lost

    def take(self) -> dict[str, dict[str, Any]]:
        """Return, by model, what happened since the last `take`, and how things are now; see `totals`."""
        documents = self._documents(lambda tally: tally.fresh)
        for tally in self._tallies.values():
            tally.fresh = Counts()
        return documents

    def totals(self) -> dict[str, dict[str, Any]]:
        """Return, by model, what happened since the daemon started, and how things are now.

        Counts are those of the digest heard of last; `others` has those of other digests, `recent` the figures for
        people, over the last minutes.
        """
        documents = self._documents(lambda tally: tally.total, idle=True)
        now = self._clock()
        for model, document in documents.items():
            recent = self._tallies[model, document["digest"]].recent(now)
            sessions = self._of(model)
            document["recent"] = {
                "perS": round(sum(s.per_s for s in sessions if now - s.heard_s < RATE_S), 2),
                "p50Ms": percentile_ms(recent.latency, 0.5),
                "p95Ms": percentile_ms(recent.latency, 0.95),
                "errors": recent.errors,
                "confidence": mean_confidence(recent.confidence),
            }
        return documents

    def observations(self) -> list[Seen]:
        """Return what is new of every digest since the last call, for the judgement of those that soak."""
        seen = []
        for tally in self._tallies.values():
            counts, tally.judged = tally.judged, Counts()
            inferences = plus(counts.inferences, counts.errors)
            found = Seen(tally.digest, counts.crashed, counts.hangs, counts.errors, inferences)
            if found != Seen(tally.digest):
                seen.append(found)
        return seen

    def standing(self) -> dict[str, list[dict[str, Any]]]:
        """Return, by model, where each session says that it stands on the ladder, and why."""
        found: dict[str, list[dict[str, Any]]] = {}
        for session in self._sessions.values():
            beat = session.beat
            told = {"event": beat.event, "rung": beat.rung, "code": beat.code, "providers": beat.providers}
            found.setdefault(beat.model, []).append(told)
        return found

    def close(self) -> None:
        """Forget every session."""
        for key in list(self._sessions):
            self._drop(key)

    def _documents(
        self, counts_of: Callable[[_Tally], Counts], *, idle: bool = False
    ) -> dict[str, dict[str, Any]]:
        now = self._clock()
        documents: dict[str, dict[str, Any]] = {}
        for tally in reversed(self._tallies.values()):
            counts = counts_of(tally)
            if tally.model in documents:
                if counts:
                    other = {"digest": tally.digest, **counts.document()}
                    documents[tally.model]["others"].append(other)
            elif idle or counts or self._of(tally.model):
                sessions = self._of(tally.model)
                documents[tally.model] = _document(tally, counts, sessions, now)
        return documents

    def _of(self, model: str) -> list[_Session]:
        return [session for session in self._sessions.values() if session.beat.model == model]

    def _hanging(self, pid: int, session: _Session, now: float) -> list[Lost]:
        """Count and return a session that hangs, once as long as it does.

        Where an inference ends, a beat says so; silence means that it goes on, or that all of it stands still.
        """
        beat = session.beat
        under_way_s = beat.in_flight_s + now - session.heard_s
        if session.hung or not beat.in_flight_s or under_way_s <= self._hang_s(beat.digest):
            return []
        session.hung = True
        self._tally(beat.model, beat.digest, now).add(Counts(hangs=1), now)
        return [Lost(beat.model, beat.digest, beat.session, pid, "hung")]

    def _peer(self, pid: int) -> Peer | None:
        return next((s.peer for key, s in self._sessions.items() if key[0] == pid), None)

    def _admit(self, pid: int, beat: Beat, now: float) -> _Session:
        if len(self._sessions) >= MAX_SESSIONS:
            # Of the process with the most, the one not heard of for longest: nobody can crowd out all the others.
            held: dict[int, int] = {}
            for owner, _name in self._sessions:
                held[owner] = held.get(owner, 0) + 1
            key = max(self._sessions, key=lambda key: (held[key[0]], -self._sessions[key].heard_s))
            self._drop(key)
            self.dropped += 1
        peer = self._peer(pid)
        if peer is None:
            peer = Peer.of(pid)
            self._attach(peer)
        session = self._sessions[pid, beat.session] = _Session(beat, peer, now)
        return session

    def _drop(self, key: tuple[int, str]) -> _Session:
        session = self._sessions.pop(key)
        if all(other[0] != key[0] for other in self._sessions):
            self._detach(session.peer)
            session.peer.close()
        return session

    def _tally(self, model: str, digest: str, now: float, *, heard: bool = False) -> _Tally:
        """Return the sums of a digest; those heard of last come last in `_tallies`."""
        key = (model, digest)
        tally = self._tallies.get(key)
        if tally is None:
            if len(self._tallies) >= MAX_TALLIES:
                used = {(s.beat.model, s.beat.digest) for s in self._sessions.values()}
                del self._tallies[
                    next((old for old in self._tallies if old not in used), next(iter(self._tallies)))
                ]
            tally = self._tallies[key] = _Tally(model, digest, turned_s=now)
        elif heard:
            self._tallies[key] = self._tallies.pop(key)
        return tally


def _has_left(before: Beat, now: Beat) -> bool:
    """Whether a session goes on without the model it ran, because inferences of it failed.

    Another provider of the same model, or its CPU model, is none: it still answers.
    """
    without = now.digest != before.digest or (now.rung == "safe-output" != before.rung)
    return without and now.rung != "normal" and now.code in _FAILED


def _document(tally: _Tally, counts: Counts, sessions: list[_Session], now: float) -> dict[str, Any]:
    last = max(sessions, key=lambda session: session.heard_s, default=None)
    ages = [s.beat.since_success_s + now - s.heard_s for s in sessions if s.beat.since_success_s is not None]
    inputs: dict[str, float] = {}
    for session in sessions:
        for name, distance in session.beat.drift_inputs.items():
            inputs[name] = max(distance, inputs.get(name, 0.0))
    return {
        "digest": tally.digest,
        "rung": degrade.worst(session.beat.rung for session in sessions),
        "codes": sorted({session.beat.code for session in sessions if session.beat.code}),
        "providers": list(last.beat.providers) if last else [],
        "sessions": len(sessions),
        "hung": sum(session.hung for session in sessions),
        "sinceSuccessS": round(min(ages), 1) if ages else None,
        "drift": {
            "confidence": _most(session.beat.drift_confidence for session in sessions),
            "inputs": inputs,
        },
        **counts.document(),
        "others": [],
    }


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
