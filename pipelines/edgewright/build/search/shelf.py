"""What was built and measured before, by content: lanes that differ in their class share most of their candidates.

A key holds everything a result depends on (pass, its version and settings, the model's bytes, the samples, tools), so
a result is true wherever it is found. The shelf lies in the fleet's cache and may be deleted at any time.

>>> shelf = Shelf(open_cache(root).folder / "search")                  # doctest: +SKIP
>>> shelf.get(key_of({"pass": "fp16", "model": digest}), make)         # doctest: +SKIP
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgewright_agent.contract import canonical_json

SHELF_BYTES = 4 * 2**30


@dataclass(frozen=True)
class Shelf:
    """Results on disk, `SHELF_BYTES` of them after `tidy`; without a folder nothing is kept."""

    folder: Path | None = None

    def get(self, key: str, make: Callable[[], bytes]) -> bytes:
        """Return what is kept under `key`, or make and keep it; a damaged entry is made anew."""
        if self.folder is None:
            return make()
        path = self.folder / key[:2] / key[2:]
        with contextlib.suppress(OSError):
            data = path.read_bytes()
            if hashlib.sha256(data[32:]).digest() == data[:32]:
                os.utime(path)
                return data[32:]
        made = make()
        self._keep(path, made)
        return made

    def document(self, key: str, make: Callable[[], Any]) -> Any:
        """Return the JSON value kept under `key`, or make and keep it."""
        return json.loads(self.get(key, lambda: canonical_json(make())))

    def tidy(self, most_bytes: int = SHELF_BYTES) -> None:
        """Remove what was not used for longest, until no more than `most_bytes` are left.

        A sensitivity search alone leaves dozens of models, each as large as what will ship.
        """
        if self.folder is None:
            return
        entries = []
        for path in self.folder.glob("*/*"):
            with contextlib.suppress(OSError):  # another search removed it
                state = path.stat()
                entries.append((state.st_mtime_ns, state.st_size, path))
        kept_bytes = 0
        for _, size_bytes, path in sorted(entries, reverse=True):
            kept_bytes += size_bytes
            if kept_bytes > most_bytes:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _keep(self, path: Path, data: bytes) -> None:
        # A disk that takes no more costs the shelf, not the search.
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, part = tempfile.mkstemp(dir=path.parent, prefix=".part-")
            try:
                with os.fdopen(handle, "wb") as stream:
                    stream.write(hashlib.sha256(data).digest() + data)
                Path(part).replace(path)
            finally:
                Path(part).unlink(missing_ok=True)


def key_of(document: Mapping[str, Any]) -> str:
    """Return the digest of what a result depends on, as hex digits."""
    return hashlib.sha256(canonical_json(document)).hexdigest()
