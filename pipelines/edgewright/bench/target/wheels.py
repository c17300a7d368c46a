"""Wheels of another processor: fetched by pip against a lock of versions and hashes, unzipped, never installed.

>>> wheels = fetch(USERLANDS["arm64"], downloads)      # doctest: +SKIP
>>> unzip(wheels, root / "site")                       # doctest: +SKIP
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from edgewright.bench.target.userland import WHEELS_LOCK, Userland
from edgewright.errors import EnvironmentFault, NetworkError

PIP_TIMEOUT_S = 900.0


def locked() -> dict[str, str]:
    """Return name → version of every wheel in the lock.

    >>> sorted(locked())
    ['numpy', 'onnxruntime']
    """
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", WHEELS_LOCK.read_text(), re.MULTILINE))


def locked_hashes() -> set[str]:
    """Return every sha256 the lock allows."""
    return set(re.findall(r"--hash=sha256:([0-9a-f]{64})", WHEELS_LOCK.read_text()))


def fetch(userland: Userland, folder: Path) -> list[Path]:
    """Download the locked wheels of `userland`; those that are there already are only checked.

    Raises:
        EnvironmentFault: this Python has no pip.
        NetworkError: no index has such a wheel with such a hash, or none can be reached.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stale in (path for path in folder.glob("*.whl") if sha256_of(path) not in locked_hashes()):
        stale.unlink()
    platforms = [option for tag in userland.wheels for option in ("--platform", tag)]
    command = [
        sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps",
        "--only-binary=:all:", "--implementation", "cp", "--python-version", "3.11", *platforms,
        "--require-hashes", "--requirement", str(WHEELS_LOCK), "--dest", str(folder),
    ]  # fmt: skip
    try:
        told = subprocess.run(  # noqa: S603  our own interpreter's pip
            command,
            capture_output=True,
            text=True,
            timeout=PIP_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise NetworkError(f"pip did not fetch the wheels within {PIP_TIMEOUT_S:g} s") from error
    if "No module named pip" in told.stderr:
        raise EnvironmentFault("this Python has no pip to fetch wheels with", hint="python -m ensurepip")
    wheels = sorted(folder.glob("*.whl"))
    wrong = [path.name for path in wheels if sha256_of(path) not in locked_hashes()]
    if told.returncode != 0 or wrong or len(wheels) != len(locked()):
        said = [line for line in told.stderr.splitlines() if line.startswith("ERROR")] or ["pip said nothing"]
        raise NetworkError(
            f"the wheels for {userland.name} could not be fetched: {'; '.join(said[-2:])}",
            hint="run it again: what has arrived is kept",
        )
    return wheels


def unzip(wheels: Sequence[Path], site: Path) -> None:
    """Unzip wheels into `site`."""
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)  # zipfile keeps every name inside the folder


def sha256_of(path: Path) -> str:
    """Return the digest of a file, 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
