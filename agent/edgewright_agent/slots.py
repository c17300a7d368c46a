"""Two fixed-size, checksummed slots that take turns: a torn write never costs more than the write itself.

Generation `g` lives in `state.<g mod 2>`. Both files are allocated once; afterwards a slot is overwritten
in place: a full disk does not stop the agent from recording. A copy-on-write file system needs room even for that, and
so does a slot that a failing disk has lost: for them there is `ballast`, a file that is given up to make it.

>>> decode(encode(7, b"{}"))
(7, b'{}')
>>> decode(encode(7, b"{}")[:50]) is None
True
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from edgewright_agent.errors import StorageError
from edgewright_agent.files import Disk, faults, fresh_of, whose

SLOT_BYTES = 64 * 1024
PAGE_BYTES = 4096
NAMES = ("state.0", "state.1")
BALLAST = "ballast"
BALLAST_BYTES = 2 * SLOT_BYTES  # a copy of a slot, and what is changed on the way to it
READS = 3  # a reader without the lock may meet both slots in the middle of being written, not three times
_MAGIC = b"EWSTATE1"
_HEAD = struct.Struct(">8sQI")  # magic, generation, payload length; then sha256 over head and payload
_DIGEST_BYTES = 32
MAX_PAYLOAD_BYTES = SLOT_BYTES - _HEAD.size - _DIGEST_BYTES


def encode(generation: int, payload: bytes) -> bytes:
    """Return a slot's bytes, padded to whole pages.

    Raises:
        StorageError: `state-full` when the payload does not fit.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise StorageError("state-full", f"the record needs {len(payload)} of {MAX_PAYLOAD_BYTES} bytes")
    head = _HEAD.pack(_MAGIC, generation, len(payload))
    slot = head + hashlib.sha256(head + payload).digest() + payload
    return slot.ljust(-(-len(slot) // PAGE_BYTES) * PAGE_BYTES, b"\0")


def decode(slot: bytes) -> tuple[int, bytes] | None:
    """Return generation and payload, or None for anything but a whole slot."""
    start = _HEAD.size + _DIGEST_BYTES
    if len(slot) < start:
        return None
    magic, generation, length = _HEAD.unpack_from(slot)
    payload = slot[start : start + length]
    if magic != _MAGIC or len(payload) != length:
        return None
    if hashlib.sha256(slot[: _HEAD.size] + payload).digest() != slot[_HEAD.size : start]:
        return None
    return generation, payload


@dataclass(frozen=True)
class Reading:
    """What the two slots hold.

    Attributes:
        generation: Highest valid generation, 0 when there is none.
        payload: Its payload.
        exist: Whether any slot file exists.
    """

    generation: int
    payload: bytes | None
    exist: bool


class Slots:
    """The pair of slot files in a folder."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        self._paths = tuple(folder / name for name in NAMES)
        self._ballast = folder / BALLAST
        self._disk = disk

    def read(self) -> Reading:
        """Read both slots; the highest valid generation wins.

        Raises:
            StorageError: `not-permitted`.
        """
        for _ in range(READS):
            reading = self._read()
            if reading.payload is not None or not reading.exist:
                break
        return reading

    def _read(self) -> Reading:
        best: tuple[int, bytes] | None = None
        exist = False
        for parity, path in enumerate(self._paths):
            try:
                with path.open("rb") as file:
                    exist = True
                    found = decode(file.read(SLOT_BYTES))
            except FileNotFoundError:
                continue
            except PermissionError as error:
                raise StorageError("not-permitted", f"cannot read {path}; {whose(path)}") from error
            except OSError:
                continue  # a bad sector damages one slot; the other must still count
            if found and found[0] % 2 == parity and (best is None or found[0] > best[0]):
                best = found
        return Reading(best[0], best[1], exist) if best else Reading(0, None, exist)

    def write(self, generation: int, payload: bytes) -> None:
        """Make a generation durable; the slot of the generation before it is not touched.

        Raises:
            StorageError: nothing changed: the generation before is still the newest.
        """
        slot = encode(generation, payload)
        try:
            self._put(self._paths[generation % 2], slot)
        except StorageError as error:
            if error.code != "no-space" or not self._ballast.exists():
                raise
            self._disk.remove(self._ballast)
            self._disk.sync_dir(self._ballast.parent)
            self._put(self._paths[generation % 2], slot)

    def allocate(self) -> None:
        """Have both slots at their full size; one that is made now holds nothing.

        Raises:
            StorageError: the disk refused.
        """
        for path in self._paths:
            if not self._allocated(path, SLOT_BYTES):
                self._disk.replace_file(path, bytes(SLOT_BYTES))

    def keep_ballast(self) -> None:
        """Have the ballast, if there is room for it; incompressible, so that giving it up gives room.

        Raises:
            StorageError: there is none, and nothing is left of the try.
        """
        if self._allocated(self._ballast, BALLAST_BYTES):
            return
        try:
            self._disk.replace_file(self._ballast, os.urandom(BALLAST_BYTES))
        except StorageError:
            with contextlib.suppress(StorageError):
                self._disk.remove(self._ballast.with_name(self._ballast.name + ".new"))
            raise

    def _put(self, path: Path, slot: bytes) -> None:
        if self._allocated(path, SLOT_BYTES):
            self._disk.overwrite(path, slot)
        else:
            self._disk.replace_file(path, slot.ljust(SLOT_BYTES, b"\0"))

    def sweep(self) -> None:
        """Remove what a power cut may have left of allocating the slots and the ballast."""
        for path in (*self._paths, self._ballast):
            if fresh_of(path).exists():
                self._disk.remove(fresh_of(path))

    def set_aside(self) -> None:
        """Keep damaged slots as `state.N.damaged`, for a person to look at, out of the way of new ones."""
        for path in self._paths:
            if path.exists():
                self._disk.rename(path, path.with_name(path.name + ".damaged"))

    def _allocated(self, path: Path, size: int) -> bool:
        with faults(path, "look at"):
            try:
                return path.stat().st_size == size
            except FileNotFoundError:
                return False
