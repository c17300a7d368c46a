"""Whether every write of the agent goes through `files.Calls`: Python's audit events tell of each.

    $ PYTHONPATH=tests:pipelines:agent python -m crash.audit FOLDER
    {"seen": 380, "outside": ["open /probe"], "codes": [0, …]}

The probe is a write that must be seen.

Played are all stories and the agent's own commands, among them a whole `once` with the real python-tuf and the real
health check. What goes round `Calls` by design (see its docstring): lock files and python-tuf's cache.
"""

from __future__ import annotations

import json
import os
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
        elif event not in _CHANGES:
            return
        path = os.fsdecode(args[0]) if isinstance(args[0], (str, bytes, os.PathLike)) else str(args[0])
        if path.startswith("/") and not path.startswith(self.root):
            return
        self.seen += 1
        name = path.removeprefix(self.root)
        if not self._inside and not _is_exempt(name):
            self.outside.add(f"{event} {name}")


def _is_exempt(name: str) -> bool:
    # A file without a name is opened by the name of its directory (O_TMPFILE).
    return "/state/tuf/" in f"{name}/" or name.endswith(("/state/lock", "/state/report.lock"))


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


def play_commands(auditor: Auditor, folder: Path) -> list[int]:
    """Run a device's life by its command line; return the exit codes."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    from edgewright_agent.cli import main
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

    def release(version: str) -> None:
        made = make_artifact(version, files=onnx_artifact.files(), edit=lambda document: None)
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

    config = str(folder / "agent.json")

    def run(*words: str) -> int:
        auditor.on = True
        try:
            return main(list(words))
        finally:
            auditor.on = False

    codes = [
        run(
            *("init", "--device-id", "pi-7", "--class", PI, "--source", f"oci:{folder}/registry"),
            *("--root", str(folder / "root.json"), "--key", str(folder / "signing.pub")),
            *("--state", str(folder / "state"), "--out", config, "--reserve-bytes", "0"),
            *("--device-identity", str(folder / "identity")),
        ),
        run("identity", "create", "--config", config),
    ]
    for version in ("1.0.0", "2.0.0"):
        release(version)
        codes.append(run("once", "--json", "--config", config))
    codes += [
        run("once", "--force", "--json", "--config", config),
        run("rollback", MODEL, "--config", config),
        run("retry", MODEL, "--config", config),
        run("report", "--config", config, "--out", str(folder / "report.json")),
        run("status", "--config", config),
    ]
    return codes


def main() -> int:
    """Play everything in an empty folder; print what was seen."""
    folder = Path(sys.argv[1]).resolve()
    auditor = Auditor(folder)
    auditor.install()
    auditor.on = True
    (folder / "probe").write_bytes(b"")
    auditor.on = False
    play_stories(auditor, folder)
    codes = play_commands(auditor, folder)
    print(json.dumps({"seen": auditor.seen, "outside": sorted(auditor.outside), "codes": codes}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
