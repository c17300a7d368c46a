"""Notes: small files that are either the old bytes or the new, and leave nothing behind when the disk is full.

>>> write_note(root / ".edgewright" / "state" / "steps.json", b"{}")     # doctest: +SKIP
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from edgewright.errors import EnvironmentFault


def write_whole(target: Path, data: bytes) -> None:
    """Write `target` by rename from a durable neighbour.

    Raises:
        OSError: the file system refused; what was there stays.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".part-")
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(target)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def write_note(target: Path, data: bytes) -> None:
    """Write `target` whole.

    Raises:
        EnvironmentFault: the disk is full or not writable; what was there stays.
    """
    try:
        write_whole(target, data)
    except OSError as error:
        raise EnvironmentFault(
            f"cannot write {target}: {error.strerror or error}",
            hint="free space or make that folder writable, and run the same command again; it continues",
        ) from error
