"""The attack table: what is played, what the attacker has, and how the device refuses.

    $ PYTHONPATH=tests:pipelines:agent python -m attacks.table

prints it. The attacks themselves are in `on_*.py`; each is a generator that bends a `Scene` up to its only `yield`.
There the device polls. What comes after the `yield` is asserted of that poll, or undoes what only this attack needs
undone.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attacks.scene import Scene

MODULES = (
    "on_metadata", "on_keys", "on_recovery", "on_artifacts", "on_policy", "on_keyless", "on_encryption", "on_transport",
    "on_mirrors", "on_links", "on_deltas", "on_bundle_files", "on_state", "on_identity", "on_telemetry", "on_sockets",
)  # fmt: skip
EXIT_REFUSED, EXIT_NETWORK = 2, 3

Play = Callable[["Scene"], Iterator[None]]


@dataclass(frozen=True)
class Attack:
    """One attack.

    Attributes:
        name: As the test is called.
        has: What the attacker has.
        exit_code: Of `edgewright-agent once`. 0: the lie is passed by, and nothing changes.
        code: The reason that the device gives.
        play: Sets the scene.
        seen: Release that the device has installed before.
        honest: Release that the registry serves afterwards, which the device must then install.
        process: Whether the agent runs as a process of its own.
        floor_kept: Whether the highest versions in the record must be what they were; not where the metadata is
            honest, or signed by every key that it needs, and only the artifact is refused.
        installs: Release that the device installs all the same, from an honest hand; 0: none.
        collector: Whether it is the collector of device reports that refuses; the device is not even asked.
        who: Who speaks, where it is not a poll of the device: its daemon, or what sends its telemetry.
    """

    name: str
    has: str
    exit_code: int
    code: str
    play: Play
    seen: int = 1
    honest: int = 2
    process: bool = False
    floor_kept: bool = True
    installs: int = 0
    collector: bool = False
    who: str = ""

    @property
    def verdict(self) -> str:
        """What is said to it, for people."""
        if self.collector:
            return f"the collector: `{self.code}`"
        if self.who:
            return f"{self.who}: `{self.code}`" + (f" (exit {self.exit_code})" if self.exit_code else "")
        if self.installs:
            return f"nothing: the honest release {self.installs} is installed"
        if not self.exit_code:
            return f"`{self.code}`; the poll goes on" if self.code else "nothing: the lie is passed by"
        return f"`{self.code}` (exit {self.exit_code})"

    def __str__(self) -> str:
        return self.name


ATTACKS: list[Attack] = []


def attack(
    name: str,
    *,
    has: str,
    refused: str = "",
    failed: str = "",
    noted: str = "",
    collector: str = "",
    who: str = "",
    seen: int = 1,
    honest: int | None = None,
    process: bool = False,
    floor_kept: bool = True,
    installs: int = 0,
) -> Callable[[Play], Play]:
    """Enter a generator into the table.

    Args:
        name: Of the attack.
        has: What the attacker has.
        refused: Reason of a refusal (exit code 2).
        failed: Reason of what is treated as a broken source (exit code 3).
        noted: Reason that is told while the poll goes on (exit code 0). Nothing of these: the lie is passed by.
        collector: Reason that the collector of device reports gives.
        who: See `Attack`; the scene says what is done in place of a poll.
        seen: Release that the device has installed before.
        honest: Release that is served afterwards; default: the next one.
        process: Run the agent as a process of its own.
        floor_kept: See `Attack`.
        installs: See `Attack`.
    """
    exit_code = EXIT_REFUSED if refused else EXIT_NETWORK if failed else 0

    def enter(play: Play) -> Play:
        following = (installs or seen) + 1 if honest is None else honest
        code = refused or failed or noted or collector
        kept = floor_kept and not installs
        ATTACKS.append(
            Attack(
                name,
                has,
                exit_code,
                code,
                play,
                seen,
                following,
                process,
                kept,
                installs,
                bool(collector),
                who,
            )
        )
        return play

    return enter


def load() -> list[Attack]:
    """Return every attack, in the order of the modules."""
    for name in MODULES:
        importlib.import_module(f"attacks.{name}")
    # Run as a program, this module is another one than the attacks entered themselves into.
    attacks: list[Attack] = importlib.import_module("attacks.table").ATTACKS
    names = [attack.name for attack in attacks]
    assert len(set(names)) == len(names), "two attacks have one name"
    return attacks


def markdown() -> str:
    """Return the table as Markdown."""
    head = "| attack | the attacker has | the device says |\n|---|---|---|\n"
    return head + "".join(f"| {entry.name} | {entry.has} | {entry.verdict} |\n" for entry in load())


if __name__ == "__main__":
    print(markdown(), end="")
