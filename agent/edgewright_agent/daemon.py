"""The process that stays: it polls, watches the applications' sessions, and answers who asks how things are.

>>> Daemon(Path("/etc/edgewright/agent.json")).run()   # doctest: +SKIP

One loop waits for everything. What may take long happens in short-lived processes, whose memory is gone with them: a
request in a copy of this one (`asking`), an update and the sending of telemetry in children. SIGTERM and SIGINT stop it
at any moment, SIGHUP polls now, a changed configuration counts from the next poll on; while it is wrong nothing is
polled, and everything else goes on as before. An update that ends without a word is recorded here. Under systemd
(`Type=notify`) it says READY and feeds the watchdog.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from edgewright_agent.asking import Asking
from edgewright_agent.children import Child
from edgewright_agent.clock import to_text, uptime, utc_now
from edgewright_agent.config import Config, load
from edgewright_agent.degrade import look, observe
from edgewright_agent.duties import Duties
from edgewright_agent.errors import AgentError, ConfigError, StorageError
from edgewright_agent.files import Disk
from edgewright_agent.glance import Glance
from edgewright_agent.journal import log, notify, watchdog_s
from edgewright_agent.lock import exclusive
from edgewright_agent.loop import Loop
from edgewright_agent.poll import Judged, conditional, failed, nothing_new, trusted_now, with_mirrors
from edgewright_agent.record import Ledger, Poll
from edgewright_agent.schedule import polling, wait_s
from edgewright_agent.sender import Sender
from edgewright_agent.timers import Timers, boottime_s
from edgewright_agent.watch import Watch

STOPPING = (signal.SIGTERM, signal.SIGINT)
AWAITED = (*STOPPING, signal.SIGHUP, signal.SIGCHLD)
NETWORK_EXIT_CODE = 3
ASKING_LIMIT_S = 600.0  # a request that has not ended by then has failed, and is ended
WINDOW_PAUSE_S = 60.0  # between two children that were started because a window is open
CLOCK_STEP_S = 5.0  # by less, clocks are set all the time
WINDOW_CHECK_S = 3600.0  # windows are told by the wall clock, which may be set meanwhile


class Daemon:
    """One agent process.

    Args:
        config_path: Its configuration.
        command: The child that updates, for tests.
        sender: The child that sends telemetry, for tests.
        duties: What other parts want done, for tests.
        timers: When; for tests.
    """

    def __init__(
        self,
        config_path: Path,
        *,
        command: tuple[str, ...] | None = None,
        sender: tuple[str, ...] | None = None,
        duties: Duties | None = None,
        timers: Timers | None = None,
    ) -> None:
        self._path = config_path.absolute()  # a link may lead elsewhere at the next poll
        module = (sys.executable, "-m")
        self._command = command or (*module, "edgewright_agent", "once", "--config", str(self._path))
        self._sender = sender or (*module, "edgewright_agent.telemetry", str(self._path))
        self._duties = duties or Duties()
        self._timers = timers or Timers()

    def run(self) -> int:
        """Poll until told to stop; returns the exit code.

        Raises:
            ConfigError: the configuration is wrong at the start.
            StorageError: `busy` when another daemon serves this state directory.
        """
        config = load(self._path)
        with Loop(AWAITED, self._timers) as loop, exclusive(config.state / "daemon.lock"):
            service = Service(config, self._path, loop, self._command, self._sender, self._duties)
            log("start", device=config.device.id, source=config.origin.url)
            notify("READY=1")
            try:
                service.serve()
            finally:
                service.close()
                notify("STOPPING=1")
                log("stop")
        return 0


class Service:
    """What a daemon does from READY to STOPPING. One update at a time: asked for, or under way."""

    def __init__(
        self,
        config: Config,
        path: Path,
        loop: Loop,
        command: tuple[str, ...],
        sender: tuple[str, ...],
        duties: Duties,
    ) -> None:
        self._config, self._path, self._loop, self._timers = config, path, loop, loop.timers
        self._command, self._duties = command, duties
        self._sender = Sender(sender, loop.timers, lambda: duties.send_due_s(self._config), AWAITED)
        self._glance = Glance(config.state)
        self._asking = Asking(AWAITED)
        self._update: Child | None = None
        self._before: tuple[int, Poll | None] | None = None  # what was recorded when it was started
        self._stopping = False
        self._opens = False  # a window, when its timer ends; otherwise it is only asked for again
        self._gave_way = False  # an update, to the judgement of a model that crashes
        self._asked = False  # for a poll, by a SIGHUP that came while one was under way
        self._failures = 0
        self._ahead_s = time.time() - boottime_s()
        self._due: dict[str, Callable[[], None]] = {
            "poll": self._poll,
            "asking": self._give_up_asking,
            "window": self._window,
            "watchdog": self._feed,
        }
        self._watch = Watch(config, loop, self._glance, duties, self._facts, self._give_way)
        self._due.update(self._watch.due | self._sender.due)

    def serve(self) -> None:
        """Go on until told to stop, and the update under way has ended."""
        self._feed()
        self._watch.begin()
        self._sender.begin()
        # The first poll is the child's: it also recovers what the last shutdown left behind.
        self._start_update()
        while not (self._stopping and self._update is None):
            for number in self._loop.turn():
                self._signalled(number)
            self._reap()
            self._answered()
            self._clock_set()
            for name in self._timers.take():
                self._due[name]()
            self._watch.settle()

    def close(self) -> None:
        """End what would outlive this process for no good."""
        self._asking.close()
        self._sender.close()
        self._watch.close()

    # --- polling ------------------------------------------------------------------------------------------------

    def _poll(self) -> None:
        if self._stopping or self._busy():
            return
        self._asked = False
        if error := self._reload():
            self._poll_failed(error)
            return
        config = self._config
        try:
            record = self._glance.record
            margin_s = polling(config, record).interval_s
            etag = conditional(record, config.fingerprint(), now=utc_now(), margin_s=margin_s)
            over = etag is None or self._duties.wait_over(config, record)
            if over or self._asking.busy or self._certificate_due():
                self._start_update()
                return
            self._timers.after("asking", ASKING_LIMIT_S)
            assert etag is not None  # noqa: S101  or it would be over
            polls = record.counters.get("polls", 0)
            self._asking.begin(config, polls=polls, etag=etag, limit_s=2 * ASKING_LIMIT_S)
        except AgentError as error:
            self._poll_failed(error)
        except OSError as error:
            self._no_process("ask", error)

    def _answered(self) -> None:
        """Take the answer to a request, if there is one."""
        answer = self._asking.take()
        if answer is None or self._timers.left_s("asking") is None:
            return  # none, or one that had been given up
        self._timers.cancel("asking")
        if answer.error:
            self._poll_failed(answer.error, answer.mirrors)
        elif self._stopping:
            return
        elif answer.new:
            self._start_update()
        else:
            poll = nothing_new(utc_now())
            self._note_poll(poll, answer.mirrors)
            log("not-modified")
            self._polled(0, poll)

    def _give_up_asking(self) -> None:
        self._asking.stop()
        self._poll_failed(
            StorageError("network", f"no answer for {ASKING_LIMIT_S:.0f} s; the request is ended")
        )

    def _poll_failed(self, error: AgentError, mirrors: Judged | None = None) -> None:
        self._timers.cancel("asking")
        poll = failed(error, utc_now())
        self._note_poll(poll, mirrors)
        log("failed", code=error.code, message=str(error))
        self._polled(error.exit_code, poll)

    def _start_update(self) -> None:
        self._before = self._recorded()
        try:
            self._update = Child.start("update", self._command, AWAITED)
        except OSError as error:  # no memory or no process left at the moment: no reason to end
            self._no_process("start the update", error)

    def _no_process(self, what: str, error: OSError) -> None:
        self._poll_failed(StorageError("no-process", f"cannot {what}: {error.strerror or error}"))

    def _updated(self, code: int) -> None:
        """Go on after an update that ended with an exit code; record that it failed where it could not do so itself."""
        recorded = self._recorded()
        poll = recorded[1] if recorded else None
        if code and recorded == self._before:
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            # It reads the configuration itself, which may have changed since it was looked at here.
            error = self._reload() or StorageError(
                "interrupted", f"the update {how} before it could record why; what it said is in the log"
            )
            poll = failed(error, utc_now())
            self._note_poll(poll)
            log("failed", code=error.code, message=str(error))
        self._polled(code if 0 <= code <= NETWORK_EXIT_CODE else NETWORK_EXIT_CODE, poll)

    def _recorded(self) -> tuple[int, Poll | None] | None:
        """Return what tells one recorded poll from the next: how many there were, and the last; None: no record."""
        try:
            record = self._glance.record
        except StorageError:  # whoever has to write says it
            return None
        return record.counters.get("polls", 0), record.poll

    def _polled(self, code: int, poll: Poll | None) -> None:
        """Plan the next poll after one that ended with an exit code, and with that result."""
        self._failures = self._failures + 1 if code == NETWORK_EXIT_CODE else 0
        config = self._config
        policy = config.poll
        try:
            policy = polling(config, self._glance.record)
        except StorageError as error:
            log("failed", code=error.code, message=str(error))
        self._plan_window(WINDOW_PAUSE_S)
        self._sender.begin()
        if self._asked:
            self._timers.after("poll", 0)
            return
        retry_after_s = poll.retry_after_s if poll and code == NETWORK_EXIT_CODE else None
        pause_s = wait_s(policy, self._failures, retry_after_s=retry_after_s, share=_share())
        log("sleep", seconds=round(pause_s), failures=self._failures)
        told = f"{poll.code}: {poll.message}" if poll else "not polled yet"
        notify(f"STATUS={told}; next poll in {pause_s:.0f} s")
        self._timers.after("poll", pause_s)

    def _note_poll(self, poll: Poll, mirrors: Judged | None = None) -> None:
        """Keep the result of a poll; when another agent is at work its own result is the better one."""
        try:
            with exclusive(self._config.state / "lock"):
                disk, now = Disk(), utc_now()
                ledger = Ledger(self._config.state, disk)
                poll = with_mirrors(poll, ledger.record.poll, mirrors)
                record = replace(ledger.record.aged(uptime()).counted(polls=1), poll=poll)
                rungs = observe(record.rungs, look(self._config, record, disk, now), to_text(now))
                ledger.commit(replace(record, rungs=rungs))
        except StorageError as error:
            log("not-recorded", code=error.code, message=str(error))

    def _reload(self) -> ConfigError | None:
        """Take the configuration as it is now; return what is wrong with one that cannot be taken.

        An update would read the same file.
        """
        try:
            config = load(self._path)
            if config.state != self._config.state:
                raise ConfigError(
                    "bad-config", f"state is now {config.state}: restart the agent to move there"
                )
        except ConfigError as error:
            return ConfigError(error.code, f"{error}; nothing is polled until that is right")
        self._config = config
        self._watch.follow(config)
        return None

    def _certificate_due(self) -> bool:
        config = self._config
        if config.identity is None:
            return False
        from edgewright_agent.identity.validity import renewal_due

        return renewal_due(config.identity, config.state, trusted_now(self._glance.record, utc_now()))

    def _busy(self) -> bool:
        return self._update is not None or self._timers.left_s("asking") is not None

    # --- windows ------------------------------------------------------------------------------------------------

    def _plan_window(self, at_least_s: float = 0.0) -> None:
        try:
            opens_s = self._duties.window_s(self._config, self._glance.record)
        except AgentError as error:
            log("failed", code=error.code, message=str(error))
            opens_s = None
        if opens_s is None:
            self._timers.cancel("window")
            return
        self._opens = opens_s <= WINDOW_CHECK_S
        self._timers.after("window", max(opens_s, at_least_s) if self._opens else WINDOW_CHECK_S)

    def _window(self) -> None:
        """Start what waited for a window that is open by now; what it waits for may need no network."""
        if self._stopping:
            return
        if not self._opens or self._busy():
            self._plan_window(WINDOW_PAUSE_S)
            return
        log("window")
        if error := self._reload():
            self._poll_failed(error)
            return
        self._start_update()

    def _clock_set(self) -> None:
        """See whether somebody has set the clock: windows are told by it, and so are certificates of servers."""
        ahead_s = time.time() - boottime_s()
        set_s, self._ahead_s = ahead_s - self._ahead_s, ahead_s
        if abs(set_s) < CLOCK_STEP_S:
            return
        log("clock-set", seconds=round(set_s))
        if self._stopping or self._busy():
            return
        self._plan_window()
        if self._failures:
            self._timers.after("poll", 0)

    # --- signals and children -------------------------------------------------------------------------------------

    def _signalled(self, number: int) -> None:
        if number in STOPPING:
            self._stopping = True
            if self._update:
                self._update.signal(signal.SIGTERM)
        elif number == signal.SIGHUP:
            if self._busy():
                self._asked = True
            else:
                self._timers.after("poll", 0)

    def _reap(self) -> None:
        if self._update and (code := self._update.ended()) is not None:
            self._update = None
            log("update", exit_code=code)
            gave_way, self._gave_way = self._gave_way, False
            if gave_way:
                self._watch.judge()
            self._watch.changed()
            if self._stopping:
                pass
            elif gave_way and code < 0:
                self._start_update()  # it goes on where it was
            else:
                self._updated(code)
        self._sender.reap()

    def _give_way(self) -> None:
        if self._update and not self._gave_way:
            self._gave_way = True
            log("gives-way")
            self._update.signal(signal.SIGTERM)

    def _feed(self) -> None:
        period_s = watchdog_s()
        if period_s is not None:
            notify("WATCHDOG=1")
            self._timers.after("watchdog", period_s / 2)

    def _facts(self) -> dict[str, object]:
        """What this process is about, for whoever asks."""
        poll_s, window_s = self._timers.left_s("poll"), self._timers.left_s("window")
        return {
            "pid": os.getpid(),
            "doing": "updating" if self._update else "polling" if self._busy() else "waiting",
            "nextPollS": None if poll_s is None else round(poll_s, 1),
            "nextWindowS": None if window_s is None else round(window_s, 1),
            "failures": self._failures,
        }


def _share() -> float:
    """Return this device's place in the jitter: uniform in [0, 1)."""
    return int.from_bytes(os.urandom(6), "big") / float(1 << 48)
