"""What the counting plugin writes: one line per span of the guest's life, cut where the probe sets a mark.

>>> read_span('{"mark":4,"threads":1,"instructions":12}').counts.instructions
12
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_EXIT = "exit"


@dataclass(frozen=True)
class ClassCounts:
    """Instructions of one span.

    Attributes:
        instructions: All of them.
        kinds: Kind → how many, adding up to `instructions`; known for arm64 and amd64, empty for armv7 and riscv64,
            whose instructions the plugin cannot tell apart. What a kind is, kinds.h, aarch64.h and x86.h say.
        load_bytes: Read from memory, by whatever kind; 0 where kinds are empty.
        store_bytes: Written to memory; 0 where kinds are empty.
        branch_misses: Conditional branches that a processor would have guessed wrong (predictor.h); 0 where kinds are
            empty.
    """

    instructions: int
    kinds: Mapping[str, int]
    load_bytes: int = 0
    store_bytes: int = 0
    branch_misses: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        known = {
            "loadBytes": self.load_bytes,
            "storeBytes": self.store_bytes,
            "branchMisses": self.branch_misses,
        }
        return {"instructions": self.instructions, **self.kinds, **(known if self.kinds else {})}


@dataclass(frozen=True)
class Span:
    """One line of the plugin: what ran before a mark and after the mark before.

    Attributes:
        mark: Number of the mark that ended it; None for the end of the program.
        threads: How many threads the guest had had.
    """

    mark: int | None
    threads: int
    counts: ClassCounts


def read_span(line: str) -> Span:
    """Return one line of the plugin's."""
    entry: dict[str, Any] = json.loads(line)
    mark, threads, total = entry.pop("mark"), int(entry.pop("threads")), int(entry.pop("instructions"))
    beside = [int(entry.pop(name, 0)) for name in ("loadBytes", "storeBytes", "branchMisses")]
    return Span(None if mark == _EXIT else int(mark), threads, ClassCounts(total, entry, *beside))
