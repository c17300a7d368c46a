"""Attacks on the last mile: proxies, login pages, and a signed policy that is to silence devices."""

from __future__ import annotations

import functools
import json
import socket
from collections.abc import Callable, Iterator

from attacks.fleet import MODEL, PI, PREFIX
from attacks.forgery import FAR, ONLINE
from attacks.mirror import answered, endless
from attacks.on_recovery import recover
from attacks.on_transport import MOST_BYTES
from attacks.scene import Scene
from attacks.table import attack
from authority import Authority
from faults.connect import ConnectProxy
from terminator import Terminator

PROXY = "the proxy between device and registry"


@attack("captive portal: a login page for everything", has="the network of the site", failed="captive-portal")
def login_page(scene: Scene) -> Iterator[None]:
    scene.serve(2)
    mirror = scene.mirror()
    page = b"<html>Welcome to our hotel</html>"
    mirror.lies(f"{scene.path}/tuf/manifests/timestamp.json", lambda: answered(page, "text/html"))
    yield
    mirror.lies_about.clear()


@attack("captive portal: a login page for the model", has="the network of the site", failed="captive-portal",
        floor_kept=False)  # fmt: skip
def login_page_for_the_model(scene: Scene) -> Iterator[None]:
    digest = scene.serve(2).digest
    mirror = scene.mirror()
    page = b"<html>Your hour is over</html>"
    for layer in scene.manifest(digest)["layers"]:
        mirror.lies(f"{scene.path}/{MODEL}/blobs/{layer['digest']}", lambda: answered(page, "text/html"))
    yield
    mirror.lies_about.clear()


def _through(scene: Scene, proxy: ConnectProxy) -> None:
    """Let the device reach an honest registry over TLS, by this proxy and in no other way."""
    scene.serve(2)
    authority = Authority.create(scene.folder)
    port = scene.fleet.registry.port
    source = scene.start(Terminator(authority, port=port))
    scene.device.configure(
        source={
            "url": f"{source.url}/{PREFIX}",
            "caFile": str(authority.ca_file),
            "proxy": proxy.url,
        }
    )


def _misbehaves(scene: Scene, *, says: Callable[[socket.socket], None]) -> Iterator[None]:
    proxy = scene.start(ConnectProxy(says=says))
    _through(scene, proxy)
    yield
    assert not proxy.carried, "nothing went into a tunnel that is none"
    scene.look_at_registry()


def _endless(client: socket.socket) -> None:
    for sent, piece in enumerate(endless(b"HTTP/1.1 200 OK\r\n", b"X-More: and more\r\n" * 1000)):
        assert sent * 18_000 < MOST_BYTES, "it listens for ever"
        client.sendall(piece)


for _name, _says, _code in (
    ("an answer to CONNECT that never ends", _endless, "too-large"),
    ("it asks for a log-in that the device has not", lambda client: client.sendall(
        b"HTTP/1.1 407 Log in\r\nProxy-Authenticate: Basic\r\n\r\n"), "denied"),
    ("it speaks TLS for the registry, in clear text", lambda client: client.sendall(
        b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), "network"),
):  # fmt: skip
    attack(f"proxy: {_name}", has=PROXY, failed=_code)(functools.partial(_misbehaves, says=_says))


@attack("proxy: it ends TLS itself", has=f"{PROXY}, and a certificate of another authority", failed="network")
def ends_tls(scene: Scene) -> Iterator[None]:
    proxy = scene.start(ConnectProxy())
    _through(scene, proxy)
    (scene.folder / "stranger").mkdir()
    stranger = Authority.create(scene.folder / "stranger")
    source = json.loads(scene.device.config.read_bytes())["source"]
    scene.device.configure(
        source={**source, "caFile": str(stranger.ca_file)}
    )  # what it shows is signed by nobody whom the device knows
    yield
    assert proxy.tunnels
    scene.look_at_registry()


@attack(
    "policy of updates: a device told never to ask again",
    has="the rollout, snapshot and timestamp keys",
    installs=2,
)
def silenced(scene: Scene) -> Iterator[None]:
    """It obeys in what is within bounds, and is back the next day for what the owner says then."""
    scene.serve(2)
    scene.owner()
    scene.keep()
    forgery = scene.forgery(*ONLINE)
    document = forgery.assignment
    document["sequence"] += 1
    for group in document["groups"]:
        group["models"][MODEL]["artifacts"][PI]["updatePolicy"] = {
            "poll": {"intervalS": 1e15, "jitter": 1e9, "maxBackoffS": 1e15},
            "windows": {"download": ["never"], "activation": ["25:00-26:00", 7], "timeZone": "moon"},
            "metered": "never",
            "bandwidthBitsPerS": "none",
        }
    forgery.assign(document)
    for role in ONLINE:
        forgery.change(role).version = FAR  # the owner has to publish over it anyway
    forgery.publish(scene.tuf)
    yield
    assert scene.device.record.policy == {
        "poll": {"intervalS": 86400.0, "jitter": 1.0, "maxBackoffS": 86400.0}
    }
    forgery.publish(scene.tuf, *forgery.last)
    recover(scene, *ONLINE)
