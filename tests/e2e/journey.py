"""A fleet on disk and the devices that follow it, driven only through the two command lines.

>>> fleet = Journey(tmp_path)                       # doctest: +SKIP
>>> fleet.edgewright("run").returncode              # doctest: +SKIP
0
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from real import ROOT

PROGRAMS = Path(sys.executable).parent
MODEL = "digit-reader"
PI = "raspberry-pi-4"


@dataclass(frozen=True)
class Journey:
    """A folder with a fleet in `fleet/` (one model, all classes) and devices in `devices/`."""

    folder: Path

    @property
    def fleet(self) -> Path:
        """The fleet's repository."""
        return self.folder / "fleet"

    @property
    def layouts(self) -> Path:
        """Where `oci:` publishing puts its layouts."""
        return self.fleet / "dist" / "registry"

    @classmethod
    def start(cls, folder: Path, registry: str | None = None) -> Journey:
        """Copy this repository's fleet, with one model to keep it quick."""
        journey = cls(folder)
        (journey.fleet / "models").mkdir(parents=True)
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "hardware", journey.fleet / "hardware", ignore=ignore)
        shutil.copytree(ROOT / "models" / MODEL, journey.fleet / "models" / MODEL, ignore=ignore)
        (journey.fleet / "fleet.yaml").write_text(
            "version: 1\nname: test-fleet\nregistry:\n"
            f"  url: {registry or 'oci:dist/registry'}\n"
            "groups:\n  - name: all\n    models:\n      - model: digit-reader\n"
        )
        return journey

    def copy(self, folder: Path) -> Journey:
        """Return an independent copy, with everything built so far."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Journey(folder)

    def follow(self, later: Journey) -> None:
        """Put the fleet of `later`, with everything it built and published, in the place of this one's.

        To the devices it is as if their fleet had gone on.
        """
        shutil.rmtree(self.fleet)
        shutil.copytree(later.fleet, self.fleet, symlinks=True)

    def use_results(self, other: Journey) -> None:
        """Take over what another fleet has built: what is signed and published is made anew all the same."""
        shutil.copytree(other.fleet / ".edgewright" / "cache", self.fleet / ".edgewright" / "cache")

    def edgewright(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the pipeline's command line in the fleet's folder."""
        return self._run("edgewright", words, environment)

    def agent(
        self, device: str, verb: str, *words: str, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the agent's command line for one device."""
        return self._run(
            "edgewright-agent", (verb, "--config", str(self.config(device)), *words), environment
        )

    def config(self, device: str) -> Path:
        """Return a device's configuration file."""
        return self.folder / "devices" / device / "agent.json"

    def enroll(
        self, device: str, *, source: str | None = None, hardware_class: str = PI, key: Path | None = None
    ) -> str:
        """Make a device; returns its name."""
        home = self.config(device).parent
        home.mkdir(parents=True)
        done = self._run(
            "edgewright-agent",
            (
                "init", "--device-id", device, "--class", hardware_class, "--source",
                source or f"oci:{self.layouts}", "--root", str(self.root_metadata()), "--key",
                str(key or self.fleet / ".edgewright/keys/signing.pub"), "--state", str(home / "state"),
                "--out", str(self.config(device)),
            ),
            {},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return device

    def root_metadata(self) -> Path:
        """Return the first root, which devices are born with."""
        return self.fleet / ".edgewright" / "tuf" / "1.root.json"

    def status(self, device: str) -> dict[str, Any]:
        """Return what a device says of itself."""
        done = self.agent(device, "status", "--json")
        status: dict[str, Any] = json.loads(done.stdout)
        return status

    def plan(self) -> list[dict[str, Any]]:
        """Return the steps of the plan."""
        steps: list[dict[str, Any]] = json.loads(self.edgewright("plan", "--json").stdout)["steps"]
        return steps

    def digest(self, hardware_class: str = PI, stage: str = "published") -> str:
        """Return the digest of a lane's artifact."""
        return next(
            str(step["facts"]["digest"])
            for step in self.plan()
            if (step["stage"], step["hardwareClass"]) == (stage, hardware_class)
        )

    def edit(self, file: str, pattern: str, replacement: str) -> None:
        """Change one line of YAML."""
        path = self.fleet / file
        text, count = re.subn(pattern, replacement, path.read_text(), count=1, flags=re.MULTILINE)
        assert count == 1, f"{file} has no {pattern}"
        path.write_text(text)

    def release(self) -> None:
        """Build and release whatever changed."""
        done = self.edgewright("run")
        assert done.returncode in (0, 2), done.stdout + done.stderr
        done = self.edgewright("release")
        assert done.returncode == 0, done.stdout + done.stderr

    def _run(
        self, program: str, words: tuple[str, ...], environment: dict[str, str]
    ) -> subprocess.CompletedProcess[str]:
        ours = ("EDGEWRIGHT_", "DAGSTER_")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return subprocess.run(
            [str(PROGRAMS / program), *words],
            cwd=self.fleet,
            env={**clean, **environment},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=600,
            check=False,
        )
