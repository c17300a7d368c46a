"""The daemon's ears and voice: the sockets in the state directory, the sessions heard there, what follows from them.

>>> watch = Watch(config, loop, glance, duties, facts)    # doctest: +SKIP
>>> watch.begin()                                         # doctest: +SKIP

Where a socket cannot be had, on a read-only disk or beside another file of that name, the agent goes on without, says
so once, and tries again every minute.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any

from edgewright_agent import __version__
from edgewright_agent.clock import uptime
from edgewright_agent.config import Config
from edgewright_agent.contract import HEALTH_SOCKET, LIVE_SOCKET, MAX_LIVE_BYTES
from edgewright_agent.duties import Duties
from edgewright_agent.endpoint import Answer, Endpoint
from edgewright_agent.errors import AgentError, StorageError
from edgewright_agent.glance import Glance
from edgewright_agent.journal import log
from edgewright_agent.live import HANG_S, Live, Lost, Seen
from edgewright_agent.loop import Loop
from edgewright_agent.model_state import Soak
from edgewright_agent.peers import Peer
from edgewright_agent.sockets import Bound

SOCKETS_S = 60.0
SESSIONS_S = 10.0  # how often it is looked for hangs, and for ended processes where the kernel does not tell
SOAK_S = 300.0  # how often time counts for models that soak
WATCHED_S = 30.0  # how often they are judged while applications live; at once when one has crashed or hangs
RETRY_S = 10.0
_DATAGRAMS = 32  # read in one go; then others have their turn, and whoever floods the socket waits
_PAUSE_S = 0.1
# Of reading before ended processes are missed anyway, while somebody floods the socket: more than it holds
# (net.unix.max_dgram_qlen: 10, or 512 where systemd runs).
_ROUNDS = 32
_HANG_FACTOR = 20.0  # how much longer than in its trial an inference may take before it hangs
_LOST = {"crashed": "ended without closing its session", "hung": "an inference takes longer than any should"}
_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid (unix(7))


class Watch:
    """Sockets, sessions, soak and aggregates.

    Args:
        config: The configuration; see `follow`.
        loop: Where to wait.
        glance: The record.
        duties: What other parts want done.
        facts: What the daemon itself is about.
        give_way: Ends an update that keeps a model which crashes its applications from being judged.
    """

    def __init__(
        self,
        config: Config,
        loop: Loop,
        glance: Glance,
        duties: Duties,
        facts: Callable[[], Mapping[str, object]],
        give_way: Callable[[], None] = lambda: None,
    ) -> None:
        self.config = config
        self.due: dict[str, Callable[[], None]] = {
            "sockets": self._open,
            "sessions": self._check,
            "listen": self._listen,
            "clients": self._expire,
            "soak": self.judge,
            "aggregate": self._aggregate,
            "rungs": self._note_rungs,
        }
        self.live = Live(hang_s=self._hang_s, attach=self._attach, detach=self._detach)
        self._loop, self._timers, self._glance = loop, loop.timers, glance
        self._duties, self._facts, self._give_way = duties, facts, give_way
        self._bound: dict[str, Bound] = {}
        self._told: dict[str, str] = {}
        self._endpoint: Endpoint | None = None
        self._seen: dict[str, Seen] = {}
        self._rounds = 0

    def begin(self) -> None:
        """Listen."""
        self._open()
        self.follow(self.config)

    def follow(self, config: Config) -> None:
        """Go on with a configuration that may have changed."""
        self.config = config
        period_s = self._duties.aggregate_s(config)
        if period_s is None:
            self._timers.cancel("aggregate")
            return
        if self._timers.left_s("aggregate") is None:
            self.live.take()  # what was before belongs to no aggregate
        self._timers.sooner("aggregate", period_s)

    def changed(self) -> None:
        """The record may have changed: see what soaks now."""
        soaks: list[Soak] = []
        with contextlib.suppress(StorageError):  # whoever polls says it
            states = self._glance.record.models.values()
            soaks = [state.proving for state in states if state.proving and not state.proving.failed]
        self._gather()  # what was seen before a model began to soak says nothing about it
        self.live.soaking = frozenset(soak.digest for soak in soaks)
        if soaks:
            from edgewright_agent.soak import left_s

            first_s = min(left_s(soak, uptime()) for soak in soaks)
            self._timers.sooner("soak", min(first_s + 1.0, WATCHED_S if len(self.live) else SOAK_S))
        else:
            self._timers.cancel("soak")

    def settle(self) -> None:
        """After a turn of the loop: set what has to be looked at next."""
        left_s = self._endpoint.left_s() if self._endpoint else None
        if left_s is not None:
            self._timers.after("clients", left_s)
        if len(self.live):
            self._timers.sooner("sessions", SESSIONS_S if self.live.restless else SOCKETS_S)

    def close(self) -> None:
        """Stop listening; what is not yet told stays untold."""
        self.live.close()
        for name in list(self._bound):
            self._unbind(name)

    # --- sockets --------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        """Have both sockets, also after somebody has emptied the state directory."""
        self._timers.after("sockets", SOCKETS_S)
        self.changed()  # also by a person: `rollback`, `install`
        for name, kind in ((HEALTH_SOCKET, socket.SOCK_STREAM), (LIVE_SOCKET, socket.SOCK_DGRAM)):
            if name in self._bound and self._bound[name].there:
                continue
            self._unbind(name)
            try:
                self._bind(name, kind)
                self._told.pop(name, None)
            except (StorageError, OSError) as error:
                if self._told.get(name) != str(error):
                    self._told[name] = str(error)
                    log(
                        "not-listening",
                        socket=name,
                        code=getattr(error, "code", "io-error"),
                        message=str(error),
                    )

    def _bind(self, name: str, kind: socket.SocketKind) -> None:
        bound = self._bound[name] = Bound(self.config.state / name, kind)
        if name == HEALTH_SOCKET:
            self._endpoint = Endpoint(bound.channel, self._answer, self._loop, self._timers.clock)
            return
        bound.channel.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._loop.watch(bound.channel, self._hear)

    def _unbind(self, name: str) -> None:
        bound = self._bound.pop(name, None)
        if bound is None:
            return
        if name == HEALTH_SOCKET and self._endpoint:
            self._endpoint.close()
            self._endpoint = None
        self._loop.forget(bound.channel)
        bound.close()

    def _expire(self) -> None:
        if self._endpoint:
            self._endpoint.expire()

    # --- sessions -------------------------------------------------------------------------------------------------

    def _hear(self) -> None:
        self._read()

    def _read(self) -> bool:
        """Take what has been said; return whether that was all of it."""
        if LIVE_SOCKET not in self._bound:
            return True
        channel = self._bound[LIVE_SOCKET].channel
        for _ in range(_DATAGRAMS):
            try:
                data, ancillary, _flags, _from = channel.recvmsg(
                    MAX_LIVE_BYTES + 1, socket.CMSG_SPACE(_CREDENTIALS.size)
                )
            except BlockingIOError:
                return True
            except OSError as error:
                log("failed", code="io-error", message=f"{LIVE_SOCKET}: {error.strerror}")
                break
            self._tell(self.live.hear(data, _sender(ancillary)))
            self._timers.sooner("rungs", SESSIONS_S)
        self._loop.forget(channel)
        self._timers.after("listen", _PAUSE_S)
        return False

    def _listen(self) -> None:
        if LIVE_SOCKET in self._bound:
            self._loop.watch(self._bound[LIVE_SOCKET].channel, self._hear)

    def _check(self) -> None:
        """Look for ended processes and hangs, once everything is read: the last word of one may be its goodbye."""
        self._rounds += 1
        if not self._read() and self._rounds < _ROUNDS:
            self._timers.after("sessions", _PAUSE_S)
            return
        self._rounds = 0
        self._tell(self.live.check())

    def _attach(self, peer: Peer) -> None:
        if peer.fd is not None:
            self._loop.watch(peer.fd, lambda: self._ended(peer))
        elif peer.alive() is False:  # what it has said was read after its end
            self._timers.after("sessions", 0)

    def _ended(self, peer: Peer) -> None:
        if peer.fd is not None:
            self._loop.forget(peer.fd)  # it stays readable
        self._timers.after("sessions", 0)

    def _detach(self, peer: Peer) -> None:
        if peer.fd is not None:
            self._loop.forget(peer.fd)

    def _tell(self, lost: list[Lost]) -> None:
        for one in lost:
            log("session", code=one.code, model=one.model, digest=one.digest, pid=one.pid)
            if one.code == "vanished":
                continue
            if one.digest in self.live.soaking:
                self._timers.sooner("soak", 0.0)
            message = f"process {one.pid}: {_LOST[one.code]}"
            try:
                self._duties.note_error(
                    self.config, f"session-{one.code}", message, model=one.model, digest=one.digest
                )
            except AgentError as error:
                log("failed", code=error.code, message=str(error))

    def _hang_s(self, digest: str) -> float:
        """Return how long an inference may take: as its soak says, or else as what its trial measured suggests."""
        with contextlib.suppress(StorageError):
            for state in self._glance.record.models.values():
                if state.proving and state.proving.digest == digest:
                    return state.proving.inference_timeout_s
                for slot in (state.active, state.previous, state.factory, state.candidate):
                    if slot and slot.digest == digest and slot.health:
                        took_ms = slot.health.get("inferenceMs")
                        if isinstance(took_ms, int | float):
                            return max(HANG_S, _HANG_FACTOR * took_ms / 1000)
        return HANG_S

    # --- what follows from them -----------------------------------------------------------------------------------

    def _gather(self) -> None:
        """Keep what was seen until somebody has judged it."""
        for one in self.live.observations():
            had = self._seen.get(one.digest, Seen(one.digest))
            self._seen[one.digest] = Seen(
                one.digest,
                had.crashes + one.crashes,
                had.hangs + one.hangs,
                had.errors + one.errors,
                had.inferences + one.inferences,
            )
        self._seen = {digest: one for digest, one in self._seen.items() if digest in self.live.soaking}

    def judge(self) -> None:
        """Let what was seen of models that soak be judged."""
        self._gather()
        try:
            judged = self._duties.judge_soak(self.config, self._seen)
        except AgentError as error:
            self._timers.after("soak", RETRY_S)
            if error.code != "busy":
                log("failed", code=error.code, message=str(error))
            elif any(one.crashes or one.hangs for one in self._seen.values()):
                self._give_way()  # a download may take hours
            return
        self._seen = {digest: one for digest, one in self._seen.items() if digest not in judged.taken}
        for model, code, message in judged.fallen:
            log("soak-failed", model=model, code=code, message=message)
        for model in judged.proved:
            log("proved", model=model)
        self.changed()

    def _note_rungs(self) -> None:
        """Record where models stand, if a session is not where it should be, or one was not."""
        standing = self.live.standing()
        down = {model for model, beats in standing.items() if any(beat["rung"] != "normal" for beat in beats)}
        try:
            states = self._glance.record.models
            told = {
                model: beats
                for model, beats in standing.items()
                if model in down or (model in states and states[model].rung)
            }
            if told:
                self._duties.note_rungs(self.config, told)
                self._timers.sooner("rungs", SOCKETS_S)
        except AgentError as error:
            if error.code != "busy":
                log("failed", code=error.code, message=str(error))
            self._timers.after("rungs", RETRY_S)

    def _aggregate(self) -> None:
        period_s = self._duties.aggregate_s(self.config)
        if period_s is None:
            return
        self._timers.after("aggregate", period_s)
        try:
            self._duties.note_aggregate(self.config, self.live.take())
        except AgentError as error:
            log("failed", code=error.code, message=str(error))

    # --- answers --------------------------------------------------------------------------------------------------

    def _answer(self, path: str) -> Answer | None:
        page = {
            "/v1/health": self._health,
            "/v1/status": self._status,
            "/v1/models": self._models,
            "/metrics": self._metrics,
        }.get(path)
        if page is None:
            return None
        try:
            return page()
        except AgentError as error:
            return Answer.of(
                503, {"status": "failing", "reasons": [{"code": error.code, "message": str(error)}]}
            )

    def _health(self) -> Answer:
        from edgewright_agent.probe import health

        document = health(self._glance.status(self.config), self._glance.record, self.live.totals())
        return Answer.of(503 if document["reasons"] else 200, document)

    def _status(self) -> Answer:
        document = self._glance.status(self.config).document()
        document["models"] = self._model_documents()
        document["vitals"] = self._duties.vitals(self.config)
        document["spool"] = self._duties.spool(self.config)
        document["agent"] = {
            "version": __version__,
            **self._facts(),
            "sessions": len(self.live),
            "datagrams": {
                "heard": self.live.heard,
                "refused": self.live.refused,
                "dropped": self.live.dropped,
            },
        }
        return Answer.of(200, document)

    def _models(self) -> Answer:
        return Answer.of(200, {"version": 1, "models": self._model_documents()})

    def _model_documents(self) -> dict[str, Any]:
        from edgewright_agent.probe import models

        return models(self._glance.status(self.config), self._glance.record, self.live.totals())

    def _metrics(self) -> Answer:
        from edgewright_agent.metrics import KIND, exposition, of_device

        metrics = of_device(
            self._glance.status(self.config),
            self._glance.record,
            self.live.totals(),
            self._duties.vitals(self.config) or {},
        )
        return Answer(200, exposition(metrics).encode(), KIND)


def _sender(ancillary: list[tuple[int, int, bytes]]) -> int:
    """Return the process that has sent a datagram, as the kernel says; 0 when it cannot be seen from here."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS and len(data) >= _CREDENTIALS.size:
            pid: int = _CREDENTIALS.unpack_from(data)[0]
            return pid
    return 0
