"""JSON from strangers, and documents: bytes that travel as the only layer of a manifest.

TUF metadata, assignments and signature bundles are such documents. Reading one takes two requests, both
bounded, and the layer is checked against its digest; whether to believe it is decided elsewhere.

>>> parse_json(b'{"version": 1}', "a.json")
{'version': 1}
>>> read_document(source, "tuf", "timestamp.json", limit=16384)      # doctest: +SKIP
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, NoReturn

from edgewright_agent.contract import (
    MAX_LAYERS,
    MAX_LISTED_REFERRERS,
    OCI_INDEX,
    OCI_MANIFEST,
    digest_of,
    is_digest,
)
from edgewright_agent.errors import TransportError
from edgewright_agent.transport import Manifest, Source

_MAX_DEPTH = 32  # nesting of JSON; the deepest document of ours has 9
_MAX_DIGITS = (
    32  # of an integer: the largest of ours fits 64 bits; Python 3.10 takes seconds for a few 100,000
)


def parse_json(data: bytes, what: str) -> Any:
    """Parse strict JSON: UTF-8, no duplicate keys, no number that is none, no absurd nesting.

    Duplicate keys are refused because two readers of one signed document may not see two different documents; an
    escaped half of a surrogate pair because no text with it can be printed or stored (RFC 8259 8.2).

    Raises:
        ValueError: not such JSON; the message names `what`.
    """
    try:
        document = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_integer,
        )
        if b"\\u" in data:
            json.dumps(document, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError(f"{what} is nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError(f"{what} holds half of a surrogate pair") from None
    except ValueError as error:
        raise ValueError(f"{what} is not valid JSON: {error}") from None
    _check_depth(document, what)
    return document


def parse_manifest(body: bytes, what: str) -> dict[str, Any]:
    """Parse an OCI manifest or index as far as its outer shape: an object whose media type can be told.

    Raises:
        TransportError: `bad-response`.
    """
    try:
        document = parse_json(body, what)
    except ValueError as error:
        raise TransportError("bad-response", str(error)) from None
    if not isinstance(document, dict):
        raise TransportError("bad-response", f"{what} is not a manifest but a JSON {type(document).__name__}")
    return document


def media_type_of(document: dict[str, Any]) -> str:
    """Return the media type of a manifest from its own bytes; the field is optional, the shape is not."""
    declared = document.get("mediaType")
    if declared in (OCI_MANIFEST, OCI_INDEX):
        return str(declared)
    return OCI_INDEX if "manifests" in document else OCI_MANIFEST


def descriptors(entries: object, what: str, *, limit: int = MAX_LAYERS) -> list[dict[str, Any]]:
    """Check a list of OCI descriptors and return the first `limit` (image-spec, Content Descriptors).

    Raises:
        TransportError: `bad-response` when one of them has no sha256 digest, size or media type.
    """
    if not isinstance(entries, list):
        raise TransportError("bad-response", f"{what} has no list of descriptors")
    checked = entries[:limit]
    for entry in checked:
        if not (
            isinstance(entry, dict)
            and is_digest(entry.get("digest"))
            and type(entry.get("size")) is int
            and entry["size"] >= 0
            and isinstance(entry.get("mediaType"), str)
        ):
            raise TransportError("bad-response", f"{what} has a malformed descriptor")
    return checked


def referrer_list(body: bytes, what: str) -> list[dict[str, Any]]:
    """Return at most `MAX_LISTED_REFERRERS` descriptors of a referrers index (distribution-spec, Listing Referrers).

    Raises:
        TransportError: `bad-response`.
    """
    return descriptors(parse_manifest(body, what).get("manifests"), what, limit=MAX_LISTED_REFERRERS)


def read_document(source: Source, repository: str, reference: str, *, limit: int) -> bytes:
    """Fetch a manifest and the bytes of its only layer, at most `limit`.

    Raises:
        TransportError: as `Source`; `bad-response` when there is not exactly one layer.
    """
    manifest = source.manifest(repository, reference)
    if manifest is None:
        raise TransportError("bad-response", f"{repository}:{reference} was asked for and not sent")
    return read_layer(source, repository, only_layer(manifest, f"{repository}:{reference}"), limit=limit)


def only_layer(manifest: Manifest, what: str) -> dict[str, Any]:
    """Return the descriptor of a manifest's only layer.

    Raises:
        TransportError: `bad-response`.
    """
    layers = descriptors(parse_manifest(manifest.body, what).get("layers"), what)
    if len(layers) != 1:
        raise TransportError("bad-response", f"{what} has {len(layers)} layers instead of one")
    return layers[0]


def read_layer(source: Source, repository: str, layer: dict[str, Any], *, limit: int) -> bytes:
    """Fetch a small blob whole and check it against its descriptor.

    Raises:
        TransportError: `too-large` above `limit` bytes, `digest-mismatch`, or as `Source.blob`.
    """
    digest, size = str(layer["digest"]), int(layer["size"])
    if size > limit:
        raise TransportError("too-large", f"{repository}@{digest} has {size} bytes; {limit} are allowed")
    data = b"".join(source.blob(repository, digest, size=size))
    if digest_of(data) != digest:
        raise TransportError("digest-mismatch", f"{repository}@{digest} has bytes of {digest_of(data)}")
    return data


def check_body(body: bytes, repository: str, reference: str) -> str:
    """Return the digest of a manifest's bytes; with a digest reference, insist that it is the one asked for.

    Raises:
        TransportError: `digest-mismatch`.
    """
    digest = digest_of(body)
    if is_digest(reference) and digest != reference:
        raise TransportError("digest-mismatch", f"the bytes of {repository}@{reference} hash to {digest}")
    return digest


def in_chunks(total: int, chunk: int = 256 * 1024) -> Iterator[int]:
    """Yield how many bytes to read next until `total` are read."""
    while total > 0:
        yield min(total, chunk)
        total -= chunk


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key appears twice")
    return document


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is more than a number can be")
    return number


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"an integer has more than {_MAX_DIGITS} digits")
    return int(text)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _check_depth(document: Any, what: str) -> None:
    level = [document]
    for _ in range(_MAX_DEPTH):
        level = [
            child
            for node in level
            if isinstance(node, (dict, list))
            for child in (node.values() if isinstance(node, dict) else node)
        ]
        if not level:
            return
    raise ValueError(f"{what} is nested more than {_MAX_DEPTH} levels deep")
