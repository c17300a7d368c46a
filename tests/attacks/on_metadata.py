"""Attacks on what a device should run and how current that is (TUF 1.5.2, Uptane 3.2): old, mixed, frozen, unsigned."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator
from datetime import timedelta

from attacks.fleet import CART, MODEL, OTHER_MODEL, PI
from attacks.forgery import ONLINE, foreign, push
from attacks.scene import Scene
from attacks.table import attack
from edgewright_agent.contract import canonical_json

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


@attack(
    "below threshold: one of two timestamp keys",
    has="one of the two keys that root names for timestamp",
    refused="bad-signature",
    honest=3,
)
def below_threshold(scene: Scene) -> Iterator[None]:
    ceremony = scene.ceremony()
    ceremony.demand_two("timestamp")
    ceremony.publish(scene.tuf)
    told = scene.poll()
    assert told.exit_code == 0, f"two of two are enough: {told.text}"
    scene.remember_floor()
    one = {name: key for name, key in ceremony.stolen.items() if name != "second timestamp"}
    both, ceremony.stolen = ceremony.stolen, one
    ceremony.publish(scene.tuf, "timestamp")
    yield
    ceremony.stolen = both
    scene.under_new_root(ceremony)


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
    honest=3,
)
def rollback_of_root(scene: Scene) -> Iterator[None]:
    ceremony = scene.ceremony()
    ceremony.rotate("timestamp")
    ceremony.publish(scene.tuf)
    told = scene.poll()
    assert told.exit_code == 0, told.text
    assert scene.device.record.floor["root"] == 2
    scene.remember_floor()
    scene.serve(1)
    forgery = scene.forgery("timestamp")
    forgery.change("timestamp").version += 5
    forgery.publish(scene.tuf)
    shutil.rmtree(scene.device.state / "tuf")
    yield
    scene.under_new_root(ceremony)


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
