"""The bench's device, whose record says when it was acknowledged: what stories are played on.

>>> device = Device(folder, Recording(folder))     # doctest: +SKIP
>>> device.publish(*ARTIFACTS); device.once()      # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from crash.recording import Fact, Witness
from edgewright_agent.clock import Uptime
from edgewright_agent.errors import TransportError
from edgewright_agent.files import Calls, Disk
from edgewright_agent.record import Ledger, Record
from edgewright_agent.store import Store
from edgewright_agent.update import Update
from unit.agent.core.workbench import Bench, Shelf


class WatchedLedger(Ledger):
    """Tells a witness of every record that is durable as far as the agent knows."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        super().__init__(folder, disk)
        self._calls = disk.calls

    def _write(self, record: Record) -> None:
        super()._write(record)
        if isinstance(self._calls, Witness):
            self._calls.acknowledge(self.generation, self.record)


@dataclass
class Line(Shelf):
    """A source whose line is cut after so many bytes of blobs, and stays cut."""

    left: int | None = None
    chunk: int = 2_000

    def blob(self, repository: str, digest: str, *, size: int, offset: int = 0) -> Iterator[bytes]:
        for chunk in super().blob(repository, digest, size=size, offset=offset):
            if self.left is not None:
                if not self.left:
                    raise TransportError("network", "connection reset")
                chunk, self.left = chunk[: self.left], self.left - min(self.left, len(chunk))  # noqa: PLW2901
            yield chunk


class Device(Bench):
    """One device; every `Ledger` it opens is watched."""

    def __init__(self, folder: Path, calls: Calls | None = None, *, anchored: bool = True) -> None:
        self.disk = Disk(calls)
        super().__init__(folder, calls=calls, anchored=False)
        self.line = Line(manifests=self.shelf.manifests)
        self.shelf = self.line
        if anchored and not self.state.exists():
            self.ledger.reanchor(Record())

    @property
    def ledger(self) -> Ledger:
        return WatchedLedger(self.state, self.disk)

    @property
    def store(self) -> Store:
        return Store(self.state, self.disk)

    def tell(self, fact: Fact) -> None:
        """Say that something outside the record is durable now."""
        if isinstance(self.disk.calls, Witness):
            self.disk.calls.tell(fact)

    def update(self) -> Update:
        return Update(
            self.config,
            self.ledger,
            self.store,
            self.shelf,
            self.trust,
            check=self.doctor,
            now=lambda: self.now,
            uptime=lambda: self.up,
        )

    def reboot(self) -> None:
        """A power cut is followed by another boot."""
        self.up = Uptime("another boot", 5)
