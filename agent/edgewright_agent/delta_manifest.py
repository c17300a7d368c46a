"""A delta as its manifest describes it: which artifacts it leads from and to, and a layer for each file it makes.

>>> parse(body, delta, artifact)["model.onnx"].size        # doctest: +SKIP
41280

The manifest is fetched by the digest that the hardware class's role signed, so what is parsed here is what was
signed. It is read as strictly as everything else that was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgewright_agent import contract
from edgewright_agent.artifact import Artifact, Layer
from edgewright_agent.errors import TrustError
from edgewright_agent.transport.document import parse_json
from edgewright_agent.trust.approval import Delta

SUFFIX = ".delta.part"  # of a delta in a staging directory: no file of an artifact is called so


def parse(body: bytes, delta: Delta, artifact: Artifact) -> Mapping[str, Layer]:
    """Return file of the artifact → the layer that makes it, as it is stored in the staging directory.

    Args:
        body: Bytes of the manifest.
        delta: What was signed about it.
        artifact: What it leads to.

    Raises:
        TrustError: `bad-delta`, saying what is wrong.
    """
    try:
        document = parse_json(body, "it")
    except ValueError as error:
        raise _bad(f"is refused: {error}") from None
    if not isinstance(document, dict) or document.get("schemaVersion") != 2:
        raise _bad("is not an OCI manifest")
    if document.get("artifactType") != contract.DELTA_ARTIFACT:
        raise _bad(f"has artifact type {str(document.get('artifactType'))[:80]!r}, not a delta's")
    notes = document.get("annotations")
    ends = (contract.ANNOTATION_DELTA_BASE, contract.ANNOTATION_DELTA_TARGET)
    if not isinstance(notes, dict) or [notes.get(end) for end in ends] != [delta.base, artifact.digest]:
        raise _bad("leads from or to other artifacts than was signed")
    entries = document.get("layers")
    if not isinstance(entries, list) or not 0 < len(entries) <= contract.MAX_LAYERS:
        raise _bad(f"must have 1 to {contract.MAX_LAYERS} layers")
    layers = dict(_layer(entry, artifact) for entry in entries)
    if len(layers) != len(entries):
        raise _bad("makes a file twice")
    if sum(layer.size for layer in layers.values()) != delta.bytes:
        raise _bad(f"has not the {delta.bytes} bytes of layers that were signed")
    return layers


def _layer(value: Any, artifact: Artifact) -> tuple[str, Layer]:
    if not isinstance(value, dict) or value.get("mediaType") != contract.DELTA_LAYER:
        raise _bad("has a layer that is no delta")
    notes = value.get("annotations")
    file = notes.get(contract.ANNOTATION_TITLE) if isinstance(notes, dict) else None
    if not isinstance(file, str) or file not in {layer.file for layer in artifact.layers}:
        raise _bad(f"makes {str(file)[:100]!r}, which the artifact does not have")
    digest, size = value.get("digest"), value.get("size")
    if not contract.is_digest(digest):
        raise _bad(f"gives the delta of {file} the digest {str(digest)[:100]!r}")
    if type(size) is not int or not 0 < size <= max(layer.size for layer in artifact.layers):
        raise _bad(f"gives the delta of {file} the size {str(size)[:40]!r}")
    return file, Layer(f"{file}{SUFFIX}", str(digest), size)


def _bad(what: str) -> TrustError:
    return TrustError("bad-delta", f"the manifest of a delta {what}")
