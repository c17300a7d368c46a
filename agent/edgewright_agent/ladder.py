"""The degraded-mode ladder as data: its steps in the order in which a device goes down, each in words for people.

>>> worst(["stale", "previous"])
'previous'
>>> step("no-space").code
'no-space'

`degrade` judges by it, `status` and reports tell by it, and the README's table is made from it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

LOOKS = 2  # in a row that must be better before a device comes up again
SPARE_SHARE = 0.1  # of the reserve, which must be free above it before `no-space` is left
SPARE_BYTES = 16 * 1024 * 1024  # or so much, if that is more
SPARE_INODES = 64
SPARE_OF_DISK = 1 / 32  # but no more of a small disk, which might never have so much
NO_SPACE = "no-space"  # also the code of a StorageError: a full disk or a quota
EXPIRED = "expired-metadata"


@dataclass(frozen=True)
class Step:
    """One rung of the ladder, in words for people; the tests of it are in `degrade`.

    Attributes:
        rung: Its name.
        about: `device`, or `model`: each has its own.
        code: What reports say.
        entered: When it is entered, at once.
        left: When it is left.
        meanwhile: What works and what does not.
        command: What a person can do; empty when it ends by itself.
    """

    rung: str
    about: str
    code: str
    entered: str
    left: str
    meanwhile: str
    command: str = ""


_BETTER = f"sessions have reported better {LOOKS} times in a row, or another model has passed its trial"
LADDER = (
    Step("normal", "device", "", "no other step holds", "another is entered", "everything works"),
    Step(
        "stale",
        "device",
        EXPIRED,
        "signed metadata of any role has ended by the device's trusted time, or a poll says so",
        "a poll has verified metadata of which nothing ends within one poll interval",
        "what runs keeps running; nothing is installed",
        "edgewright-agent once",
    ),
    Step(
        NO_SPACE,
        "device",
        NO_SPACE,
        "less is free than the reserve (bytes or inodes), or a write found no space or quota",
        f"{LOOKS} looks in a row: nothing failed, and the reserve is free and {SPARE_SHARE:.0%} of it or "
        f"{SPARE_BYTES >> 20} MiB more (at most 1/{1 / SPARE_OF_DISK:.0f} of the disk), and {SPARE_INODES} inodes more",
        "what runs keeps running, polls go on, the record is written; no download begins that does not fit",
        "df",
    ),
    Step(
        "next-provider",
        "model",
        "provider-down",
        "the first execution provider that the model was made for did not start: in its trial, or in an application",
        _BETTER,
        "the same model on the next provider of its list: slower",
    ),
    Step(
        "cpu-model",
        "model",
        "accelerator-down",
        "an application's session could not use the model on any provider and took the CPU model beside it",
        _BETTER,
        "the CPU model of the same version",
    ),
    Step(
        "previous",
        "model",
        "active-damaged",
        "the active model's files are damaged, it failed its live soak, or a session could not use it",
        "the agent: the assigned model is whole and has passed its trial; a session: " + _BETTER,
        "the previous version answers; a damaged one is fetched again",
        "edgewright-agent once",
    ),
    Step(
        "factory",
        "model",
        "previous-damaged",
        "the previous model is damaged or not there either",
        "as `previous`",
        "the factory model answers; the assigned one is fetched again",
        "edgewright-agent once",
    ),
    Step(
        "safe-output",
        "model",
        "no-model",
        "no model on this device can be used",
        "as `previous`",
        "applications get the safe output that the model declares, or an error",
        "edgewright-agent once",
    ),
)
RUNGS = tuple(one.rung for one in LADDER)
DEVICE_RUNGS = tuple(one.rung for one in LADDER if one.about == "device" and one.code)
_STEPS = {one.rung: one for one in LADDER}


def worst(rungs: Iterable[str]) -> str:
    """Return the lowest rung of those given; `normal` for none."""
    return max(rungs, key=RUNGS.index, default="normal")


def step(rung: str) -> Step:
    """Return what the ladder says of a rung."""
    return _STEPS[rung]


def table() -> str:
    """Return the ladder as a table in Markdown: what the README shows."""
    rows = [
        ("step", "code", "entered when", "left when", "meanwhile"),
        ("---",) * 5,
        *(
            (f"`{one.rung}`", f"`{one.code}`" if one.code else "–", one.entered, one.left, one.meanwhile)
            for one in LADDER
        ),
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
