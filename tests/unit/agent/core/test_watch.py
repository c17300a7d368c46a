"""Who ended with a goodbye and who without, whatever the daemon reads first. Real processes, real sockets."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from edgewright_agent import watch as module
from edgewright_agent.clock import to_text
from edgewright_agent.duties import Duties, Judgement
from edgewright_agent.glance import Glance
from edgewright_agent.loop import Loop
from edgewright_agent.model_state import ModelState, Slot, Soak
from edgewright_agent.watch import Watch
from unit.agent.core.beats import DIGEST, beat
from unit.agent.core.workbench import MODEL, NOW, Bench

ONE, TWO = "1" * 16, "2" * 16
# Says its first words at once and the others when it is told to, then ends.
APPLICATION = """
import socket, sys
words = sys.argv[3:]
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
    channel.connect(sys.argv[1])
    for number, word in enumerate(words):
        if number == int(sys.argv[2]):
            input()
        channel.send(word.encode())
    if int(sys.argv[2]) >= len(words):
        input()
"""


class Watching:
    """A watch in this process, whose loop turns when a test says so, over a model that soaks."""

    def __init__(self, bench: Bench, loop: Loop) -> None:
        active = Slot(DIGEST, "1.0.0", to_text(NOW))
        soaking = ModelState(active=active, soak=Soak(DIGEST, 3600.0, 3))
        bench.ledger.commit(replace(bench.ledger.record, models={MODEL: soaking}))
        duties = Duties(judge_soak=lambda _config, _seen: Judgement(), note_rungs=lambda *_: None)
        self.loop, self.path = loop, bench.state / "live.sock"
        self.watch = Watch(bench.config, loop, Glance(bench.state), duties, dict)
        self.watch.begin()

    def turn(self) -> None:
        """One turn of the loop, as the daemon makes it; a short one, if nothing happens."""
        self.loop.timers.after("tick", 0.02)
        self.loop.turn()
        for name in self.loop.timers.take():
            self.watch.due.get(name, lambda: None)()
        self.watch.settle()

    def until_sessions(self, count: int) -> None:
        for _ in range(1000):
            if len(self.watch.live) == count:
                return
            self.turn()
        raise AssertionError(f"{len(self.watch.live)} sessions, not {count}")

    @property
    def crashed(self) -> int:
        total: int = self.watch.live.totals()[MODEL]["crashed"]
        return total

    def application(self, first: Sequence[bytes], then: Sequence[bytes] = ()) -> subprocess.Popen[bytes]:
        words = [word.decode() for word in (*first, *then)]
        command = [sys.executable, "-c", APPLICATION, str(self.path), str(len(first)), *words]
        return subprocess.Popen(command, stdin=subprocess.PIPE)


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[Watching]:
    with Loop((signal.SIGCHLD,)) as loop:
        watching = Watching(Bench(tmp_path), loop)
        yield watching
        watching.watch.close()


def said(session: str, *events: str) -> list[bytes]:
    return [beat(event, session=session, inferences=number) for number, event in enumerate(events)]


def test_an_application_that_closes_and_ends_while_nobody_listens_has_not_crashed(watching: Watching) -> None:
    application = watching.application(said(ONE, "open", "beat"), said(ONE, "beat", "close"))
    watching.until_sessions(1)
    application.communicate(b"\n")  # the daemon does something else meanwhile
    watching.until_sessions(0)
    for _ in range(3):
        watching.turn()
    assert watching.crashed == 0


def test_sessions_that_are_opened_and_closed_in_the_last_moment_are_no_crash_either(
    watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_DATAGRAMS", 2)
    application = watching.application(
        said(ONE, "open"), [*said(TWO, "open", "close"), *said(ONE, "beat", "beat", "close")]
    )
    watching.until_sessions(1)
    application.communicate(b"\n")
    watching.until_sessions(0)
    assert watching.crashed == 0


def test_a_whole_life_that_is_heard_after_its_end_is_no_crash(watching: Watching) -> None:
    application = watching.application([], said(ONE, "open", "beat", "beat", "close"))
    application.communicate(b"\n")
    for _ in range(3):
        watching.turn()
    assert (watching.watch.live.heard, len(watching.watch.live), watching.crashed) == (4, 0, 0)


@pytest.mark.parametrize("heard_before_its_end", [True, False])
def test_whoever_ends_without_a_word_has_crashed_once_for_each_session(
    watching: Watching, *, heard_before_its_end: bool
) -> None:
    words = [*said(ONE, "open", "beat"), *said(TWO, "open", "beat", "beat")]
    application = watching.application(words) if heard_before_its_end else watching.application([], words)
    if heard_before_its_end:
        watching.until_sessions(2)
    application.communicate(b"\n")
    for _ in range(5):
        watching.turn()
    assert (watching.watch.live.heard, len(watching.watch.live), watching.crashed) == (5, 0, 2)


def test_a_flood_does_not_hide_a_crash(watching: Watching, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DATAGRAMS", 0)  # never read to the end
    monkeypatch.setattr(module, "_PAUSE_S", 0.001)
    application = watching.application([])
    watching.watch.live.hear(beat("open"), application.pid)
    application.communicate(b"\n")
    watching.until_sessions(0)
    assert watching.crashed == 1
