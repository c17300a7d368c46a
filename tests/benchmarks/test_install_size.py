"""What the agent puts on a device, beside the programs that would do a part of it. Prints; asserts the limit.

$ .venv/bin/pytest tests/benchmarks/test_install_size.py -s
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.test_costs import say
from e2e.test_package import build
from real import ROOT, require

MAX_INSTALLED_MB = 30.0


def below(folder: Path) -> float:
    """Return what the files of a folder take, in MB, once there is byte code: both ways to install it make some."""
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(folder)], check=True)
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()) / 1e6


def test_what_the_agent_takes_on_a_disk(tmp_path: Path) -> None:
    wheels, source = tmp_path / "pip", tmp_path / "source"  # pip builds where the source lies
    shutil.copytree(
        ROOT / "agent", source, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    )
    subprocess.run(
        [
            sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-compile",
            "--constraint", str(ROOT / "constraints.txt"), "--target", str(wheels), str(source),
        ],
        check=True, capture_output=True, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    clients = sum(require(tool).resolve().stat().st_size for tool in ("cosign", "oras")) / 1e6
    rows = [("cosign and oras, the programs alone", f"{clients:.1f} MB", "1.00 ×")]
    sizes = {"pip install edgewright-agent, with what it needs": below(wheels)}
    for arch in ("amd64", "arm64", "armhf"):
        package = build(tmp_path / arch, arch, tmp_path / "wheels")
        subprocess.run(["dpkg-deb", "-x", str(package), str(tmp_path / arch / "root")], check=True)
        packed = package.stat().st_size / 1e6
        sizes[f"Debian package for {arch} ({packed:.1f} MB), unpacked"] = below(tmp_path / arch / "root")
    rows += [(name, f"{size:.1f} MB", f"{size / clients:.2f} ×") for name, size in sizes.items()]
    say("What the agent takes on a disk, with its byte code", rows)
    assert max(sizes.values()) <= MAX_INSTALLED_MB, sizes
