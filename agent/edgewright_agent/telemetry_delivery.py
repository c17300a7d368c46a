"""Delivery: what waits in the spool goes to an OTLP receiver, in batches, and only what was taken is done with.

>>> send(config)                                                       # doctest: +SKIP
Delivery(outcome='ok', message='2 batches, 14 records', batches=2, records=14, rejected=0, more=False)

A batch is durable before it is first sent, with headers and signature: after a lost answer, a restart or an update of
the agent the very same bytes are sent again. First go the newest update statuses, so that a fleet's picture is right
soon after an outage; then history, the oldest first. Aggregates and samples go when no status or error waits, also when
one of their batches is under way already. A round ends after `BATCHES_PER_ROUND`; the next comes a minute
later.

What an answer means (OTLP 1.x, "Failures"; RFC 9110):
    2xx, JSON     taken; what `partialSuccess` rejects is counted and not sent again
    408 429 5xx   later, not before Retry-After says; 5xx that does not end is taken for a refusal
    401 403 404 405 407, 3xx    about this sender or this URL, not about the batch: later
    other 4xx     half of the batch is tried, and so on until the record it is about is alone; that one is given up
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from edgewright_agent.clock import utc_now
from edgewright_agent.config import Config
from edgewright_agent.errors import AgentError, ConfigError, StorageError, TransportError
from edgewright_agent.files import Disk
from edgewright_agent.lock import exclusive
from edgewright_agent.model_state import shorten
from edgewright_agent.record import Ledger
from edgewright_agent.spool import ERROR, FOLDER, UPDATE_STATUS, Batch, Spool
from edgewright_agent.spool_layout import Priority, Record
from edgewright_agent.telemetry import spool_of
from edgewright_agent.telemetry_batch import MAX_RECORDS, Made, Speaker, make
from edgewright_agent.transport import BusyError
from edgewright_agent.transport.document import parse_json
from edgewright_agent.transport.failing import retry_after_s
from edgewright_agent.transport.host import is_loopback, origin
from edgewright_agent.transport.wire import ClientIdentity, Response, Wire

BATCHES_PER_ROUND = 6
ROUND_S = 60.0
REFUSALS = 8  # 5xx in a row about one batch
FIRST_BACKOFF_S = 60.0
TIMEOUT_S = 60.0
MAX_ANSWER_BYTES = 64 * 1024
_LATER = (408, 429)
_NOT_THE_BATCH = (401, 403, 404, 405, 407)
_UNAVAILABLE = (502, 503, 504)  # says nothing about the batch, however long it lasts
_ALWAYS = (UPDATE_STATUS, ERROR)


@dataclass(frozen=True)
class Delivery:
    """What one round brought: `more` is whether something that may go is left, after a failure something urgent."""

    outcome: str
    message: str
    batches: int = 0
    records: int = 0
    rejected: int = 0
    more: bool = False

    @property
    def exit_code(self) -> int:
        """Of the process that sends."""
        return 0 if self.outcome == "ok" else TransportError.exit_code

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


class _Refused(Exception):
    """The receiver will never take this batch."""


def send(
    config: Config,
    *,
    metered: bool | None = None,
    now: Callable[[], datetime] = utc_now,
    chance: random.Random | None = None,
) -> Delivery:
    """Run one round of delivery; how it went is kept in the spool.

    Args:
        config: The device.
        metered: Whether bytes cost money: then only update statuses and errors go. None asks the configuration.
        now: The clock.
        chance: Spreads the next try of many devices.

    Raises:
        ConfigError: `no-endpoint`, `bad-ca-file`, `bad-secret`, `bad-key`, `bad-identity`.
        StorageError: `busy` when another sender is at work.
    """
    endpoint = config.telemetry.endpoint
    if endpoint is None:
        raise ConfigError("no-endpoint", "the configuration has no telemetry.endpoint: nothing is sent")
    spool = spool_of(config)
    chance = chance or random.Random()  # noqa: S311  it guards nothing
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(exclusive(config.state / FOLDER / "sending.lock"))
        except StorageError as error:
            if error.code == "busy":
                raise StorageError("busy", "another process is sending telemetry; try again") from None
            # A disk that cannot be written: what lies on it can be sent all the same.
        if metered is None:
            metered = _costs_money(config)
        allowed = _ALWAYS if metered else tuple(Priority)
        sender = None
        try:
            sender = _Sender(config, endpoint, spool, allowed)
            stack.callback(sender.close)
            done = sender.round()
        except AgentError as error:
            # Such an answer about aggregates says nothing about statuses and errors, of which there are none left.
            urgent = sender is None or sender.sending <= ERROR or not _is_about_the_batch(error)
            done = Delivery(error.code, str(error), more=urgent)
            _note(spool, config, done, error, now(), chance)
            if isinstance(error, ConfigError):
                raise
            return done
        _note(spool, config, done, None, now(), chance)
        return done


def _note(
    spool: Spool,
    config: Config,
    done: Delivery,
    error: AgentError | None,
    now: datetime,
    chance: random.Random,
) -> None:
    """Keep how it went, and when the next try is: spread, so that devices which lost a receiver at one moment do not
    come back at one moment."""
    at, interval_s = int(now.timestamp()), config.telemetry.interval_s
    changes: dict[str, Any] = {"tried": at, "outcome": done.outcome, "message": shorten(done.message, 200)}
    if error is None:
        pause_s = ROUND_S if done.more else interval_s
        changes |= {"failures": 0, "more": done.more}
        if done.batches:
            changes["succeeded"] = at
        wait_s = pause_s * chance.uniform(1.0, 1.25)
    else:
        failures = spool.head().failures + 1
        bound_s = min(interval_s, FIRST_BACKOFF_S * 2.0 ** min(failures - 1, 20))
        changes |= {"failures": failures, "more": done.more}
        # Who asks to be left alone gets its devices one by one after that, not all at once.
        wait_s = bound_s * chance.uniform(0.5, 1.5)
        asked_s = getattr(error, "retry_after_s", None)
        if asked_s is not None:
            wait_s = max(wait_s, asked_s + min(interval_s, 600.0) * chance.random())
    spool.note(**changes, next_try=at + int(wait_s) + 1)


class _Sender:
    def __init__(self, config: Config, endpoint: str, spool: Spool, allowed: Sequence[Priority]) -> None:
        self._config, self._endpoint, self._spool, self._allowed = config, endpoint, spool, allowed
        self._secrets = {
            name: secret.read(f"telemetry.headers.{name}")
            for name, secret in config.telemetry.headers.items()
        }
        self._speaker = _speaker(config)
        client = config.identity.client() if config.identity else None
        parts = urlsplit(endpoint)
        identity = ClientIdentity(origin(parts), *client) if client and parts.scheme == "https" else None
        ca_file = config.telemetry.ca_file
        self._wire = Wire(
            timeout_s=TIMEOUT_S,
            ca_file=str(ca_file) if ca_file else None,
            identity=identity,
            # Where there is a proxy, nothing else leads out; a collector on this machine is not out there.
            proxy=None if is_loopback(parts.hostname or "") else config.origin.mirrors[0].route(),
        )
        self._batches = self._records = self._rejected = 0
        self._status_sent = False
        self.sending = UPDATE_STATUS
        """Priority of the last batch that was tried."""
        self._limit = MAX_RECORDS
        self._halves: dict[Priority, Batch] = {}  # of refused batches, where the outbox could not take them

    def close(self) -> None:
        """Close the connection."""
        self._wire.close()

    def round(self) -> Delivery:
        """Send up to `BATCHES_PER_ROUND` batches.

        Raises:
            TransportError: the receiver cannot be reached, or wants to be left alone.
            StorageError: what was delivered cannot be kept: it will be sent again.
        """
        while self._batches < BATCHES_PER_ROUND:
            if not self._next():
                return self._done(more=False)
        return self._done(more=any(self._spool.waiting(priority) for priority in self._allowed))

    def _done(self, *, more: bool) -> Delivery:
        message = f"{self._batches} batches, {self._records} records"
        if self._rejected:
            message += f", {self._rejected} rejected"
        return Delivery("ok", message, self._batches, self._records, self._rejected, more)

    def _next(self) -> bool:
        """Send the next batch; return whether there was one."""
        pending = self._pending()
        if pending is not None:
            self._halves.pop(pending.priority, None)
            self._send(pending)
            return True
        for priority in self._allowed:
            records = self._spool.waiting(priority)
            if not records:
                continue
            newest = priority == UPDATE_STATUS and not self._status_sent
            self._status_sent = self._status_sent or newest
            made = self._make(records, newest=newest)
            if made.batch is None:
                self._give_up(made.used)
                return True
            self._keep(made.batch)
            self._send(made.batch)
            return True
        return False

    def _pending(self) -> Batch | None:
        """Return the batch whose delivery is under way, if it may go now.

        One of aggregates or samples stays where it is while a status or an error waits: an answer that it never gets
        (there is no /v1/metrics, say) would keep those from a receiver that takes them.
        """
        found = dict(self._halves)
        outbox = self._spool.outbox()
        if outbox is not None:
            found.setdefault(outbox.priority, outbox)
        for priority in sorted(found):
            if priority in _ALWAYS:
                return found[priority]
            if priority in self._allowed and not any(self._spool.waiting(one) for one in _ALWAYS):
                return found[priority]
        return None

    def _make(self, records: Sequence[Record], *, newest: bool = False) -> Made:
        head, other = self._spool.head(), self._spool.outbox()
        dropped = {priority.word: head.dropped[priority] for priority in Priority}
        beside = other is not None and other.priority != records[0].priority
        return make(records, self._speaker, dropped=dropped, newest=newest, limit=self._limit, beside=beside)

    def _keep(self, batch: Batch) -> bool:
        """Make a batch durable; without, it is sent all the same, if not the same twice."""
        try:
            return self._spool.put_outbox(batch)
        except StorageError:
            return False

    def _send(self, batch: Batch) -> None:
        self._batches += 1
        self.sending = batch.priority
        try:
            rejected = self._post(batch)
        except _Refused:
            self._halve(batch)
            return
        self._limit = min(MAX_RECORDS, 2 * self._limit)
        self._finish(batch, delivered=batch.count - rejected, rejected=rejected + batch.unreadable)

    def _halve(self, batch: Batch) -> None:
        """Have the first half of a refused batch sent next, or give up what is one record."""
        waiting = self._spool.waiting(batch.priority)
        records = [record for record in waiting if batch.first <= record.sequence <= batch.last]
        # Some may have had to make room since; as they were in a batch, they were not counted then.
        gone = max(0, batch.count + batch.unreadable - len(records))
        self._limit = max(1, len(records) // 2)
        if not records or (len(records) == 1 and not gone):
            self._finish(batch, delivered=0, rejected=len(records) + gone)
            return
        if gone:
            self._rejected += gone
            head = self._spool.head().counted("rejected", batch.priority, gone)
            self._spool.note(rejected=head.rejected)
        made = self._make(records)
        if made.batch is None:
            self._give_up(made.used)
        elif not self._keep(made.batch):
            self._halves[batch.priority] = made.batch

    def _give_up(self, used: Sequence[Record]) -> None:
        empty = Batch("", "", used[0].priority, used[0].sequence, used[-1].sequence, 0, {}, b"")
        self._finish(empty, delivered=0, rejected=len(used))

    def _finish(self, batch: Batch, *, delivered: int, rejected: int) -> None:
        self._records += delivered
        self._rejected += rejected
        self._spool.acknowledge(batch, delivered=delivered, rejected=rejected)

    def _post(self, batch: Batch) -> int:
        """Send a batch; return how many of its records were rejected for good.

        Raises:
            TransportError: it may be taken another time.
            _Refused: it never will.
        """
        url = f"{self._endpoint}/v1/{batch.signal}"
        headers = {**self._secrets, **batch.headers, "Accept": "application/json"}
        secret = bool(self._secrets)
        with self._wire.post(url, headers, batch.body, ceiling=MAX_ANSWER_BYTES, secret=secret) as response:
            if 200 <= response.status < 300:
                return _rejected(_body(response), url, batch)
            status, wait_s = response.status, retry_after_s(response.header("Retry-After"))
            response.discard()
        host = urlsplit(url).netloc
        if status in _LATER or status in _UNAVAILABLE:
            raise BusyError(f"{status} from {host}", retry_after_s=wait_s)
        if status >= 500:
            head = self._spool.head().counted("batch_failures", batch.priority, 1)
            if head.batch_failures[batch.priority] >= REFUSALS:
                raise _Refused
            self._spool.note(batch_failures=head.batch_failures)
            raise BusyError(f"{status} from {host}", retry_after_s=wait_s)
        if status in _NOT_THE_BATCH or status < 400:
            what = "are telemetry.headers right?" if status in (401, 403) else "is telemetry.endpoint right?"
            raise TransportError(
                "denied" if status in (401, 403) else "bad-response", f"{status} from {url}; {what}"
            )
        raise _Refused


def _is_about_the_batch(error: AgentError) -> bool:
    """Whether a receiver has answered, and did not ask to be left alone."""
    return error.code in ("busy", "denied", "bad-response") and getattr(error, "retry_after_s", None) is None


def _body(response: Response) -> bytes:
    return response.body(limit=MAX_ANSWER_BYTES)


def _rejected(body: bytes, url: str, batch: Batch) -> int:
    """Return how many records a receiver rejected (OTLP, "Partial Success"), at most.

    It counts log records and data points, and a record of the spool may have become many: it is taken for rejected in
    their proportion, rounded up.

    Raises:
        TransportError: `bad-response`: this is no receiver's answer; a captive portal says 200 to everything.
    """
    if not body.strip():
        return 0
    try:
        answer = parse_json(body, "its answer")
        partial = (answer.get("partialSuccess") or {}) if isinstance(answer, dict) else None
        if partial is None:
            raise ValueError("it is no object")
        told = partial.get("rejectedLogRecords") or partial.get("rejectedDataPoints") or 0
        points = max(batch.points, batch.count, 1)
        return -(-min(max(int(told), 0), points) * batch.count // points)
    except (ValueError, TypeError, AttributeError) as error:
        raise TransportError(
            "bad-response",
            f"{url} answers with something else than OTLP ({error}); is a login page in between?",
        ) from None


def _speaker(config: Config) -> Speaker:
    device = config.device
    try:
        fleet = Ledger(config.state, Disk()).record.fleet
    except StorageError:
        fleet = None
    if config.identity is None or not config.identity.key.exists():
        return Speaker(device.id, device.hardware_class, fleet)
    from edgewright_agent.identity.key import load

    return Speaker(device.id, device.hardware_class, fleet, load(config.identity.key))


def _costs_money(config: Config) -> bool:
    """Whether bytes are to be saved now; a class that has only such a link was planned with it."""
    from edgewright_agent.network import is_metered

    policy = Ledger(config.state, Disk()).record.policy
    metered = is_metered(config.network, config.state, signed=policy.get("meteredLink") is True)
    return metered and policy.get("metered") != "allow"
