"""The answer of the last run, kept for as long as not one byte it was based on has changed.

Reading and checking the YAML costs about 0.3 CPU-seconds, most of it to load the checker. A run that ended with
nothing left to do notes a fingerprint of everything it looked at; the next one compares that first. The note is never
the truth: any difference, or a missing result in the cache, leads to a real plan.

>>> settled = Settled.find(root)                   # doctest: +SKIP
>>> print(settled.text) if settled else plan_it()  # doctest: +SKIP
"""

from __future__ import annotations

import hashlib
import json
import os
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edgewright.plan.tree import files_below

_PLACES = (
    "EDGEWRIGHT_CACHE",
    "EDGEWRIGHT_TARGETS",
    "XDG_CACHE_HOME",
    "HOME",
)  # where results and targets lie
_NOTE = Path(".edgewright") / "state" / "settled.json"


@dataclass(frozen=True)
class Settled:
    """What a run with nothing left to do said, and which exit code it had."""

    text: str
    exit_code: int

    @classmethod
    def find(cls, root: Path) -> Settled | None:
        """Return the last answer if it still holds, else None."""
        try:
            note = json.loads((root / _NOTE).read_bytes())
            holds = note["fingerprint"] == fingerprint(root, note["reads"]) and all(
                Path(path).exists() for path in note["results"]
            )
            return cls(note["text"], note["exitCode"]) if holds else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, root: Path, began: str, reads: Iterable[str], results: Iterable[Path]) -> None:
        """Note this answer, unless something it rests on has changed since the specs were read.

        Args:
            root: The fleet's repository.
            began: What `fingerprint(root)` was before the specs were read.
            reads: Files beside the specs and the models' folders that the plan depends on, relative to `root`.
            results: Files of the cache that must stay for the answer to hold.

        Raises:
            EnvironmentFault: the note cannot be written.
        """
        names = sorted(reads)
        # In this order: an edit after the first comparison changes what the note is compared with next time.
        now = fingerprint(root, names)
        if fingerprint(root) != began:
            return
        note = {
            "fingerprint": now,
            "reads": names,
            "results": sorted(map(str, results)),
            "text": self.text,
            "exitCode": self.exit_code,
        }
        from edgewright.plan.note import write_note  # a run that only finds a note does not pay for it

        write_note(root / _NOTE, json.dumps(note).encode())


def fingerprint(root: Path, reads: Iterable[str] = ()) -> str:
    """Return a digest over everything a plan depends on.

    That is the specs, the code and weights beside them, the named files, the installed tools, this program and
    this machine's processor.
    """
    digest = hashlib.sha256()
    for path in (
        *_spec_files(root),
        *(root / name for name in reads),
        *_program_files(),
        Path("/proc/cpuinfo"),
    ):
        digest.update(f"\0{path}\0".encode())
        digest.update(_content(path))
    # the names of installed distributions carry their versions
    installed = sorted(
        entry.name
        for kind in ("purelib", "platlib")
        for entry in os.scandir(sysconfig.get_path(kind))
        if entry.name.endswith(".dist-info")
    )
    cores = str(len(os.sched_getaffinity(0)))
    places = [os.environ.get(name, "") for name in _PLACES]
    digest.update("\0".join([*installed, cores, *places]).encode())
    return digest.hexdigest()


def _content(path: Path) -> bytes:
    if path.name == "cpuinfo":  # clocks change from one moment to the next, the processor does not
        lines = path.read_bytes().splitlines() if path.exists() else []
        return b"".join(line for line in lines if line.startswith((b"model name", b"Model")))
    try:
        if path.suffix in (".py", ".yaml", ".pub", ".c", ".h") and path.is_file():
            return path.read_bytes()
        state = path.stat()  # weights and data can be large: size and time of change tell enough for a note
    except OSError as error:  # a link to nowhere, for example: that it cannot be read is all there is to know
        return f"unreadable: {error.errno}".encode()
    return f"{state.st_size} {state.st_mtime_ns}".encode()


def _spec_files(root: Path) -> Iterator[Path]:
    yield root / "fleet.yaml"
    for folder in ("hardware", "models", "baselines"):
        yield from files_below(root / folder)


def _program_files() -> Iterator[Path]:
    return (
        path for path in files_below(Path(__file__).parents[1]) if path.suffix in (".py", ".c", ".h", ".txt")
    )
