"""Whether every write of the agent goes through `files.Calls`: Python's audit events tell of each.

    $ PYTHONPATH=tests:pipelines:agent python -m crash.audit FOLDER
    {"commands": 24, "outside": ["open /probe"], "seen": 844, "wrong": []}

The probe is a write that must be seen; wrong are commands that ended otherwise than they should have.

Played are all stories and the agent's own commands, among them a whole `once` with the real python-tuf and the real
health check, and an update from a directory that was carried to it. What goes round `Calls` by design (see its
docstring): lock files and python-tuf's cache. Sockets are no files; who may use one is set past it, too.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {
    *("os.chmod", "os.chown", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.setxattr"),
    *("os.symlink", "os.truncate", "os.utime"),
}


class Auditor:
    """Collects changes of a folder's files.

    Attributes:
        seen: How many there were in all.
        outside: Those that did not go through `Calls`, each once.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.on = str(root), False
        self.seen, self.outside = 0, set[str]()
        self._inside = 0

    def install(self) -> None:
        """Listen from now on, for ever; and know when a call of `Calls` is on its way."""
        from edgewright_agent.files import Calls

        for name in [name for name in vars(Calls) if not name.startswith("_")]:
            setattr(Calls, name, self._marked(getattr(Calls, name)))
        sys.addaudithook(self._hear)

    def _marked(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def marked(*args: Any) -> Any:
            self._inside += 1
            try:
                return call(*args)
            finally:
                self._inside -= 1

        return marked

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open":
            if not args[2] & _WRITES:
                return
        elif event not in _CHANGES or _is_socket(args[0]):
            return
        path = os.fsdecode(args[0]) if isinstance(args[0], (str, bytes, os.PathLike)) else str(args[0])
        if path.startswith("/") and not path.startswith(self.root):
            return
        self.seen += 1
        name = path.removeprefix(self.root)
        if not self._inside and not _is_exempt(name):
            self.outside.add(f"{event} {name}")


def _is_socket(what: Any) -> bool:
    return isinstance(what, int) and stat.S_ISSOCK(os.fstat(what).st_mode)


def _is_exempt(name: str) -> bool:
    # A file without a name is opened by the name of its directory (O_TMPFILE).
    locks = ("/state/lock", "/state/report.lock", "/state/spool/lock")
    return "/state/tuf/" in f"{name}/" or name.endswith((*locks, ".sock"))


def play_stories(auditor: Auditor, folder: Path) -> None:
    """Play every story."""
    from crash.counted import Counted
    from crash.stories import STORIES

    for number, story in enumerate(STORIES):
        home = folder / f"story-{number}"
        story.prepare(home)
        device = story.device(home, Counted())
        auditor.on = True
        story.act(device)
        auditor.on = False


def play_commands(auditor: Auditor, folder: Path) -> tuple[int, list[str]]:
    """Run a device's life by its command line; return how many commands, and what ended otherwise than it should."""
    import numpy as np
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    from edgewright_agent.cli import main
    from edgewright_agent.contract import HEALTH_SOCKET, LIVE_SOCKET
    from edgewright_agent.sockets import Bound
    from edgewright_agent.trusted import DeviceTrust
    from unit.agent.core import onnx_artifact
    from unit.agent.core.workbench import MODEL, PI, make_artifact
    from unit.agent.transport.shelf import Shelf
    from unit.agent.trust.tuf_fleet import TufFleet, assignment

    fleet = TufFleet(Shelf(folder / "registry"))
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    (folder / "signing.pub").write_bytes(public.public_bytes(serialization.Encoding.PEM, form))
    (folder / "root.json").write_bytes(fleet.root_bytes)
    # Its signatures are checked without a write; here nobody has signed it.
    DeviceTrust.verify = lambda *_args, **_more: None  # type: ignore[method-assign]

    def release(version: str, **more: Any) -> None:
        made = make_artifact(version, files=onnx_artifact.files(**more))
        for data in made.files.values():
            fleet.shelf.blob(MODEL, data)
        digest = fleet.shelf.manifest(MODEL, json.loads(made.body))
        number = int(version[0])
        fleet.approve(MODEL, PI, fleet.shelf.body(MODEL, digest), modelVersion=version, sequence=number)
        size = len(fleet.shelf.body(MODEL, digest))
        document = assignment(number, digest=digest, size=size, modelVersion=version)
        document["groups"][0]["models"][MODEL]["modelVersion"] = version
        fleet.bump(next(iter(fleet.classes)), "targets")
        fleet.release(document)

    count, wrong = 0, list[str]()

    def run(*words: str, ends: int = 0, config: bool = True) -> None:
        nonlocal count
        count += 1
        auditor.on = True
        try:
            code = main([*words, *(["--config", str(folder / "agent.json")] if config else ())])
        finally:
            auditor.on = False
        if code != ends:
            wrong.append(f"{' '.join(words)} ended with {code}")

    run(
        *("init", "--device-id", "pi-7", "--class", PI, "--source", f"oci:{folder}/registry"),
        *("--root", str(folder / "root.json"), "--key", str(folder / "signing.pub")),
        *("--state", str(folder / "state"), "--out", str(folder / "agent.json"), "--reserve-bytes", "0"),
        *("--device-identity", str(folder / "identity")),
        config=False,
    )
    run("identity", "create")
    release("1.0.0")
    run("once", "--json")
    run("factory", MODEL)
    release("2.0.0")
    run("install", str(folder / "registry"), "--json")
    run("once", "--force", "--json")
    run("metered", "on")
    run("metered", "auto")
    run("pin", MODEL, "--version", "1.0.0")
    run("once")
    run("unpin", MODEL)
    run("once")
    run("rollback", MODEL, "--to", "factory")
    run("retry", MODEL)
    release("3.0.0", outputs=np.zeros((8, 3), np.float32))
    run("once", ends=2)
    run("evidence", MODEL)
    run("acknowledge", "--all")
    run("report", "--out", str(folder / "report.json"))
    run("factory", MODEL, "--clear")
    run("telemetry")
    run("status")
    run("doctor")
    auditor.on = True
    for name, kind in ((LIVE_SOCKET, socket.SOCK_DGRAM), (HEALTH_SOCKET, socket.SOCK_STREAM)):
        with contextlib.closing(Bound(folder / "state" / name, kind)):
            pass
    auditor.on = False
    for name in ("state.0", "state.1"):
        (folder / "state" / name).write_bytes(b"rotten")
    run("reanchor")
    run("once", ends=2)
    return count, wrong


def main() -> int:
    """Play everything in an empty folder; print what was seen."""
    folder = Path(sys.argv[1]).resolve()
    auditor = Auditor(folder)
    auditor.install()
    auditor.on = True
    (folder / "probe").write_bytes(b"")
    auditor.on = False
    play_stories(auditor, folder)
    count, wrong = play_commands(auditor, folder)
    told = {"commands": count, "outside": sorted(auditor.outside), "seen": auditor.seen, "wrong": wrong}
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
