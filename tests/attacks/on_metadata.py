"""Attacks on what a device should run and how current that is (TUF 1.5.2, Uptane 3.2): old, mixed, frozen, unsigned."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from securesystemslib.signer import CryptoSigner

from attacks.fleet import CART, MODEL, OTHER_MODEL, PI
from attacks.forgery import ABOVE, ONLINE, PI_ROLE, foreign, push
from attacks.scene import Scene
from attacks.table import attack
from edgewright.trust.keys import create_key
from edgewright.trust.publication import refresh
from edgewright.trust.rotation import rotate
from edgewright_agent.contract import canonical_json, class_role

REGISTRY = "the registry: everything in it can be replaced, no key"
YESTERDAY = "the registry, and a copy of what it held at release 1"


@attack("arbitrary metadata: a whole foreign fleet", has=REGISTRY, refused="bad-signature", process=True)
def a_foreign_fleet(scene: Scene) -> Iterator[None]:
    push(scene.tuf, foreign(scene.serve(2).metadata))
    yield


@attack(
    "wrong key: the timestamp signed by the snapshot's key", has="the snapshot key", refused="bad-signature"
)
def a_key_of_another_role(scene: Scene) -> Iterator[None]:
    forgery = scene.forgery("snapshot")
    key = forgery.stolen["snapshot"]
    forgery.change("timestamp")
    forgery.roles["timestamp"].sign(key)
    body = forgery.roles["timestamp"].to_bytes()
    push(scene.tuf, {"timestamp.json": body})
    yield


def _below_threshold(scene: Scene, *, role: str) -> Iterator[None]:
    """The owner asks for two signatures of a role; a thief has one of its keys, and every other online key."""
    key = "artifacts" if role == PI_ROLE else role
    owner = scene.owner()
    create_key(owner.keys, f"{key}-b", None)
    owner.trust["roles"][key] = {"threshold": 2, "keys": (key, f"{key}-b")}
    rotate(owner.workspace, [key], now=owner.now)
    refresh(owner.workspace, now=owner.now)
    scene.keep()
    told = scene.poll()
    assert told.exit_code == 0, f"two of two are enough: {told.text}"
    scene.remember_floor()
    forgery = scene.forgery(*ONLINE, "artifacts", key)
    forgery.change(role)
    forgery.publish(scene.tuf, *ABOVE[role])
    yield


for _role in ("timestamp", "snapshot", "targets", PI_ROLE, "rollout"):
    attack(
        f"below threshold: one of two keys of {_role}",
        has=f"one of the two keys of {_role}, and every key that is online",
        refused="bad-signature",
    )(functools.partial(_below_threshold, role=_role))


@attack(
    "below threshold: one of two signatures of root",
    has="one of the root keys, of which two must sign",
    refused="bad-signature",
)
def one_root_key(scene: Scene) -> Iterator[None]:
    forgery = scene.forgery("root-a")
    root = forgery.change("root")
    own = CryptoSigner.generate_ed25519()
    root.roles["timestamp"].keyids.clear()
    root.add_key(own.public_key, "timestamp")
    forgery.stolen["timestamp"] = own
    forgery.publish(scene.tuf, "timestamp")
    yield


@attack(
    "arbitrary root: the next root signed by keys of the attacker",
    has=REGISTRY,
    refused="bad-signature",
)
def own_root(scene: Scene) -> Iterator[None]:
    scene.serve(2)
    forgery = scene.forgery()
    forgery.change("root")
    forgery.publish(scene.tuf)
    yield


def _rollback(scene: Scene, *, role: str, emptied: bool) -> Iterator[None]:
    scene.serve(2)
    if role == "timestamp":
        scene.serve(1)
    elif role == "snapshot":
        forgery = scene.forgery("timestamp")
        old = scene.forgery(of=1).timestamp.snapshot_meta
        forgery.change("timestamp").snapshot_meta = old
        _put_back(scene)
        forgery.publish(scene.tuf)
    else:
        forgery = scene.forgery("timestamp", "snapshot")
        forgery.change("snapshot").meta[f"{role}.json"] = scene.forgery(of=1).snapshot.meta[f"{role}.json"]
        _put_back(scene)
        forgery.publish(scene.tuf, "timestamp")
    if emptied:
        shutil.rmtree(scene.device.state / "tuf")
    yield


def _put_back(scene: Scene) -> None:
    """Have the files of release 1 in the registry beside those of release 2."""
    metadata = scene.fleet.releases[1].metadata
    files = {str(path.relative_to(metadata)): path.read_bytes() for path in metadata.rglob("*.json")}
    push(scene.tuf, {name: body for name, body in files.items() if name != "timestamp.json"})


for _role, _has in (
    ("timestamp", YESTERDAY),
    ("snapshot", "the timestamp key, and a copy of release 1"),
    ("targets", "the timestamp and snapshot keys, and a copy of release 1"),
    (PI_ROLE, "the timestamp and snapshot keys, and a copy of release 1"),
    ("rollout", "the timestamp and snapshot keys, and a copy of release 1"),
):
    for _emptied in (False, True):
        _lost = ", the device's cache lost" if _emptied else ""
        attack(f"rollback of {_role}{_lost}", has=_has, refused="metadata-rollback", seen=2)(
            functools.partial(_rollback, role=_role, emptied=_emptied)
        )


@attack(
    "rollback of root, the device's cache lost",
    has="the timestamp key that root 2 revoked, and a copy of what the registry held before",
    refused="metadata-rollback",
)
def rollback_of_root(scene: Scene) -> Iterator[None]:
    before = scene.forgery("timestamp")
    owner = scene.owner()
    rotate(owner.workspace, ["timestamp"], now=owner.now)
    refresh(owner.workspace, now=owner.now)
    scene.keep()
    told = scene.poll()
    assert told.exit_code == 0, told.text
    assert scene.device.record.floor["root"] == 2
    scene.remember_floor()
    mirror = scene.mirror()
    gone = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    mirror.lies(f"{scene.path}/tuf/manifests/2.root.json", lambda: [gone])
    before.change("timestamp").version += 5
    before.publish(scene.tuf)
    shutil.rmtree(scene.device.state / "tuf")
    yield
    mirror.lies_about.clear()


@attack(
    "indefinite freeze", has="the network: the device sees release 1 for ever", refused="expired-metadata"
)
def indefinite_freeze(scene: Scene) -> Iterator[None]:
    scene.clock = timedelta(days=8)  # the timestamp is believed for seven
    yield
    scene.clock = timedelta()


@attack("indefinite freeze: not modified for ever", has="the network", refused="expired-metadata")
def frozen_by_304(scene: Scene) -> Iterator[None]:
    mirror = scene.mirror()
    assert scene.poll().exit_code == 0
    mirror.lies(f"{scene.path}/tuf/manifests/timestamp.json", lambda: [b"HTTP/1.1 304 Not Modified\r\n\r\n"])
    told = scene.poll()
    assert told.codes[-1] == "not-modified"
    mirror.lies_about.clear()
    scene.clock = timedelta(days=8)
    yield
    scene.clock = timedelta()


@attack("mix-and-match: release 2 with the rollout of release 1", has=YESTERDAY, refused="bad-metadata")
def mixed_rollout(scene: Scene) -> Iterator[None]:
    _swap(scene, "rollout")
    yield


@attack("mix-and-match: release 2 with the targets of release 1", has=YESTERDAY, refused="bad-metadata")
def mixed_targets(scene: Scene) -> Iterator[None]:
    _swap(scene, "targets")
    yield


@attack("mix-and-match: release 2 with the artifacts of release 1", has=YESTERDAY, refused="bad-metadata")
def mixed_class(scene: Scene) -> Iterator[None]:
    _swap(scene, PI_ROLE)
    yield


@attack(
    "mix-and-match: release 2 with the artifacts of another class",
    has=REGISTRY,
    refused="bad-metadata",
)
def mixed_classes(scene: Scene) -> Iterator[None]:
    metadata = scene.serve(2).metadata
    push(scene.tuf, {f"2.{PI_ROLE}.json": (metadata / f"1.{class_role(CART)}.json").read_bytes()})
    yield


@attack("mix-and-match: release 2 with the snapshot of release 1", has=YESTERDAY, refused="bad-metadata")
def mixed_snapshot(scene: Scene) -> Iterator[None]:
    _swap(scene, "snapshot")
    yield


@attack(
    "mix-and-match: the assignment of release 1 as that of release 2", has=YESTERDAY, refused="bad-metadata"
)
def mixed_assignment(scene: Scene) -> Iterator[None]:
    scene.serve(2)
    old = canonical_json(scene.forgery(of=1).assignment)
    push(scene.tuf, {_assignment_name(scene): old})
    yield


def _swap(scene: Scene, role: str) -> None:
    """Serve release 1's version of a role under the name of release 2's."""
    release = scene.serve(2)
    _put_back(scene)
    old = (scene.fleet.releases[1].metadata / f"1.{role}.json").read_bytes()
    version = scene.forgery(of=2).roles[role].signed.version
    assert version > 1 and release.number == 2
    push(scene.tuf, {f"{version}.{role}.json": old})


def _assignment_name(scene: Scene) -> str:
    target = scene.forgery().roles["rollout"].signed.targets["rollout/assignment.json"]
    return f"rollout/{target.hashes['sha256']}.assignment.json"


@attack("policy replaced by that of release 1", has=YESTERDAY, refused="bad-metadata")
def old_policy(scene: Scene) -> Iterator[None]:
    old, new = (_document(scene.fleet.releases[n].metadata, "policy", n) for n in (1, 2))
    scene.serve(2)
    push(scene.tuf, {f"trust/{new.name}": old.read_bytes()})
    yield


def _document(metadata: Path, name: str, version: int) -> Path:
    signed = json.loads((metadata / f"{version}.targets.json").read_bytes())["signed"]
    digest = signed["targets"][f"trust/{name}.json"]["hashes"]["sha256"]
    return metadata / "trust" / f"{digest}.{name}.json"


@attack("tag of the metadata re-pointed", has=REGISTRY, refused="bad-metadata")
def metadata_tag_repointed(scene: Scene) -> Iterator[None]:
    scene.serve(2)
    name = f"{scene.forgery().snapshot.version}.snapshot.json"
    push(scene.tuf, {name: b'{"signed":{},"signatures":[]}'})
    yield


@attack("wrong device: the assignment edited for this device's labels", has=REGISTRY, refused="bad-metadata")
def wrong_device(scene: Scene) -> Iterator[None]:
    scene.serve(2)
    document = scene.forgery().assignment
    canary = next(group for group in document["groups"] if group["name"] == "canary")
    canary["selector"]["matchLabels"] = {"ring": "stable"}
    push(scene.tuf, {_assignment_name(scene): canonical_json(document)})
    yield


@attack(
    "wrong group: another group's model as this one's",
    has="the rollout, snapshot and timestamp keys",
    refused="not-a-target",
    honest=3,
    floor_kept=False,
)
def wrong_group(scene: Scene) -> Iterator[None]:
    forgery = scene.forgery(*ONLINE)
    other = next(group for group in forgery.assignment["groups"] if group["name"] == "canary")
    theirs = other["models"][OTHER_MODEL]["artifacts"][PI]
    forgery.choose(MODEL, PI, digest=theirs["digest"], size=theirs["size"], version=theirs["modelVersion"])
    forgery.publish(scene.tuf, "snapshot", "timestamp")
    yield


@attack(
    "wrong hardware class: another class's artifact, chosen by rollout",
    has="the rollout, snapshot and timestamp keys",
    refused="not-a-target",
    honest=3,
    floor_kept=False,
)
def wrong_class(scene: Scene) -> Iterator[None]:
    forgery = scene.forgery(*ONLINE)
    theirs = forgery.assignment["groups"][-1]["models"][MODEL]["artifacts"][CART]
    forgery.choose(MODEL, PI, digest=theirs["digest"], size=theirs["size"], version=theirs["modelVersion"])
    forgery.publish(scene.tuf, "snapshot", "timestamp")
    yield


@attack(
    "wrong device: the state of another fleet of the same owner",
    has="the network; another fleet that is signed with the same keys",
    refused="wrong-fleet",
)
def another_fleet(scene: Scene) -> Iterator[None]:
    scene.serve(2)
    owner = scene.owner()
    owner.more["name"] = "another"
    owner.release()
    yield
    scene.dismiss_owner()


@attack(
    "partial release: the timestamp before what it names",
    has="a publisher cut off half-way",
    failed="not-found",
)
def partial_metadata(scene: Scene) -> Iterator[None]:
    release = scene.fleet.releases[2]
    push(scene.tuf, {"timestamp.json": (release.metadata / "timestamp.json").read_bytes()})
    yield


@attack(
    "partial release: the metadata before the artifacts",
    has="a publisher cut off half-way",
    failed="not-found",
    floor_kept=False,
)
def partial_artifacts(scene: Scene) -> Iterator[None]:
    metadata = scene.fleet.releases[2].metadata
    files = {str(path.relative_to(metadata)): path.read_bytes() for path in metadata.rglob("*.json")}
    push(scene.tuf, {**files, "timestamp.json": files["timestamp.json"]})
    yield
