"""One lane's artifact as its manifest describes it: checked before a single byte of a layer is fetched.

>>> artifact = parse(body)                            # doctest: +SKIP
>>> [layer.file for layer in artifact.layers]         # doctest: +SKIP
['model.onnx', 'runtime.json', 'labels.json', 'golden.json', 'drift.json']
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from edgewright_agent import contract
from edgewright_agent.errors import TrustError
from edgewright_agent.transport.document import parse_json

MANIFEST_FILE = "manifest.json"
REQUIRED_FILES = (contract.FILE_MODEL, contract.FILE_RUNTIME, contract.FILE_GOLDEN)
MAX_LAYER_BYTES = 64 * 1024**3  # no device of the fleet stores more; keeps sums far from overflow anywhere
_SAFE_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Sealed:
    """How an encrypted layer is opened, as its annotations say it; `decrypt` reads them.

    Attributes:
        keys: Its content key for each recipient: JWEs in base64, separated by commas.
        options: Cipher and HMAC, JSON in base64.
        packed: Whether what was encrypted is a compressed archive of the file.
    """

    keys: str
    options: str
    packed: bool = False


@dataclass(frozen=True)
class Layer:
    """One file of an artifact.

    Attributes:
        file: Its name on the device.
        digest: Of the blob that is fetched.
        size: Of the blob, in bytes.
        content: Digest and size of the file, where the blob is a compressed archive or a ciphertext of it.
        sealed: How the blob is opened, where it is a ciphertext.
    """

    file: str
    digest: str
    size: int
    content: tuple[str, int] | None = None
    sealed: Sealed | None = None

    @property
    def packed(self) -> bool:
        """Whether the blob, decrypted where it is a ciphertext, is a compressed archive of the file."""
        return self.sealed.packed if self.sealed else self.content is not None

    @property
    def file_digest(self) -> str:
        """Digest of the file on the device."""
        return self.content[0] if self.content else self.digest

    @property
    def file_size(self) -> int:
        """Size of the file on the device, in bytes."""
        return self.content[1] if self.content else self.size


@dataclass(frozen=True)
class Artifact:
    """A parsed manifest; `digest` is computed from its bytes."""

    digest: str
    model: str
    hardware_class: str
    version: str
    layers: tuple[Layer, ...]
    body: bytes

    @property
    def size(self) -> int:
        """Bytes of all layers, as they are fetched."""
        return sum(layer.size for layer in self.layers)

    @property
    def sealed(self) -> bool:
        """Whether any of it is encrypted, so that others on the device must not read it either."""
        return any(layer.sealed for layer in self.layers)


def parse(body: bytes) -> Artifact:
    """Parse an artifact manifest (OCI image-spec 1.1, Image Manifest; ModelPack types).

    Raises:
        TrustError: `bad-manifest`, saying what is wrong.
    """
    try:
        document = parse_json(body, "it")
    except ValueError as error:
        raise _bad(f"is refused: {error}") from None
    if not isinstance(document, dict) or document.get("schemaVersion") != 2:
        raise _bad("is not an OCI manifest")
    if document.get("mediaType", contract.OCI_MANIFEST) != contract.OCI_MANIFEST:
        raise _bad(f"has media type {document.get('mediaType')!r}")
    if document.get("artifactType") != contract.MODEL_ARTIFACT:
        raise _bad(f"has artifact type {document.get('artifactType')!r}, not a model's")
    notes = _annotations(document)
    layers = _layers(document.get("layers"))
    return Artifact(
        digest=contract.digest_of(body),
        model=notes.get(contract.ANNOTATION_MODEL, ""),
        hardware_class=notes.get(contract.ANNOTATION_CLASS, ""),
        version=notes.get(contract.ANNOTATION_VERSION, ""),
        layers=layers,
        body=body,
    )


def check_purpose(artifact: Artifact, *, model: str, hardware_class: str) -> None:
    """Refuse an artifact made for another class or another model, whoever signed it.

    Raises:
        TrustError: `wrong-class`, `wrong-model`.
    """
    if artifact.hardware_class != hardware_class:
        raise TrustError(
            "wrong-class",
            f"{artifact.digest} is made for {artifact.hardware_class!r}, this is a {hardware_class}",
        )
    if artifact.model != model:
        raise TrustError("wrong-model", f"{artifact.digest} is {artifact.model!r}, not {model}")


def _layers(value: Any) -> tuple[Layer, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= contract.MAX_LAYERS:
        raise _bad(f"must have 1 to {contract.MAX_LAYERS} layers")
    layers = tuple(_layer(item) for item in value)
    files = {layer.file.lower() for layer in layers}  # two names must stay two files on any file system
    if len(files) != len(layers):
        raise _bad("names a file twice")
    for required in REQUIRED_FILES:
        if required not in {layer.file for layer in layers}:
            raise _bad(f"has no {required}")
    return layers


def _layer(value: Any) -> Layer:
    if not isinstance(value, dict):
        raise _bad("has a layer that is no object")
    notes = _annotations(value)
    media_type = str(value.get("mediaType", ""))
    sealed = media_type.endswith(contract.ENCRYPTED)
    packed = _is_packed(media_type.removesuffix(contract.ENCRYPTED))
    # The title is what other tools call the blob; the archive of a file is not the file, nor is its ciphertext.
    file = notes.get(contract.ANNOTATION_FILEPATH if packed or sealed else contract.ANNOTATION_TITLE)
    if not isinstance(file, str) or not _SAFE_FILE.fullmatch(file):
        raise _bad(f"has a layer with the file name {file!r}")
    if file.lower() == MANIFEST_FILE or file.lower().endswith(".part"):
        raise _bad(f"uses the reserved file name {file!r}")
    digest, size = value.get("digest"), value.get("size")
    if not contract.is_digest(digest):
        raise _bad(f"gives {file} the digest {digest!r}")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= MAX_LAYER_BYTES:
        raise _bad(f"gives {file} the size {size!r}")
    content = _content(file, notes) if packed or sealed else None
    if sealed and content and not packed and content[1] != size:
        raise _bad(f"gives {file} another size than its ciphertext")
    return Layer(file, str(digest), size, content, _sealed(file, notes, packed) if sealed else None)


def _sealed(file: str, notes: dict[str, str], packed: bool) -> Sealed:
    keys, options = notes.get(contract.ANNOTATION_ENC_JWE), notes.get(contract.ANNOTATION_ENC_PUBOPTS)
    if not keys or not options:
        raise _bad(f"has no {'options' if keys else 'key'} for the encrypted {file} that this agent knows")
    return Sealed(keys, options, packed)


def _is_packed(media_type: str) -> bool:
    """Whether a layer is an archive of its file (ModelPack media types end in `.raw`, `.tar`, `.tar+gzip`, …)."""
    if media_type.endswith(contract.TAR_GZIP):
        return True
    if media_type.endswith((".tar", "+zstd", "+gzip")):
        raise _bad(f"has a layer of {media_type}, which this agent does not unpack")
    return False


def _content(file: str, notes: dict[str, str]) -> tuple[str, int]:
    digest, size = notes.get(contract.ANNOTATION_FILE_DIGEST), notes.get(contract.ANNOTATION_FILE_SIZE, "")
    if not contract.is_digest(digest):
        raise _bad(f"gives the file {file} in its layer the digest {digest!r}")
    if not re.fullmatch(r"[1-9][0-9]{0,10}", size) or int(size) > MAX_LAYER_BYTES:
        raise _bad(f"gives the file {file} in its layer the size {size!r}")
    return str(digest), int(size)


def _annotations(value: dict[str, Any]) -> dict[str, str]:
    notes = value.get("annotations", {})
    if not isinstance(notes, dict) or not all(isinstance(note, str) for note in notes.values()):
        raise _bad("has annotations that are not strings")
    return notes


def _bad(text: str) -> TrustError:
    return TrustError("bad-manifest", f"the artifact manifest {text}")
