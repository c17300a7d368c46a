"""One file of an artifact as a layer: as it is, or compressed where that is worth it.

>>> layer = make_layer(LAYER_WEIGHT, model, folder, compression="gzip")     # doctest: +SKIP
>>> layer.descriptor["mediaType"], layer.diff_id                            # doctest: +SKIP
('application/vnd.cncf.model.weight.v1.tar+gzip', 'sha256:…')

ModelPack knows a compressed layer only as a tar archive, so that is what a compressed layer is: an archive of the one
file. Its title says so (`model.onnx.tar.gz`, what `oras pull` writes), its file path names the file in it (for
tools that unpack), and signed annotations give that file's digest and size, which is all a device believes.

The same file gives the same archive: no time, no owner, one compression level. The compressed bytes are those of the
zlib library at hand, though (zlib-ng writes others than zlib), so its version is part of the stage's action key.
"""

from __future__ import annotations

import hashlib
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path

from edgewright.publish import oci
from edgewright.publish.durable import storage
from edgewright_agent.contract import (
    ANNOTATION_FILE_DIGEST,
    ANNOTATION_FILE_SIZE,
    ANNOTATION_FILEPATH,
    ANNOTATION_TITLE,
    RAW,
    TAR_GZIP,
)

SUFFIX = ".tar.gz"
MIN_SAVED = 0.1  # of the file: less is not worth a device's time
MIN_BYTES = 4096  # a block of a device's file system; and small documents stay readable in a registry
MAX_BYTES = 8**11 - 1  # what the size field of a ustar header holds
LEVEL = 9
BLOCK_BYTES = 512
_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Layer:
    """A layer that lies in a file.

    Attributes:
        descriptor: As it stands in the manifest.
        diff_id: Digest of the uncompressed layer (OCI image-spec, Layer DiffID): of the file, or of its archive.
        path: Where the blob is.
    """

    descriptor: oci.Descriptor
    diff_id: str
    path: Path


def make_layer(media_type: str, source: Path, folder: Path, name: str, *, compression: str = "none") -> Layer:
    """Write one file as a layer's blob into `folder` and describe it.

    Args:
        media_type: Of the file as it is; ends in `.raw`.
        source: The file.
        folder: Where the blob goes, under its title.
        name: The file's name on a device.
        compression: `none`; or `gzip`: where it saves at least `MIN_SAVED` of the file.

    Raises:
        EnvironmentFault: the blob cannot be written.
    """
    if compression == "gzip" and MIN_BYTES <= source.stat().st_size <= MAX_BYTES:
        packed = folder / (name + SUFFIX)
        with storage("compress a layer to", packed):
            diff_id = pack(source, packed, name)
        if packed.stat().st_size <= (1 - MIN_SAVED) * source.stat().st_size:
            return Layer(_packed(media_type, packed, source, name), diff_id, packed)
        packed.unlink()
    raw = folder / name
    with storage("copy a layer to", raw):
        shutil.copyfile(source, raw)
    names = {ANNOTATION_FILEPATH: name, ANNOTATION_TITLE: name}
    descriptor = oci.descriptor(media_type, raw, annotations=names)
    return Layer(descriptor, str(descriptor["digest"]), raw)


def pack(source: Path, target: Path, name: str) -> str:
    """Write a gzip stream of a tar archive with `source` in it as `name`; return the digest of the archive.

    The same bytes for the same file: mode 0644, no owner, no time (RFC 1952: MTIME 0 means none is given).
    """
    size = source.stat().st_size
    digest = hashlib.sha256()
    # wbits 31 is a gzip header without name and time; its OS byte is that of the C library, 3 on every Unix.
    stream = zlib.compressobj(LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    with source.open("rb") as file, target.open("wb") as out:

        def write(data: bytes) -> None:
            digest.update(data)
            out.write(stream.compress(data))

        write(header(name, size))
        while piece := file.read(_READ_BYTES):
            write(piece)
        write(bytes(-size % BLOCK_BYTES + 2 * BLOCK_BYTES))
        out.write(stream.flush())
    return f"sha256:{digest.hexdigest()}"


def header(name: str, size: int) -> bytes:
    """Return the header of a regular file in a tar archive (POSIX.1-1988, ustar)."""
    import tarfile

    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, 0o644, 0
    return entry.tobuf(tarfile.USTAR_FORMAT)


def _packed(media_type: str, packed: Path, source: Path, name: str) -> oci.Descriptor:
    digest, size = oci.hash_file(source)
    names = {
        ANNOTATION_FILEPATH: name,
        ANNOTATION_TITLE: name + SUFFIX,
        ANNOTATION_FILE_DIGEST: digest,
        ANNOTATION_FILE_SIZE: str(size),
    }
    return oci.descriptor(media_type.removesuffix(RAW) + TAR_GZIP, packed, annotations=names)
