"""`edgewright-agent top`: what the models of this device do now, drawn again and again.

$ edgewright-agent top
$ edgewright-agent top --once --json | jq '.models[].live.recent'
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from edgewright_agent.errors import TransportError

if TYPE_CHECKING:
    from edgewright_agent.config import Config

_ENTER = "\x1b[?1049h\x1b[?25l"  # the other screen, no cursor (xterm control sequences, DECSET)
_LEAVE = "\x1b[?25h\x1b[?1049l"
_HOME, _TO_END_OF_LINE, _TO_END = "\x1b[H", "\x1b[K", "\x1b[J"
_FOOT = "q ends"


def add(verb: Callable[..., argparse.ArgumentParser]) -> None:
    """Describe the verb."""
    added = verb("top", "show what the models here do now, again and again (q ends)")
    added.add_argument("--once", action="store_true", help="show it once")
    added.add_argument("--json", action="store_true", help="what the agent says, one JSON object per line")
    added.add_argument(
        "--interval", type=_seconds, default=2.0, metavar="S", help="seconds between two looks (default: 2)"
    )
    added.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    from edgewright_agent.config import load
    from edgewright_agent.top import fetch

    config = load(options.config)
    try:
        document = fetch(config.state)
    except (OSError, TransportError) as error:
        return _without_daemon(config, options, error)
    if options.once:
        print(
            json.dumps(document, indent=2)
            if options.json
            else "\n".join(_lines(document, colours=_colours()))
        )
        return 0
    if options.json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return _stream(config.state, document, options)
    with contextlib.suppress(KeyboardInterrupt), _terminal() as wait:
        _draw(config.state, document, options.interval, wait)
    return 0


def _stream(state: Path, document: dict[str, Any], options: argparse.Namespace) -> int:
    """Print one picture after the other, for a file or a pipe; ends when the agent does."""
    from edgewright_agent.top import fetch

    while True:
        text = json.dumps(document) if options.json else "\n".join([*_lines(document, colours=False), ""])
        print(text, flush=True)
        time.sleep(options.interval)
        try:
            document = fetch(state)
        except OSError as error:
            raise TransportError(
                "no-daemon", f"the agent answers no more: {error.strerror or error}"
            ) from None


def _draw(state: Path, document: dict[str, Any], interval_s: float, wait: Callable[[float], str]) -> None:
    """Draw on the terminal until `q`; an agent that is restarted meanwhile comes back into view."""
    from edgewright_agent.top import fetch

    trouble = ""
    while True:
        width, height = _size()
        lines = _lines(document, colours=_colours())
        foot = f"{_FOOT} · no answer any more ({trouble})" if trouble else _FOOT
        lines = [*lines[: max(1, height - 2)], "", foot[: width - 1]]
        sys.stdout.write(_HOME + "".join(f"{line}{_TO_END_OF_LINE}\r\n" for line in lines[:-1]))
        sys.stdout.write(f"{lines[-1]}{_TO_END_OF_LINE}{_TO_END}")
        sys.stdout.flush()
        if "q" in wait(interval_s).lower():
            return
        try:
            document, trouble = fetch(state), ""
        except (OSError, TransportError) as error:
            trouble = getattr(error, "strerror", None) or str(error)


def _lines(document: dict[str, Any], *, colours: bool) -> list[str]:
    from edgewright_agent.clock import utc_now
    from edgewright_agent.top import frame

    return frame(document, utc_now(), width=_size()[0], colours=colours, clock=time.strftime("%H:%M:%S"))


def _size() -> tuple[int, int]:
    """Return columns and lines: of the terminal as it is now, whatever `COLUMNS` said when the shell started."""
    with contextlib.suppress(OSError, ValueError):
        columns, lines = os.get_terminal_size(sys.stdout.fileno())
        if columns and lines:
            return columns, lines
    return shutil.get_terminal_size((120, 24))


def _colours() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


@contextlib.contextmanager
def _terminal() -> Iterator[Callable[[float], str]]:
    """Have the terminal to ourselves; gives a function that waits for keys, a new size, or a time to pass."""
    import termios
    import tty

    keys = sys.stdin.fileno()
    before = termios.tcgetattr(keys)
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def enter() -> None:
        tty.setcbreak(keys)
        sys.stdout.write(_ENTER)
        sys.stdout.flush()

    def leave() -> None:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
        termios.tcsetattr(keys, termios.TCSADRAIN, before)

    def stop(_number: int, _frame: FrameType | None) -> None:
        leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        enter()

    def wait(seconds: float) -> str:
        ready, _, _ = select.select([keys, woken], [], [], seconds)
        if woken in ready:
            os.read(woken, 4096)
        if keys not in ready:
            return ""
        return os.read(keys, 64).decode(errors="replace") or "q"  # a terminal that is gone reads as empty

    handlers = {
        signal.SIGTSTP: stop,
        signal.SIGWINCH: lambda *_: None,
        signal.SIGTERM: _end,
        signal.SIGHUP: _end,
    }
    old = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    old_wake = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    enter()
    try:
        yield wait
    finally:
        signal.set_wakeup_fd(old_wake)
        for number, handler in old.items():
            signal.signal(number, handler)
        with contextlib.suppress(OSError, termios.error):
            leave()
        os.close(woken)
        os.close(wake)


def _end(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _without_daemon(config: Config, options: argparse.Namespace, error: OSError | TransportError) -> int:
    """Say why there is nothing live to show, and show what is on disk."""
    from edgewright_agent.clock import utc_now
    from edgewright_agent.contract import HEALTH_SOCKET
    from edgewright_agent.files import Disk
    from edgewright_agent.record import Ledger
    from edgewright_agent.status import gather
    from edgewright_agent.store import Store

    path = config.state / HEALTH_SOCKET
    if isinstance(error, PermissionError):
        why = f"you may not talk to the agent at {path}: become a member of the group of {config.state}"
    elif isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
        why = f"no agent runs on {config.state}; start it with `edgewright-agent run`, or its service"
    else:
        why = f"the agent at {path} does not answer as it should: {error}"
    print(f"edgewright-agent: no-daemon: {why}. This is what is on disk:", file=sys.stderr)
    status = gather(config, Ledger(config.state, Disk()), Store(config.state, Disk()), utc_now())
    print(json.dumps({**status.document(), "agent": None}) if options.json else status.text())
    return TransportError.exit_code


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.1 to 3600")
    return seconds
