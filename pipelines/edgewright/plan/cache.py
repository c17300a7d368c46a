"""The content-addressed cache: outputs by digest, and what each action produced by its key.

    cache/blobs/ab/cdef…       bytes, named by their sha256
    cache/actions/<key>.json   which files an action gave, its figures, and what its key was made of

Every file appears by rename, so a killed run leaves either a whole entry or none.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgewright.errors import EnvironmentFault
from edgewright.plan.note import write_whole
from edgewright_agent.contract import canonical_json

_CHUNK = 1 << 20
_ABANDONED_S = 86400


@dataclass(frozen=True)
class Record:
    """What one action gave.

    Attributes:
        key: Action key, 64 hex digits.
        parts: What the key was made of, so that a later change can be explained.
        files: File name → sha256 digest of its bytes.
        facts: Figures for people, as the stage reported them.
    """

    key: str
    parts: Mapping[str, Any]
    files: Mapping[str, str]
    facts: Mapping[str, Any]


class Cache:
    """A cache folder; safe for several processes at once (entries are immutable and appear by rename)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def record(self, key: str) -> Record | None:
        """Return what the action gave, or None when it has not run or one of its files is gone."""
        try:
            entry = json.loads(self.entry(key).read_bytes())
            record = Record(key, dict(entry["parts"]), dict(entry["files"]), dict(entry["facts"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        except OSError as error:
            raise EnvironmentFault(
                f"cannot read the cache in {self.folder}: {error.strerror or error}",
                hint="set EDGEWRIGHT_CACHE to a folder that this user may read and write",
            ) from error
        return record if all(self.path(digest).exists() for digest in record.files.values()) else None

    def entry(self, key: str) -> Path:
        """Return where the record of an action is (or would be)."""
        return self.folder / "actions" / f"{key}.json"

    def forget(self, key: str) -> None:
        """Drop the record of an action, so that it runs again; its files stay."""
        self.entry(key).unlink(missing_ok=True)

    def path(self, digest: str) -> Path:
        """Return where the bytes with `digest` are (or would be)."""
        digits = digest.removeprefix("sha256:")
        return self.folder / "blobs" / digits[:2] / digits[2:]

    def verified(self, digest: str) -> Path:
        """Return the path of a blob whose bytes still match its digest.

        Raises:
            EnvironmentFault: the file is damaged; it is removed, so that the next run makes it anew.
        """
        path = self.path(digest)
        with path.open("rb") as stream:
            actual = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != f"sha256:{actual}":
            path.unlink(missing_ok=True)
            raise EnvironmentFault(
                f"cache entry {digest[:19]}… was damaged on disk and has been removed",
                hint="run `edgewright run` again to rebuild it",
            )
        return path

    def store(
        self, key: str, parts: Mapping[str, Any], outputs: Mapping[str, Path], facts: Mapping[str, Any]
    ) -> Record:
        """Move the output files into the cache and record the action, last.

        Raises:
            EnvironmentFault: the disk is full or not writable; no entry is left behind.
        """
        try:
            files = {name: self._adopt(path) for name, path in sorted(outputs.items())}
            entry = {"files": files, "facts": facts, "parts": parts}
            write_whole(self.entry(key), canonical_json(entry))
        except OSError as error:
            raise EnvironmentFault(
                f"cannot write the cache in {self.folder}: {error.strerror or error}",
                hint="free space or set EDGEWRIGHT_CACHE to a folder on another disk",
            ) from error
        return Record(key, parts, files, facts)

    def _adopt(self, source: Path) -> str:
        digest = hashlib.sha256()
        with source.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
            os.fsync(stream.fileno())
        name = f"sha256:{digest.hexdigest()}"
        target = self.path(name)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
        return name

    def scratch(self) -> tempfile.TemporaryDirectory[str]:
        """Return an empty folder on the cache's own file system, so that outputs move in by rename."""
        try:
            scratch = self.folder / "scratch"
            scratch.mkdir(parents=True, exist_ok=True)
            for left in scratch.iterdir():  # by a run that was killed; no stage takes a day
                if time.time() - left.stat().st_mtime > _ABANDONED_S:
                    shutil.rmtree(left, ignore_errors=True)
            return tempfile.TemporaryDirectory(dir=scratch)
        except OSError as error:
            raise EnvironmentFault(
                f"cannot write the cache in {self.folder}: {error.strerror or error}",
                hint="free space or set EDGEWRIGHT_CACHE to a folder on another disk",
            ) from error


def open_cache(root: Path) -> Cache:
    """Return the cache of the fleet at `root`: `.edgewright/cache`, or where `EDGEWRIGHT_CACHE` points."""
    return Cache(Path(os.environ.get("EDGEWRIGHT_CACHE") or root / ".edgewright" / "cache"))
