"""Attacks on the way to the registry: answers that never end, or that come a byte at a time (TUF 1.5.2)."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from unittest import mock

from attacks.fleet import MODEL
from attacks.forgery import PI_ROLE, Forgery
from attacks.mirror import drip, endless, head
from attacks.scene import Scene
from attacks.table import attack
from edgewright.publish import oci
from edgewright_agent.contract import OCI_EMPTY, OCI_INDEX, OCI_MANIFEST, TUF_METADATA, tuf_tag
from edgewright_agent.transport import pace

NETWORK = "the network between device and registry (no TLS here, or a stolen certificate)"
MOST_BYTES = (
    32 * 1024 * 1024
)  # per attack; of each endless answer the sockets alone take 4 MiB that nobody reads
"""The bounds in `contract`, and what the sockets of each connection buffer unread on the way, some 4 MiB here."""

OCTETS = "application/octet-stream"


def _file_of(forgery: Forgery, role: str) -> str:
    if role == "root":
        return f"{forgery.root.version + 1}.root.json"
    if role == "assignment":
        target = forgery.roles["rollout"].signed.targets["rollout/assignment.json"]
        return f"rollout/{target.hashes['sha256']}.assignment.json"
    if role in ("policy", "trusted-root"):
        target = forgery.roles["targets"].signed.targets[f"trust/{role}.json"]
        return f"trust/{target.hashes['sha256']}.{role}.json"
    return "timestamp.json" if role == "timestamp" else f"{forgery.roles[role].signed.version}.{role}.json"


def _endless_manifest(scene: Scene, *, role: str) -> Iterator[None]:
    scene.serve(2)
    mirror = scene.mirror()
    path = f"{scene.path}/tuf/manifests/{tuf_tag(_file_of(scene.forgery(), role))}"
    mirror.lies(path, lambda: endless(head(OCI_MANIFEST)))
    yield
    assert 0 < mirror.sent_bytes < MOST_BYTES, mirror.sent_bytes
    mirror.lies_about.clear()


def _endless_file(scene: Scene, *, role: str) -> Iterator[None]:
    scene.serve(2)
    yield from endless_file(scene, role=role)


def endless_file(scene: Scene, *, role: str) -> Iterator[None]:
    """Let the manifest announce a terabyte, and the blob be as long as anybody listens."""
    mirror = scene.mirror()
    digest = "sha256:" + "0" * 64
    body = oci.manifest(
        artifact_type=TUF_METADATA,
        config={"mediaType": OCI_EMPTY, "digest": digest, "size": 2},
        layers=[{"mediaType": OCTETS, "digest": digest, "size": 10**12}],
    )
    answer = head(OCI_MANIFEST, length=len(body)) + body
    mirror.lies(f"{scene.path}/tuf/manifests/{tuf_tag(_file_of(scene.forgery(), role))}", lambda: [answer])
    mirror.lies(f"{scene.path}/tuf/blobs/{digest}", lambda: endless(head(OCTETS)))
    yield
    assert 0 < mirror.sent_bytes < MOST_BYTES, mirror.sent_bytes
    mirror.lies_about.clear()


for _role in ("root", "timestamp", "snapshot", "targets", PI_ROLE, "rollout", "assignment", "policy"):
    attack(f"endless data: the manifest of {_role}", has=NETWORK, failed="too-large")(
        functools.partial(_endless_manifest, role=_role)
    )
    attack(f"endless data: {_role}", has=NETWORK, failed="too-large")(
        functools.partial(_endless_file, role=_role)
    )


@attack("endless data: the artifact's manifest", has=NETWORK, failed="too-large", floor_kept=False)
def endless_artifact(scene: Scene) -> Iterator[None]:
    digest = scene.serve(2).digest
    mirror = scene.mirror()
    mirror.lies(f"{scene.path}/{MODEL}/manifests/{digest}", lambda: endless(head(OCI_MANIFEST)))
    yield
    assert 0 < mirror.sent_bytes < MOST_BYTES, mirror.sent_bytes
    mirror.lies_about.clear()


@attack("endless data: a layer", has=NETWORK, failed="digest-mismatch", floor_kept=False)
def endless_layer(scene: Scene) -> Iterator[None]:
    digest = scene.serve(2).digest
    mirror = scene.mirror()
    for layer in scene.manifest(digest)["layers"]:
        mirror.lies(f"{scene.path}/{MODEL}/blobs/{layer['digest']}", lambda: endless(head(OCTETS)))
    yield
    assert 0 < mirror.sent_bytes < MOST_BYTES, mirror.sent_bytes
    mirror.lies_about.clear()


@attack("endless data: the list of referrers", has=NETWORK, failed="too-large", floor_kept=False)
def endless_referrers(scene: Scene) -> Iterator[None]:
    digest = scene.serve(2).digest
    mirror = scene.mirror()
    mirror.lies(f"{scene.path}/{MODEL}/referrers/{digest}", lambda: endless(head(OCI_INDEX)))
    yield
    assert 0 < mirror.sent_bytes < MOST_BYTES, mirror.sent_bytes
    mirror.lies_about.clear()


@attack("endless data: the signature bundles", has=NETWORK, refused="unsigned", floor_kept=False)
def endless_bundles(scene: Scene) -> Iterator[None]:
    digest = scene.serve(2).digest
    bundles = [json.loads(body)["layers"][0]["digest"] for body in scene.referrers_of(digest)]
    mirror = scene.mirror()
    for bundle in bundles:
        mirror.lies(f"{scene.path}/{MODEL}/blobs/{bundle}", lambda: endless(head(OCTETS)))
    yield
    assert 0 < mirror.sent_bytes < MOST_BYTES, mirror.sent_bytes
    mirror.lies_about.clear()


@attack("endless data: headers", has=NETWORK, failed="bad-response")
def endless_headers(scene: Scene) -> Iterator[None]:
    scene.serve(2)
    mirror = scene.mirror()
    mirror.lies(
        f"{scene.path}/tuf/manifests/timestamp.json",
        lambda: endless(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n" * 50),
    )
    yield
    assert 0 < mirror.sent_bytes < MOST_BYTES, mirror.sent_bytes
    mirror.lies_about.clear()


def _slow(scene: Scene, *, path: str, kind: str) -> Iterator[None]:
    # The same code with a window that a test can wait for: half a minute is what a device takes.
    quick = functools.partial(pace.Pace, window_s=0.2)
    scene.patched(mock.patch("edgewright_agent.transport.wire.Pace", quick))
    digest = scene.serve(2).digest
    mirror = scene.mirror()
    layer = scene.manifest(digest)["layers"][0]
    where, length = {
        "manifest": (f"tuf/manifests/{tuf_tag('timestamp.json')}", 2000),
        "layer": (f"{MODEL}/blobs/{layer['digest']}", layer["size"]),
    }[path]
    mirror.lies(f"{scene.path}/{where}", lambda: drip(head(kind, length=length), length))
    yield
    mirror.lies_about.clear()


attack("slow retrieval: the metadata, a byte at a time", has=NETWORK, failed="too-slow")(
    functools.partial(_slow, path="manifest", kind=OCI_MANIFEST)
)
attack("slow retrieval: the model, a byte at a time", has=NETWORK, failed="too-slow", floor_kept=False)(
    functools.partial(_slow, path="layer", kind=OCTETS)
)
