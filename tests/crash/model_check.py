"""Every story under every power cut that a weak disk could make of it.

>>> explored = explore(named("update"), states=500, seed=1)      # doctest: +SKIP
>>> explored.states, explored.faults                             # doctest: +SKIP
(500, ())

A story is played once and its operations are recorded. They are then given one by one to a `Volume`, which says after
each what a disk might hold; every state is written to a folder in memory and an agent is started on it.
Some states are followed further: the start itself is recorded and cut, too.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from crash.invariants import BROKEN, LOST, STUCK, Fault, Started, start
from crash.recording import Acknowledged, Recording, empty
from crash.story import Story
from crash.volume import State, Volume
from edgewright_agent.errors import AgentError

MOST_PER_OPERATION = 6  # times its even share, where other operations have fewer states
SECOND_CUTS = 60  # states of a story whose own recovery is cut, at most
SECOND_SHARE = 0.2  # of the states, that go to those
KEPT_FAULTS = 5


@dataclass
class Explored:
    """What came of a story.

    Attributes:
        operations: In the story itself.
        trees: The states an agent was started on, by digest.
        faults: The first few, each with the operation after which the power went.
        count: Of faults, by kind.
    """

    story: str
    operations: int = 0
    trees: dict[bytes, Started] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    count: Counter[str] = field(default_factory=Counter)
    keep: int = KEPT_FAULTS

    @property
    def states(self) -> int:
        """How many different states the agent was started on."""
        return len(self.trees)

    def add(self, where: str, found: list[Fault]) -> None:
        """Note what was wrong in one state."""
        self.count.update({fault.kind for fault in found})
        self.faults += [f"{self.story}, {where}: {fault}" for fault in found][: self.keep - len(self.faults)]

    def row(self) -> str:
        """One line of the table."""
        wrong = "".join(f"{self.count[kind]:>8}" for kind in (BROKEN, LOST, STUCK))
        return f"{self.story:18}{self.operations:>11,}{self.states:>9,}{wrong}"


@dataclass(frozen=True)
class _Cut:
    where: str
    tree: bytes
    state: State
    acknowledged: Acknowledged | None


def explore(
    story: Story, *, states: int, seed: int = 1, careless: Collection[str] = (), keep: int = KEPT_FAULTS
) -> Explored:
    """Play a story and start an agent on at most `states` different results of a power cut in it.

    Args:
        story: What happens.
        states: How many.
        seed: Of what is random.
        careless: Kinds of operations that the disk only pretends to do: see whether the check can fail.
        keep: How many faults are told in words.
    """
    explored, chance = Explored(story.name, keep=keep), random.Random(f"{story.name} {seed}")
    with tempfile.TemporaryDirectory(prefix="edgewright-crash-", dir=memory()) as name:
        folder = Path(name).resolve() / "device"
        folder.mkdir()
        recording = Recording(folder, foreign=story.foreign, careless=careless)
        recording.begin()
        story.prepare(folder, recording)
        begun, durable = len(recording.ops), (recording.acknowledged or [None])[-1]
        story.act(story.device(folder, recording))
        explored.operations = len(recording.ops) - begun
        volume = Volume()
        for op in recording.ops[:begun]:
            volume.apply(op)
        first = round(states * (1 - SECOND_SHARE))
        cuts = list[_Cut]()
        for cut in _cuts(volume, recording, begun, durable, chance, first, explored.trees):
            _start(story, folder, cut, explored)
            cuts.append(cut)
        for cut in chance.sample(cuts, min(SECOND_CUTS, len(cuts))):
            if (room := states - explored.states) > 0:
                _cut_again(story, folder, cut, chance, min(room, states // 10 + 1), explored)
    return explored


def _cut_again(
    story: Story, folder: Path, cut: _Cut, chance: random.Random, room: int, explored: Explored
) -> None:
    """Record the start after a cut, and cut that."""
    empty(folder)
    cut.state.write_to(folder)
    recording = Recording(folder, foreign=story.foreign)
    recording.begin()
    recording.resume(cut.acknowledged)
    device = story.device(folder, recording)
    device.reboot()
    try:
        story.restart(device)
    except AgentError:
        return  # reported when it was looked at
    volume = Volume.holding(cut.state)
    for again in _cuts(volume, recording, 0, cut.acknowledged, chance, room, explored.trees):
        _start(story, folder, replace(again, where=f"{cut.where}, then {again.where}"), explored)


def _cuts(
    volume: Volume,
    recording: Recording,
    begun: int,
    durable: Acknowledged | None,
    chance: random.Random,
    room: int,
    known: Collection[bytes],
) -> Iterator[_Cut]:
    """Yield different states, spread evenly over the operations, those first that differ in one thing.

    One that was met before costs nothing, but later there may be more to lose: it comes again at the end.
    """
    ops, found, repeated = recording.ops[begun:], list[list[_Cut]](), list[_Cut]()
    most = MOST_PER_OPERATION * (room // (len(ops) + 1) + 1)
    moments = iter(recording.acknowledged)
    coming = next(moments, None)
    met = set(known)
    for done in range(len(ops) + 1):
        if done:
            volume.apply(ops[done - 1])
        while coming is not None and coming.after <= begun + done:
            durable, coming = coming, next(moments, None)
        where = f"after operation {done} of {len(ops)} ({ops[done - 1] if done else 'none yet'})"
        fresh, here = list[_Cut](), set[bytes]()
        for state in volume.states(chance, spare=most):
            tree = state.digest()
            if tree in here:
                continue
            here.add(tree)
            (repeated if tree in met else fresh).append(_Cut(where, tree, state, durable))
            if len(fresh) == most:
                break
        met |= here
        found.append(fresh)
    yield from _evenly(found, room)
    yield from (cut for cut in repeated if cut.tree in known)


def _evenly(found: list[list[_Cut]], room: int) -> Iterator[_Cut]:
    quota = next((n for n in range(room + 1) if sum(min(len(cuts), n) for cuts in found) >= room), room)
    for cuts in found:
        yield from cuts[:quota]


def _start(story: Story, folder: Path, cut: _Cut, explored: Explored) -> None:
    started, faults = explored.trees.get(cut.tree), list[Fault]()
    if started is None:
        empty(folder)
        cut.state.write_to(folder)
        started = explored.trees[cut.tree] = start(story, folder)
        faults += started.faults
    if faults := [*faults, *started.lost(cut.acknowledged)]:
        explored.add(cut.where, faults)


def memory() -> str | None:
    """Return a folder in memory, where there is one; None is the system's own for temporary files."""
    shared = Path("/dev/shm")
    return str(shared) if shared.is_dir() and shutil.disk_usage(shared).free > 1 << 28 else None
