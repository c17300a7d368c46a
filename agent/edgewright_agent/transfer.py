"""What travelled for an artifact, and what did not have to.

>>> print(Transfer(full_bytes=40_000_000, fetched_bytes=41_280, copied_files=3, delta_base="1.0.0"))
delta from 1.0.0, 41 kB instead of 40 MB
>>> print(Transfer(full_bytes=56_000, fetched_bytes=56_000))
56 kB fetched
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgewright_agent.artifact import Artifact, Layer


@dataclass(frozen=True)
class Transfer:
    """How an artifact came here in the end: files that an earlier, interrupted try has finished do not count.

    Attributes:
        full_bytes: Bytes of all its layers.
        fetched_bytes: Bytes of the layers and deltas that were fetched.
        copied_files: Files that were copied from an installed artifact.
        delta_base: Version that deltas started from; None when none was used.
    """

    full_bytes: int
    fetched_bytes: int = 0
    copied_files: int = 0
    delta_base: str | None = None

    def fetched(self, layer: Layer) -> Transfer:
        """Return it with a layer that was fetched whole."""
        return replace(self, fetched_bytes=self.fetched_bytes + layer.size)

    def copied(self, _layer: Layer) -> Transfer:
        """Return it with a file that was here already."""
        return replace(self, copied_files=self.copied_files + 1)

    def delta(self, base: Artifact, layer: Layer) -> Transfer:
        """Return it with a file that a delta made."""
        return replace(self, fetched_bytes=self.fetched_bytes + layer.size, delta_base=base.version)

    def __str__(self) -> str:
        """Return it in words."""
        saved = self.fetched_bytes < self.full_bytes
        instead = f"{size_text(self.fetched_bytes)} instead of {size_text(self.full_bytes)}"
        if self.delta_base is not None:
            return f"delta from {self.delta_base}, {instead}"
        return f"{instead} fetched" if saved else f"{size_text(self.fetched_bytes)} fetched"


def size_text(count: int) -> str:
    """Return a number of bytes as people say it.

    >>> [size_text(count) for count in (730, 41_280, 1_440_000, 98_000_000)]
    ['730 B', '41 kB', '1.4 MB', '98 MB']
    """
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            number = count / size
            return f"{number:.1f} {unit}" if number < 10 and unit != "kB" else f"{number:.0f} {unit}"
    return f"{count} B"
