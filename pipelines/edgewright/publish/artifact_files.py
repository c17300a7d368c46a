"""The files of a published artifact, fetched when they are asked for, each checked against the digest in its manifest.

>>> files = ArtifactFiles(registry, manifest, folder)     # doctest: +SKIP
>>> files.path("model.onnx")                              # doctest: +SKIP
PosixPath('…/model.onnx')
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgewright.errors import GoneError, NetworkError
from edgewright.publish import oci
from edgewright.publish.durable import storage
from edgewright.publish.layer import BLOCK_BYTES
from edgewright.publish.registry import Registry
from edgewright_agent.contract import ENCRYPTED, TAR_GZIP, file_of_layer

_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class PublishedFile:
    """One file of an artifact.

    Attributes:
        digest: Of the file.
        size: Of the file, in bytes.
        layer: How it is transported.
    """

    digest: str
    size: int
    layer: oci.Descriptor

    @property
    def packed(self) -> bool:
        """Whether its layer is a compressed archive."""
        return str(self.layer["mediaType"]).endswith(TAR_GZIP)


class ArtifactFiles:
    """The files of one artifact.

    Args:
        registry: The repository that has it.
        manifest: Bytes of its manifest.
        folder: Where fetched files are kept; it must exist.
    """

    def __init__(self, registry: Registry, manifest: bytes, folder: Path) -> None:
        document: dict[str, Any] = json.loads(manifest)
        self._registry, self._folder = registry, folder
        self.digest = oci.descriptor("", manifest)["digest"]
        self.files: dict[str, PublishedFile] = {}
        for layer in document["layers"]:
            name, digest, size = file_of_layer(layer)
            if not name or name != Path(name).name:
                continue  # no device takes it
            self.files[name] = PublishedFile(digest, size, layer)

    @property
    def encrypted(self) -> bool:
        """Whether any file is a ciphertext in the registry."""
        return any(str(one.layer["mediaType"]).endswith(ENCRYPTED) for one in self.files.values())

    def path(self, name: str) -> Path:
        """Return a file, fetched now if it was not.

        Raises:
            GoneError: it is not in the registry any more.
            NetworkError: the registry cannot be reached, or it is not what the manifest says.
            EnvironmentFault: it cannot be stored.
        """
        wanted, path = self.files[name], self._folder / name
        if path.exists():
            return path
        layer = wanted.layer
        blob = self._folder / f"{name}.blob"
        if not self._registry.save_blob(str(layer["digest"]), blob, limit=int(layer["size"])):
            raise GoneError(f"{self._registry.address(str(layer['digest']))} is not in the registry any more")
        with storage("write", path):
            whole = self._folder / f"{name}.whole" if wanted.packed else blob
            if wanted.packed:
                _unpack(blob, whole, wanted.size)
                blob.unlink()
            if oci.hash_file(whole) != (wanted.digest, wanted.size):
                whole.unlink()
                raise NetworkError(
                    f"{self._registry.address(self.digest)}: {name} is not what its manifest says"
                )
            whole.rename(path)  # last, so that what the disk had no room for is never taken for the file
        return path


def _unpack(blob: Path, path: Path, size: int) -> None:
    """Write the one file of a compressed archive: what lies between its header and its padding."""
    stream = zlib.decompressobj(16 + zlib.MAX_WBITS)
    skip, left = BLOCK_BYTES, size
    with blob.open("rb") as packed, path.open("wb") as out:
        while left and (piece := packed.read(_READ_BYTES)):
            while piece and left:
                try:
                    data = stream.decompress(piece, _READ_BYTES)
                except zlib.error as error:
                    raise NetworkError(
                        f"{path.name} is not compressed as its manifest says: {error}"
                    ) from None
                piece = stream.unconsumed_tail
                content = data[skip : skip + left]
                skip, left = max(0, skip - len(data)), left - len(content)
                out.write(content)
