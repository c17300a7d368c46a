"""A malicious mirror first in the list: it lies, stalls or is stale, and the honest one behind it is found."""

from __future__ import annotations

import functools
import json
import socket
from collections.abc import Callable, Iterator
from unittest import mock

from attacks.fleet import MODEL, PREFIX
from attacks.forgery import foreign
from attacks.mirror import Mirror, answered, drip, endless, head
from attacks.scene import Scene
from attacks.table import attack
from edgewright.trust.push import metadata_manifest
from edgewright_agent.contract import OCI_MANIFEST, digest_of, tuf_tag
from edgewright_agent.transport import pace
from edgewright_agent.transport.mirrors import THOROUGH_EVERY

MIRROR = "the mirror that the device asks first; the registry behind it is honest"
OCTETS = "application/octet-stream"
Spoil = Callable[[Scene, Mirror], None]


def _play(scene: Scene, *, spoil: Spoil) -> Iterator[None]:
    scene.serve(2)
    mirror = scene.mirror()
    spoil(scene, mirror)
    scene.device.look_at(f"{mirror.url}/{PREFIX}", scene.fleet.url)
    yield
    assert mirror.asked
    mirror.lies_about.clear()


def _shows(scene: Scene, mirror: Mirror, name: str, body: bytes) -> None:
    """Let a mirror show another metadata file under its name."""
    manifest = metadata_manifest(name, body)
    mirror.lies(f"{scene.path}/tuf/manifests/{tuf_tag(name)}", lambda: answered(manifest, OCI_MANIFEST))
    mirror.lies(f"{scene.path}/tuf/blobs/{digest_of(body)}", lambda: answered(body, OCTETS))


def _timestamp_lies(scene: Scene, mirror: Mirror, lie: Callable[[], Iterator[bytes]]) -> None:
    mirror.lies(f"{scene.path}/tuf/manifests/timestamp.json", lie)


def _foreign(scene: Scene, mirror: Mirror) -> None:
    for name, body in foreign(scene.fleet.releases[2].metadata).items():
        _shows(scene, mirror, name, body)


def _content(scene: Scene, mirror: Mirror) -> None:
    for layer in scene.manifest(scene.fleet.releases[2].digest)["layers"]:
        size = layer["size"]
        path = f"{scene.path}/{MODEL}/blobs/{layer['digest']}"
        mirror.lies(path, functools.partial(lambda size: answered(bytes(size), OCTETS), size))


def _unsigned(scene: Scene, mirror: Mirror) -> None:
    digest = scene.fleet.releases[2].digest
    empty = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
    kind = "application/vnd.oci.image.index.v1+json"
    for path in (f"referrers/{digest}", f"manifests/{digest.replace(':', '-')}"):
        mirror.lies(f"{scene.path}/{MODEL}/{path}", lambda: answered(empty, kind))


def _dripping(scene: Scene, mirror: Mirror) -> None:
    scene.patched(
        mock.patch("edgewright_agent.transport.wire.Pace", functools.partial(pace.Pace, window_s=0.2))
    )
    _timestamp_lies(scene, mirror, lambda: drip(head(OCI_MANIFEST, length=2000), 2000))


for _name, _spoil in {
    "another fleet's metadata": _foreign,
    "other content under the right digests": _content,
    "signatures left out": _unsigned,
    "endless metadata": lambda scene, mirror: _timestamp_lies(
        scene, mirror, lambda: endless(head(OCI_MANIFEST))
    ),
    "a byte at a time": _dripping,
    "nothing but errors": lambda scene, mirror: _timestamp_lies(
        scene, mirror, lambda: iter([b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"])
    ),
}.items():
    attack(f"malicious mirror first in the list: {_name}", has=MIRROR, installs=2)(
        functools.partial(_play, spoil=_spoil)
    )


@attack("malicious mirror first in the list: stale, and never expired", has=MIRROR, installs=2)
def stale(scene: Scene) -> Iterator[None]:
    """It shows what was newest until now: only asking the others tells, which every so many polls do."""
    mirror = scene.mirror()
    old = scene.fleet.releases[1].metadata / "timestamp.json"
    _shows(scene, mirror, "timestamp.json", old.read_bytes())
    scene.device.look_at(f"{mirror.url}/{PREFIX}", scene.fleet.url)
    assert scene.poll().exit_code == 0
    scene.serve(2)
    while scene.device.record.counters["polls"] % THOROUGH_EVERY:
        told = scene.poll()
        assert told.codes[-1] == "not-modified", told.text
    yield
    mirror.lies_about.clear()


@attack("malicious mirror first in the list: unreachable", has="the way to the first mirror", installs=2)
def unreachable(scene: Scene) -> Iterator[None]:
    scene.serve(2)
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))  # and nobody listens
        scene.device.look_at(f"http://127.0.0.1:{unheard.getsockname()[1]}/{PREFIX}", scene.fleet.url)
        yield
