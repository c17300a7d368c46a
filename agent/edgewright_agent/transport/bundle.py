"""A bundle file: an uncompressed tar of OCI layouts, read where it lies and never extracted.

Nothing in it becomes a path on this device: members are found by name in an index kept in memory, and read
by position. What an extractor would have to defend against (links, devices, `..`) is refused all the same,
because no bundle of ours has it.

>>> source = open_bundle("/media/usb/release.tar")                # doctest: +SKIP
>>> source.manifest("digit-reader", "1.0.0").digest               # doctest: +SKIP
'sha256:…'
"""

from __future__ import annotations

import os
import tarfile
from typing import Any, BinaryIO, cast

from edgewright_agent.errors import TransportError
from edgewright_agent.transport.layout import LayoutSource, failure, read_at, require_file

_MAX_MEMBERS = 20_000
# tarfile reads extended headers (long names, pax) whole: without a bound one header could fill the memory.
_MAX_HEADER_BYTES = 64 * 1024
_MAX_NAME = 512
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd"}


def open_bundle(path: str, *, max_members: int = _MAX_MEMBERS) -> LayoutSource:
    """Open a bundle file; it need not be there before the first read, which indexes it.

    Beside what `Source` documents, every read raises `TransportError` with `bad-response` when the file is not
    an uncompressed tar of plain files and directories, each name once, and `too-large` when it has more than
    `max_members`.
    """
    return LayoutSource(TarFiles(path, max_members=max_members))


class TarFiles:
    """The regular files of an uncompressed tar, by name; see `open_bundle`."""

    def __init__(self, path: str, *, max_members: int = _MAX_MEMBERS) -> None:
        self._path, self._max_members = path, max_members
        self._opened: tuple[BinaryIO, dict[str, tuple[int, int]]] | None = None

    def read(self, name: str, offset: int, size: int) -> bytes:
        """See `layout.Files.read`."""
        file, members = self._opened = self._opened or self._open()
        if name not in members:
            raise TransportError("not-found", f"{name} is not in bundle {self._path}")
        start, length = members[name]
        try:
            return read_at(file.fileno(), start + offset, min(size, max(length - offset, 0)))
        except OSError as error:
            raise failure(error, f"{name} in bundle {self._path}") from error

    def close(self) -> None:
        """Close the bundle file; the next read opens it again."""
        if self._opened is not None:
            self._opened[0].close()
            self._opened = None

    def _open(self) -> tuple[BinaryIO, dict[str, tuple[int, int]]]:
        try:
            # O_NONBLOCK: opening a FIFO would wait for a writer for ever.
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise failure(error, f"bundle {self._path}") from error
        try:
            require_file(descriptor, f"bundle {self._path}")
        except TransportError:
            os.close(descriptor)
            raise
        file = os.fdopen(descriptor, "rb")
        try:
            return file, _index(file, self._path, self._max_members)
        except BaseException:
            file.close()
            raise


class _Headers:
    """The bundle as tarfile sees it: it may read headers, nothing as long as a member."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MAX_HEADER_BYTES:
            raise tarfile.ReadError("a header is too long")
        return self._file.read(size)

    def seek(self, position: int) -> int:
        return self._file.seek(position)

    def tell(self) -> int:
        return self._file.tell()


def _index(file: BinaryIO, path: str, max_members: int) -> dict[str, tuple[int, int]]:
    """Return name → (position, size) of every regular file."""
    try:
        _check_uncompressed(file, path)
        return _members(file, path, os.fstat(file.fileno()).st_size, max_members)
    except OSError as error:
        raise failure(error, f"bundle {path}") from error
    except RecursionError:
        raise TransportError("bad-response", f"bundle {path}: headers are nested too deeply") from None
    # tarfile lets the last four through for headers that are cut short or do not make sense.
    except (tarfile.TarError, ValueError, OverflowError, IndexError, KeyError) as error:
        raise TransportError("bad-response", f"bundle {path} is not an uncompressed tar: {error}") from None


def _check_uncompressed(file: BinaryIO, path: str) -> None:
    start = file.read(2)
    file.seek(0)
    if start in _COMPRESSED:
        raise TransportError(
            "bad-response",
            f"bundle {path} is compressed with {_COMPRESSED[start]}; unpack it to a plain tar first",
        )


def _members(file: BinaryIO, path: str, total: int, max_members: int) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    seen: set[str] = set()
    position = -1
    with tarfile.open(fileobj=cast(Any, _Headers(file)), mode="r:") as tar:
        while (member := tar.next()) is not None:
            cast(Any, tar).members = []  # or it would keep every header in memory
            # A crafted size can send tarfile backwards, to read the same headers for ever.
            if member.offset <= position or member.size < 0:
                raise TransportError("bad-response", f"bundle {path} has a header that points backwards")
            position = member.offset
            name = _checked_name(member, path)
            if name in seen:
                raise TransportError("bad-response", f"bundle {path} has {name!r} twice")
            seen.add(name)
            if len(seen) > max_members:
                raise TransportError("too-large", f"bundle {path} has more than {max_members} members")
            if member.isdir():
                continue
            if member.offset_data + member.size > total:
                raise TransportError("truncated", f"bundle {path} ends within {name!r}")
            found[name] = (member.offset_data, member.size)
    return found


def _checked_name(member: tarfile.TarInfo, path: str) -> str:
    name = member.name.removeprefix("./").rstrip("/") or "."
    # Continuous and sparse files count as regular in tarfile, but their bytes are not where they seem to be.
    plain = member.isdir() or (member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and member.sparse is None)
    steps = name.split("/")
    if not plain:
        raise TransportError("bad-response", f"bundle {path}: {name!r} is a link, device or sparse file")
    if name.startswith("/") or ".." in steps or "" in steps or "\0" in name or len(name) > _MAX_NAME:
        raise TransportError("bad-response", f"bundle {path} has a member with the unsafe name {name!r}")
    return name
