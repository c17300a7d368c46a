"""A device under attack: its own state directory, driven by the real command line of the agent.

>>> device = Device.enroll(folder, fleet)     # doctest: +SKIP
>>> device.once().exit_code                   # doctest: +SKIP
0
>>> device.answer()["labels"]                 # doctest: +SKIP
['one']
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any
from unittest import mock

from attacks.fleet import AUDITOR, MODEL, PI, Fleet
from edgewright_agent import cli
from edgewright_agent.files import Disk
from edgewright_agent.record import Ledger, Record

_COMPLAINT = re.compile(r"^edgewright-agent: ([a-z-]+): ", re.MULTILINE)


@dataclass(frozen=True)
class Told:
    """What one run of the agent said.

    Attributes:
        exit_code: Its exit code.
        codes: Every reason it gave, the poll's last; `ok` and the outcomes of models that went well included.
        text: Both streams.
    """

    exit_code: int
    codes: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Device:
    """One device; `folder` holds its configuration and state, so a copy of it is another device in the same state."""

    folder: Path

    @classmethod
    def enroll(cls, folder: Path, fleet: Fleet) -> Device:
        """Make a device with `edgewright-agent init`."""
        folder.mkdir(parents=True)
        device = cls(folder)
        told = device.agent(
            "init", "--device-id", "pump-7", "--class", PI, "--label", "ring=stable", "--source", fleet.url,
            "--root", str(fleet.made.metadata / "1.root.json"), "--key", str(fleet.keys / "signing.pub"),
            "--key", str(fleet.made.root / AUDITOR),
            "--state", str(folder / "state"), "--reserve-bytes", "0", "--out", str(device.config),
        )  # fmt: skip
        assert told.exit_code == 0, told.text
        device.configure(state="state")
        return device

    def copy(self, folder: Path) -> Device:
        """Return another device in the same state."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Device(folder)

    @property
    def config(self) -> Path:
        """Its configuration file."""
        return self.folder / "agent.json"

    @property
    def state(self) -> Path:
        """Its state directory."""
        return self.folder / "state"

    @property
    def record(self) -> Record:
        """What it will not forget, read from the disk."""
        return Ledger(self.state, Disk()).record

    def configure(self, **changes: Any) -> None:
        """Replace top-level keys of the configuration."""
        document = json.loads(self.config.read_bytes()) if self.config.exists() else {}
        self.config.write_text(json.dumps({**document, **changes}))

    def look_at(self, url: str, *mirrors: str) -> None:
        """Take updates from another source, and from mirrors behind it."""
        self.configure(source={"url": url, **({"mirrors": list(mirrors)} if mirrors else {})})

    def agent(self, *words: str) -> Told:
        """Run the agent's command line in this process: what it knows is on disk only."""
        out, complaints = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(complaints):
            exit_code = cli.main(list(words))
        return _told(exit_code, out.getvalue(), complaints.getvalue())

    def once(self, *words: str) -> Told:
        """Poll once."""
        return self.agent("once", "--config", str(self.config), "--json", *words)

    def once_as_a_process(self) -> Told:
        """Poll once, as systemd or cron would start it."""
        done = subprocess.run(
            [sys.executable, "-m", "edgewright_agent", "once", "--config", str(self.config), "--json"],
            cwd=self.folder,
            env={**os.environ, "PYTHONSAFEPATH": "1"},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=120,
            check=False,
        )
        return _told(done.returncode, done.stdout, done.stderr)

    def answer(self) -> Mapping[str, Any] | None:
        """Return what the active model says to its golden sample, None when it does not answer."""
        told = self.agent("infer", MODEL, "--config", str(self.config), "--json")
        answer: Mapping[str, Any] | None = json.loads(told.text) if told.exit_code == 0 else None
        return answer

    def installed(self) -> list[str]:
        """Return what is on the disk as a model, and what applications are pointed at."""
        stored = [path.name for path in (self.state / "store").iterdir() if path.suffix != ".staging"]
        return sorted(stored) + [str(path.readlink()) for path in sorted((self.state / "current").iterdir())]

    def slots(self) -> list[str]:
        """Return what the record says of the model."""
        state = self.record.model(MODEL)
        slots = {"active": state.active, "previous": state.previous, "trial": state.trial}
        return [f"{name} {slot.digest}" for name, slot in slots.items() if slot]


@contextlib.contextmanager
def clock_shifted(by: timedelta) -> Iterator[None]:
    """Let the agent's clock be wrong by so much."""

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + by

    with mock.patch("edgewright_agent.clock.datetime", Shifted):
        yield


def _told(exit_code: int, out: str, complaints: str) -> Told:
    codes = [str(json.loads(line)["code"]) for line in out.splitlines() if line.startswith('{"')]
    return Told(exit_code, (*codes, *_COMPLAINT.findall(complaints)), out + complaints)
