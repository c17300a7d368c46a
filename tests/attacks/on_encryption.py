"""Attacks on encrypted weights: ciphertext that was changed, a key that is somebody else's, a bomb inside."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from attacks.attestations import sign_and_assign
from attacks.fleet import MODEL, PI, SIGNING
from attacks.on_artifacts import bomb
from attacks.scene import Scene
from attacks.table import attack
from edgewright.trust.assignment import PublishedLane
from edgewright_agent.contract import ANNOTATION_ENC_JWE, ANNOTATION_ENC_PUBOPTS, digest_of
from unit.agent.core.sealing import make_key, seal, write_private, write_public
from unit.publish.lane import LaneFiles

EVERY_KEY = "every key but root's, the one that signs artifacts included; not the device's"


def _sealed(scene: Scene, *, holder: Any, model_version: int = 4, **changes: Any) -> LaneFiles:
    """Package a lane whose weights are for the holder of a key."""
    root = scene.fleet.made.root
    name = f"recipients/{scene.folder.name}.pub"
    write_public(root / name, holder)
    return scene.fleet.lane(MODEL, PI, model_version, signing=SIGNING, recipients=(name,), **changes)


def _give_key(scene: Scene, key: Any) -> None:
    write_private(scene.device.folder / "device.key", key)
    scene.device.configure(decryption={"keys": ["device.key"]})


def _released(scene: Scene, lane: LaneFiles) -> None:
    """Let the owner release an encrypted artifact."""
    owner = scene.owner()
    scene.offer_artifacts(2)
    scene.tamper(MODEL)
    lane.registry = {"url": owner.url}
    published = lane.all().facts
    owner.lanes[MODEL][PI] = PublishedLane(
        str(published["digest"]), int(str(published["size"])), lane.model_version, MODEL
    )
    owner.release()
    scene.keep()


def _weights(lane: LaneFiles) -> dict[str, Any]:
    layer: dict[str, Any] = json.loads(lane.manifest)["layers"][0]
    assert layer["mediaType"].endswith("+encrypted")
    return layer


@attack(
    "encrypted: for another device's key",
    has="the registry; the artifact is honest, and for others",
    refused="no-decryption-key",
    floor_kept=False,
)
def another_key(scene: Scene) -> Iterator[None]:
    _give_key(scene, make_key())
    _released(scene, _sealed(scene, holder=make_key()))
    yield


@attack(
    "encrypted: ciphertext changed",
    has="the registry: everything in it can be replaced, no key",
    failed="digest-mismatch",
    floor_kept=False,
)
def other_ciphertext(scene: Scene) -> Iterator[None]:
    key = make_key()
    _give_key(scene, key)
    lane = _sealed(scene, holder=key)
    _released(scene, lane)
    layer = _weights(lane)
    content = _ciphertext(lane)
    scene.overwrite(layer["digest"], bytes([content[0] ^ 1]) + content[1:])
    yield


def _ciphertext(lane: LaneFiles) -> bytes:
    digest = _weights(lane)["digest"]
    return next(
        body
        for name, path in lane.inputs.items()
        if name.startswith("packaged/") and digest_of(body := path.read_bytes()) == digest
    )


def _respelled(scene: Scene, change: Callable[[dict[str, Any], bytes], bytes]) -> None:
    """Publish an artifact whose encrypted layer was changed, signed anew by who has the keys of the fleet."""
    key = make_key()
    _give_key(scene, key)
    lane = _sealed(scene, holder=key, model_version=9)
    lane.package()
    document = json.loads(lane.manifest)
    layer = document["layers"][0]
    content = change(layer, _ciphertext(lane))
    layer |= {"digest": digest_of(content), "size": len(content)}
    sign_and_assign(scene, lane, document, content)


@attack(
    "encrypted: ciphertext changed, and signed anew",
    has=EVERY_KEY,
    refused="digest-mismatch",
    honest=3,
    floor_kept=False,
)
def signed_ciphertext(scene: Scene) -> Iterator[None]:
    """A bit of the plaintext can be turned by turning one of the ciphertext: the HMAC says no."""
    _respelled(scene, lambda _layer, content: bytes([content[0] ^ 1]) + content[1:])
    yield


@attack(
    "encrypted: the wrapped key changed, and signed anew",
    has=EVERY_KEY,
    refused="bad-manifest",
    honest=3,
    floor_kept=False,
)
def wrapped_key(scene: Scene) -> Iterator[None]:
    def change(layer: dict[str, Any], content: bytes) -> bytes:
        notes = layer["annotations"]
        wrapped = json.loads(base64.b64decode(notes[ANNOTATION_ENC_JWE]))
        wrapped["ciphertext"] = wrapped["ciphertext"][:-4] + "AAAA"
        notes[ANNOTATION_ENC_JWE] = base64.b64encode(json.dumps(wrapped).encode()).decode()
        return content

    _respelled(scene, change)
    yield


@attack(
    "encrypted: a decompression bomb inside",
    has=EVERY_KEY,
    refused="bad-manifest",
    honest=3,
    floor_kept=False,
)
def bomb_inside(scene: Scene) -> Iterator[None]:
    key = make_key()
    _give_key(scene, key)
    packed = bomb("model.onnx", size=64, real_bytes=20_000_000)
    layer, content = seal(bytes(64), [key], packed=packed)
    assert layer.sealed is not None

    def change(told: dict[str, Any], _content: bytes) -> bytes:
        told["mediaType"] = "application/vnd.cncf.model.weight.v1.tar+gzip+encrypted"
        told["annotations"] |= {
            "dev.edgewright.file-digest": layer.file_digest,
            "dev.edgewright.file-size": str(layer.file_size),
            ANNOTATION_ENC_JWE: layer.sealed.keys,
            ANNOTATION_ENC_PUBOPTS: layer.sealed.options,
        }
        return content

    _respelled(scene, change)
    _give_key(scene, key)
    yield
    assert _stored(scene.device.state) < 1_000_000, "the bomb is not on the disk"


def _stored(state: Path) -> int:
    return sum(path.stat().st_size for path in (state / "store").rglob("*") if path.is_file())
