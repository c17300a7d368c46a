"""The parent's side of a health check: a child that may do anything, and is ended before it does harm.

>>> run((sys.executable, "-c", "print(6 * 7)"), Watch(timeout_s=60)).output   # doctest: +SKIP
b'42\\n'

It has its own process group, a deadline, a longest time without a sign of life once it soaks, and a bound on memory:
the budget's, with room for a verdict that names both figures, and what the device itself needs to stay alive.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import Any

from edgewright_agent import memory, pulse, stopping
from edgewright_agent.engine import EngineError
from edgewright_agent.errors import HealthError
from edgewright_agent.model_state import DEFAULT_INFERENCE_TIMEOUT_S

PARENT = "EDGEWRIGHT_AGENT_PID"  # environment of the child
MAX_OUTPUT_BYTES = 64 * 1024
MAX_COMPLAINTS_BYTES = 8 * 1024  # the last ones are kept
_LOOK_EVERY_S = 0.1  # at its memory
# Times the budget, when waiting for the child's own figures is over: they say how much it was, this only that it was.
_BEYOND = 2
# Of the device's memory: where no more is left, the kernel soon ends somebody, and everything is slow before that.
_LAST_SHARE, _LAST_BYTES = 1 / 32, 64 * 2**20
_WANT = (
    b"memoryerror",
    b"bad_alloc",
    b"bad allocation",
    b"out of memory",
    b"out_of_memory",
    b"failed to allocate memory",
    b"cannot allocate memory",
)


@dataclass(frozen=True)
class Watch:
    """What a child may take; `peak_memory_bytes` is over the bare engine, as the budget's."""

    timeout_s: float
    soak_s: float = 0
    inference_timeout_s: float = DEFAULT_INFERENCE_TIMEOUT_S
    peak_memory_bytes: int | None = None


@dataclass(frozen=True)
class Ended:
    """How a child ended by itself: as `subprocess` tells it, with what was seen of it (`facts`)."""

    code: int
    output: bytes
    complaints: bytes
    facts: dict[str, Any]

    @property
    def killed_for_memory(self) -> bool:
        """Whether the kernel ended it for want of memory: its signal, and a count of such ends that has gone up."""
        return self.code == -signal.SIGKILL and bool(self.facts.get("oomKills"))

    def wanted_memory(self, message: str = "") -> bool:
        """Whether it says itself that it got no more memory."""
        said = self.complaints.lower() + message.lower().encode()
        return any(word in said for word in _WANT)

    def obituary(self) -> str:
        """Return how it ended, and its last words."""
        last = self.complaints.decode(errors="replace").strip().splitlines()[-1:]
        return f"the health check {_end(self.code)}" + (f": {last[0][:200]}" if last else "")


def run(command: tuple[str, ...], watch: Watch) -> Ended:
    """Run a child to its end; its whole process group is gone afterwards.

    Raises:
        EngineError: `runtime-missing`: it cannot be started.
        HealthError: it was ended: `health-timeout`, `health-over-budget`, `health-out-of-memory`; or it said too much.
        Stopped: this process was told to end, and the child with it.
    """
    before = memory.oom_kills()
    ours, its = os.pipe2(os.O_CLOEXEC)
    try:
        os.set_inheritable(its, True)
        child = _start(command, its)
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(its)
    watched = _Watched(child, ours, watch)
    try:
        watched.until_its_end()
        if child.returncode:
            stopping.check()  # who stops a service tells all of its processes, and the child ended of that
        facts = watched.facts()
        grown = {place: n - before.get(place, n) for place, n in memory.oom_kills().items()}
        if any(count > 0 for count in grown.values()):
            facts["oomKills"] = grown
        facts["exit"] = _exit(child.returncode)
        return Ended(child.returncode, watched.output, watched.complaints, facts)
    except HealthError as error:
        error.facts = {**watched.facts(), "exit": {"endedBy": "agent"}, **error.facts}
        raise
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        watched.close()


def _start(command: tuple[str, ...], fd: int) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "PYTHONSAFEPATH": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        PARENT: str(os.getpid()),
        pulse.FD: str(fd),
    }
    try:
        return subprocess.Popen(  # noqa: S603  our own interpreter, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env=environment,
            start_new_session=True,
            pass_fds=(fd,),
        )
    except OSError as error:  # no memory or no process left at the moment
        raise EngineError("runtime-missing", f"the health check cannot be started: {error}") from error


@dataclass
class _Watched:
    """A child under way: what it has said, how far it is, and by when the next thing must happen."""

    child: subprocess.Popen[bytes]
    pulse_fd: int
    watch: Watch
    output: bytes = b""
    complaints: bytes = b""
    known: dict[str, Any] = field(default_factory=dict)
    peak_bytes: int = 0

    def __post_init__(self) -> None:
        self._began = self._alive = time.monotonic()
        self._deadline = self._began + self.watch.timeout_s
        self._line = b""

    def facts(self) -> dict[str, Any]:
        """Return what the evidence should tell of it."""
        return {
            **self.known,
            "seconds": round(time.monotonic() - self._began, 3),
            "peakProcessBytes": self.peak_bytes,
            "stderr": self.complaints.decode(errors="replace"),
        }

    def until_its_end(self) -> None:
        """Read and watch until the child has ended.

        Raises:
            HealthError: it has to be ended.
            Stopped: so has this process.
        """
        assert self.child.stdout and self.child.stderr  # noqa: S101  both are pipes
        out, err = self.child.stdout.fileno(), self.child.stderr.fileno()
        with selectors.DefaultSelector() as selector:
            for fd in (out, err, self.pulse_fd):
                selector.register(fd, selectors.EVENT_READ)
            while selector.get_map():
                ready = selector.select(min(_LOOK_EVERY_S, max(0.0, self._next() - time.monotonic())))
                for key, _ in ready:
                    data = os.read(key.fd, 16384)
                    if not data:
                        selector.unregister(key.fd)
                    elif key.fd == out:
                        self.output = (self.output + data)[: MAX_OUTPUT_BYTES + 1]
                    elif key.fd == err:
                        self.complaints = (self.complaints + data)[-MAX_COMPLAINTS_BYTES:]
                    else:
                        self._hear(data)
                stopping.check()
                self._check_time()  # also for a child that never stops talking
                self._check_memory()
        self._wait()
        if len(self.output) > MAX_OUTPUT_BYTES:
            raise HealthError("health-crash", f"the health check wrote more than {MAX_OUTPUT_BYTES} bytes")

    def _wait(self) -> None:
        """Wait for the end of a child that has closed its pipes."""
        while self.child.poll() is None:
            stopping.check()
            left_s = self._deadline - time.monotonic()
            if left_s <= 0:
                raise HealthError(
                    "health-timeout", f"the model did not end within {self.watch.timeout_s:g} s"
                )
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.child.wait(min(_LOOK_EVERY_S, left_s))

    def close(self) -> None:
        """Close the pipes."""
        assert self.child.stdout and self.child.stderr  # noqa: S101  both are pipes
        self.child.stdout.close()
        self.child.stderr.close()
        os.close(self.pulse_fd)

    @property
    def _soaking(self) -> bool:
        return self.known.get("stage") == "soaking"

    def _next(self) -> float:
        return (
            min(self._deadline, self._alive + self.watch.inference_timeout_s)
            if self._soaking
            else self._deadline
        )

    def _hear(self, data: bytes) -> None:
        signs, self._line = pulse.read(self._line + data)
        for sign in signs:
            self._alive = time.monotonic()
            if not sign or pulse.STAGES.index(sign["stage"]) <= self._place():
                continue  # a beat; or a child that would begin again, and never end
            if sign["stage"] == "soaking" and self.watch.soak_s:
                self._deadline = self._alive + self.watch.soak_s + self.watch.timeout_s
            self.known |= sign

    def _place(self) -> int:
        return pulse.STAGES.index(self.known["stage"]) if "stage" in self.known else -1

    def _check_time(self) -> None:
        now = time.monotonic()
        if self._soaking and now >= self._alive + self.watch.inference_timeout_s:
            limit_s = self.watch.inference_timeout_s
            raise HealthError(
                "health-timeout", f"hangs: no inference came back for {limit_s:g} s during the trial's soak"
            )
        if now >= self._deadline:
            raise HealthError("health-timeout", f"no answer from the model within {self.watch.timeout_s:g} s")

    def _check_memory(self) -> None:
        found = memory.of_process(self.child.pid)
        self.peak_bytes = max(self.peak_bytes, found.peak_bytes)
        budget, bare = self.watch.peak_memory_bytes, self.known.get("bareBytes")
        if budget is not None and isinstance(bare, int) and found.peak_bytes - bare > _BEYOND * budget:
            raise HealthError(
                "health-over-budget",
                f"peak memory is {_mib(found.peak_bytes - bare)} and growing, the budget {_mib(budget)}: ended",
            )
        device = memory.of_device()
        last = min(_LAST_BYTES, int(device.total_bytes * _LAST_SHARE))
        if device.available_bytes < last and found.resident_bytes > device.available_bytes:
            raise HealthError(
                "health-out-of-memory",
                f"it held {_mib(found.resident_bytes)} when {_mib(device.available_bytes)} were left on the device: "
                "ended before something else was",
            )


def _end(code: int) -> str:
    if code >= 0:
        return f"ended with {code}"
    return f"died of {_exit(code)['signal']}"


def _exit(code: int) -> dict[str, Any]:
    if code >= 0:
        return {"code": code}
    try:
        return {"signal": signal.Signals(-code).name}
    except ValueError:  # a real-time signal has no name
        return {"signal": f"signal {-code}"}


def _mib(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
