"""Attacks on bundle files: a USB stick from a stranger, with members that an extractor would fall for."""

from __future__ import annotations

import functools
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from attacks.scene import Scene
from attacks.table import attack

STICK = "a bundle file on a stick, made from release 2"
Spoil = Callable[[tarfile.TarFile], None]


def _bundle(scene: Scene, path: Path, spoil: Spoil | None = None, *, first: bool = False) -> Path:
    with tarfile.open(path, "w") as tar:
        if spoil and first:
            spoil(tar)
        tar.add(scene.fleet.releases[2].layouts, arcname=".")
        if spoil and not first:
            spoil(tar)
    return path


def _member(name: str, data: bytes = b"x", *, kind: bytes = tarfile.REGTYPE, link: str = "") -> Spoil:
    def spoil(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        info.size = len(data) if kind == tarfile.REGTYPE else 0
        tar.addfile(info, io.BytesIO(data))

    return spoil


def _play(scene: Scene, *, spoil: Spoil) -> Iterator[None]:
    scene.look_into(_bundle(scene, scene.folder / "stick.tar", spoil))
    yield
    assert not (scene.folder / "escaped").exists()
    scene.look_into(_bundle(scene, scene.folder / "honest.tar"))


_INDEX = "./tuf/index.json"
for _name, _spoil in {
    "path traversal": _member("../escaped"),
    "an absolute path": _member("/tmp/escaped"),  # noqa: S108  never written
    "a path that climbs out in the middle": _member("tuf/../../escaped"),
    "a symbolic link": _member("tuf/blobs/sha256/" + "0" * 64, kind=tarfile.SYMTYPE, link="/etc/passwd"),
    "a hard link": _member("tuf/blobs/sha256/" + "0" * 64, kind=tarfile.LNKTYPE, link=_INDEX),
    "a device": _member("tuf/zero", kind=tarfile.CHRTYPE),
    "a name twice": _member(_INDEX, b'{"schemaVersion":2,"manifests":[]}'),
    "a name twice, spelled otherwise": _member("tuf/index.json", b'{"schemaVersion":2,"manifests":[]}'),
}.items():
    attack(f"bundle file with {_name}", has=STICK, failed="bad-response")(
        functools.partial(_play, spoil=_spoil)
    )


@attack("bundle file cut off", has=STICK, failed="truncated")
def cut_off(scene: Scene) -> Iterator[None]:
    path = _bundle(scene, scene.folder / "stick.tar")
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-1]
    os.truncate(path, last.offset_data + last.size // 2)
    scene.look_into(path)
    yield
    scene.look_into(_bundle(scene, scene.folder / "honest.tar"))


@attack(
    "bundle file of an older release", has="a stick that was in a drawer", refused="metadata-rollback", seen=2
)
def old_stick(scene: Scene) -> Iterator[None]:
    path = scene.folder / "stick.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(scene.fleet.releases[1].layouts, arcname=".")
    scene.look_into(path)
    yield
    with tarfile.open(path, "w") as tar:
        tar.add(scene.fleet.releases[3].layouts, arcname=".")


@attack("layouts with a link out of the directory", has="a stick, mounted", failed="bad-response")
def link_in_layouts(scene: Scene) -> Iterator[None]:
    layouts = scene.layouts(2)
    (layouts / "tuf" / "index.json").rename(scene.folder / "outside.json")
    (layouts / "tuf" / "index.json").symlink_to(scene.folder / "outside.json")
    scene.look_into(layouts)
    yield
    scene.look_at_registry()
