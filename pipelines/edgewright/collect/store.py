"""The last accepted report of every device, and which batches have come, in SQLite: durable before anybody is told.

>>> with Store(Path(".edgewright/collect.sqlite")) as store:           # doctest: +SKIP
...     store.advance(report)

The number a device has reached belongs to its key: with a new key it begins anew, and nothing an old key signed is
believed under the new one.

Of the batches of a key the last `BATCHES_KEPT` are known, one that came again counting as the newest. A device repeats
only what it has no answer to, which is at most two batches at a time, and goes on with them when its link is back: time
without a link forgets nothing, only thousands of other batches would. It is more than the largest spool of a device
(64 MiB, in batches of 28 KiB) holds after months.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from edgewright.collect.report import Refused, Report
from edgewright.collect.telemetry import Batch
from edgewright.errors import EnvironmentFault

DATABASE = ".edgewright/collect.sqlite"
_TABLE = """
CREATE TABLE IF NOT EXISTS reports (
    device TEXT NOT NULL,
    key TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (device, key)
) STRICT
"""
# One statement, so that of two collectors with the same report only one is told that it is new.
_ADVANCE = """
INSERT INTO reports (device, key, sequence, document) VALUES (?, ?, ?, ?)
ON CONFLICT (device, key) DO UPDATE SET sequence = excluded.sequence, document = excluded.document
WHERE excluded.sequence > reports.sequence
"""
_BATCHES = """
CREATE TABLE IF NOT EXISTS batches (
    device TEXT NOT NULL,
    key TEXT NOT NULL,
    id TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    PRIMARY KEY (device, key, id)
) STRICT
"""
_RECEIVE = "INSERT INTO batches (device, key, id, sha256) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
# With a new rowid: they are in the order in which batches came.
_AGAIN = "INSERT OR REPLACE INTO batches (device, key, id, sha256) VALUES (?, ?, ?, ?)"
_FORGET = """
DELETE FROM batches WHERE device = ?1 AND key = ?2 AND rowid <= (
    SELECT rowid FROM batches WHERE device = ?1 AND key = ?2 ORDER BY rowid DESC LIMIT 1 OFFSET ?3
)
"""
BATCHES_KEPT = 4096  # of each key: half a megabyte
_BUSY_S = 30.0


class Store:
    """Reports by device and key.

    Args:
        path: The database; made when it is missing.

    Raises:
        EnvironmentFault: it cannot be opened or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._faults():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
            # A power cut must not bring an old number back: every commit waits for the disk.
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.execute(_TABLE)
            self._database.execute(_BATCHES)

    def advance(self, report: Report) -> int | None:
        """Keep a report if its sequence is above the last one of this device and key.

        Returns:
            None when it was kept, else the last sequence.

        Raises:
            EnvironmentFault: the database cannot be written.
        """
        row = (report.device, report.key, report.sequence, json.dumps(report.document, sort_keys=True))
        with self._faults():
            if self._database.execute(_ADVANCE, row).rowcount == 1:
                return None
            last = self._database.execute(
                "SELECT sequence FROM reports WHERE device = ? AND key = ?", row[:2]
            ).fetchone()
        return int(last[0])

    def latest(self, device: str, key: str) -> Report | None:
        """Return the last accepted report of a device's key; None when there was none.

        Raises:
            EnvironmentFault: the database cannot be read.
        """
        with self._faults():
            found = self._database.execute(
                "SELECT sequence, document FROM reports WHERE device = ? AND key = ?", (device, key)
            ).fetchone()
        return Report(device, key, int(found[0]), json.loads(found[1])) if found else None

    def receive(self, batch: Batch) -> bool:
        """Keep that a batch of telemetry has come; durable before it returns.

        Returns:
            Whether it is new; one that has come before needs an answer and nothing else.

        Raises:
            Refused: `conflict`: another batch came under this id; a device sends the same bytes for ever.
            EnvironmentFault: the database cannot be written.
        """
        row = (batch.device, batch.key, batch.id, batch.sha256)
        with self._faults():
            if self._database.execute(_RECEIVE, row).rowcount == 1:
                self._database.execute(_FORGET, (*row[:2], BATCHES_KEPT))
                return True
            known = self._database.execute(
                "SELECT sha256 FROM batches WHERE device = ? AND key = ? AND id = ?", row[:3]
            ).fetchone()
        if (
            known is not None and known[0] != batch.sha256
        ):  # None: another collector has forgotten it just now
            raise Refused("conflict", f"other bytes came as batch {batch.id} before", batch.device)
        with self._faults():
            self._database.execute(_AGAIN, row)
        return False

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise EnvironmentFault(
                f"the reports in {self._path} cannot be read or written: {error}",
                hint="check that the file is a database of this command and its folder is writable",
            ) from error
