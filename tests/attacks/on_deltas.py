"""Attacks by deltas: a shorter way to the bytes that were signed, and never to others."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attacks.fleet import MODEL, PI, SIGNING
from attacks.forgery import ALL_BUT_ROOT, FAR, ONLINE
from attacks.on_encryption import EVERY_KEY
from attacks.on_recovery import recover
from attacks.scene import Scene
from attacks.table import attack
from edgewright.publish.delta_file import Operation, write_delta
from edgewright_agent.contract import (
    ANNOTATION_DELTA_BASE,
    ANNOTATION_DELTA_TARGET,
    ANNOTATION_TITLE,
    DELTA_ARTIFACT,
    DELTA_CONFIG,
    DELTA_LAYER,
    DELTA_REPLACE,
    FILE_MODEL,
    OCI_EMPTY_BYTES,
    OCI_MANIFEST,
    canonical_json,
    digest_of,
)
from unit.publish.lane import LaneFiles

REGISTRY = "the registry: everything in it can be replaced, no key"
PADDING = 200_000
"""Of a model that is worth a delta: what the fleet under attack releases is smaller than any manifest."""


def _padded(weights: bytes) -> bytes:
    """A model with a long doc_string (field 6 of ModelProto): it runs as before, and a delta of it is short."""
    text = b"x" * PADDING
    return weights + b"\x32" + _varint(len(text)) + text


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def _lane(scene: Scene) -> LaneFiles:
    """A lane of the fleet whose model is long, packaged."""
    lane = scene.fleet.lane(MODEL, PI, 7, signing=SIGNING)
    lane.give("optimized", FILE_MODEL, _padded(lane.weights))
    return lane


def _delta(scene: Scene, makes: bytes, target: str) -> tuple[bytes, bytes]:
    """Return manifest and bytes of a delta from what the device runs."""
    base = scene.fleet.releases[1].digest
    content = (scene.device.state / "store" / base.removeprefix("sha256:") / FILE_MODEL).read_bytes()
    path = scene.folder / "delta"
    write_delta(path, content, makes, [Operation(DELTA_REPLACE, 1, 0, len(makes))])
    data = path.read_bytes()
    document = {
        "schemaVersion": 2,
        "artifactType": DELTA_ARTIFACT,
        "config": {"mediaType": DELTA_CONFIG, "digest": digest_of(OCI_EMPTY_BYTES), "size": 2},
        "layers": [
            {
                "mediaType": DELTA_LAYER,
                "digest": digest_of(data),
                "size": len(data),
                "annotations": {ANNOTATION_TITLE: FILE_MODEL},
            }
        ],
        "annotations": {ANNOTATION_DELTA_BASE: base, ANNOTATION_DELTA_TARGET: target},
    }
    return canonical_json(document), data


def _legal(scene: Scene, manifest: bytes, data: bytes) -> list[dict[str, Any]]:
    base = scene.fleet.releases[1].digest
    return [{"base": base, "digest": digest_of(manifest), "size": len(manifest), "bytes": len(data)}]


def _pushed(scene: Scene, manifest: bytes, data: bytes) -> None:
    scene.repository.put_blob(digest_of(data), data)
    scene.repository.put_blob(digest_of(OCI_EMPTY_BYTES), OCI_EMPTY_BYTES)
    scene.repository.put_manifest(digest_of(manifest), manifest, OCI_MANIFEST)


def _signed(scene: Scene, *, how: str) -> Iterator[None]:
    """Every key but root's signs a delta that makes something else; the model itself is nowhere to be had."""
    scene.tamper(MODEL)
    lane = _lane(scene)
    published = lane.all().facts
    target, size = str(published["digest"]), int(str(published["size"]))
    body = lane.manifest
    wanted = {layer["annotations"][ANNOTATION_TITLE]: layer for layer in json.loads(body)["layers"]}[
        FILE_MODEL
    ]
    makes = {
        "another model": lambda: _padded(scene.malware().weights),
        "a bomb": lambda: bytes(60_000_000),
    }[how]()
    manifest, data = _delta(scene, makes, target)
    _pushed(scene, manifest, data)
    forgery = scene.forgery(*ALL_BUT_ROOT)
    forgery.approve(MODEL, PI, body, modelVersion=lane.model_version, deltas=_legal(scene, manifest, data))
    forgery.choose(MODEL, PI, digest=target, size=size, version=lane.model_version)
    forgery.publish(scene.tuf, "snapshot", "timestamp")
    mirror = scene.mirror()
    whole = f"{scene.path}/{MODEL}/blobs/{wanted['digest']}"
    mirror.lies(whole, lambda: [b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"])
    yield
    assert any(digest_of(manifest) in path for path in mirror.asked), "the delta was tried"
    assert any(wanted["digest"] in path for path in mirror.asked), "and then the whole model"
    assert _stored(scene.device.state) < 1_000_000
    mirror.lies_about.clear()


for _how in ("another model", "a bomb"):
    attack(
        f"delta: signed, and it makes {_how}", has=EVERY_KEY, failed="not-found", honest=3, floor_kept=False
    )(functools.partial(_signed, how=_how))


def _stored(state: Path) -> int:
    return sum(path.stat().st_size for path in (state / "store").rglob("*") if path.is_file())


@attack(
    "delta: chosen by rollout, approved by nobody", has="the rollout, snapshot and timestamp keys", installs=2
)
def chosen_by_rollout(scene: Scene) -> Iterator[None]:
    target = scene.serve(2).digest
    scene.owner()
    scene.keep()
    manifest, data = _delta(scene, b"not a model", target)
    _pushed(scene, manifest, data)
    forgery = scene.forgery(*ONLINE)
    document = forgery.assignment
    document["sequence"] += 1
    for group in document["groups"]:
        group["models"][MODEL]["artifacts"][PI]["deltas"] = _legal(scene, manifest, data)
    forgery.assign(document)
    for role in ONLINE:
        forgery.change(role).version = FAR  # the owner has to publish over it anyway
    forgery.publish(scene.tuf)
    mirror = scene.mirror()
    yield
    assert not any(digest_of(manifest) in path for path in mirror.asked), "nobody has made it legal"
    forgery.publish(scene.tuf, *forgery.last)
    recover(scene, *ONLINE)


@attack("delta: pushed by the registry, approved by nobody", has=REGISTRY, installs=2)
def pushed_by_the_registry(scene: Scene) -> Iterator[None]:
    target = scene.serve(2).digest
    manifest, data = _delta(scene, b"not a model", target)
    _pushed(scene, manifest, data)
    honest = scene.referrers_of(target)
    subject = {"mediaType": OCI_MANIFEST, "digest": target, "size": len(scene.manifest(target))}
    scene.list_referrers(target, canonical_json({**json.loads(manifest), "subject": subject}), *honest)
    mirror = scene.mirror()
    yield
    assert not any(digest_of(data) in path for path in mirror.asked)
