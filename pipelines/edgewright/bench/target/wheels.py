"""Wheels of another processor or engine: fetched by pip against versions and hashes, unzipped, never installed.

>>> wheels = fetch(USERLANDS["arm64"], downloads, watch.advance)      # doctest: +SKIP
>>> unzip(wheels, root / "site")                       # doctest: +SKIP
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from edgewright.bench.target.userland import WHEELS_LOCK, Userland
from edgewright.errors import EnvironmentFault, NetworkError

PIP_TIMEOUT_S = 900.0


def locked(lock: Path = WHEELS_LOCK) -> dict[str, str]:
    """Return name → version of every wheel in a lock.

    >>> sorted(locked())
    ['numpy', 'onnxruntime']
    """
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock.read_text(), re.MULTILINE))


def locked_hashes(lock: Path = WHEELS_LOCK) -> set[str]:
    """Return every sha256 a lock allows."""
    return set(re.findall(r"--hash=sha256:([0-9a-f]{64})", lock.read_text()))


def fetch(
    userland: Userland, folder: Path, advance: Callable[[int], None] = lambda _bytes: None
) -> list[Path]:
    """Download the locked wheels of `userland`; those that are there already are only checked.

    Args:
        userland: Which.
        folder: Where the wheels go.
        advance: Called with the bytes that are there.

    Raises:
        EnvironmentFault: this Python has no pip.
        NetworkError: no index has such a wheel with such a hash, or none can be reached.
    """
    allowed = locked_hashes(userland.lock)
    folder.mkdir(parents=True, exist_ok=True)
    tag = f"-cp{userland.python_version.replace('.', '')}-"
    for path in folder.glob("*.whl"):
        if tag not in path.name or sha256_of(path) not in allowed:
            path.unlink()
    platforms = [option for name in userland.wheels for option in ("--platform", name)]
    command = [
        sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps",
        "--only-binary=:all:", "--implementation", "cp", "--python-version", userland.python_version, *platforms,
        "--require-hashes", "--requirement", str(userland.lock), "--dest", str(folder),
    ]  # fmt: skip
    told = _run_pip(command, folder, advance)
    if "No module named pip" in told.stderr:
        raise EnvironmentFault("this Python has no pip to fetch wheels with", hint="python -m ensurepip")
    wheels = sorted(folder.glob("*.whl"))
    wrong = [path.name for path in wheels if sha256_of(path) not in allowed]
    if told.returncode != 0 or wrong or len(wheels) != len(locked(userland.lock)):
        said = [line for line in told.stderr.splitlines() if line.startswith("ERROR")] or ["pip said nothing"]
        raise NetworkError(
            f"the wheels for {userland.name} could not be fetched: {'; '.join(said[-2:])}",
            hint="run it again: what has arrived is kept",
        )
    return wheels


def _run_pip(
    command: Sequence[str], folder: Path, advance: Callable[[int], None]
) -> subprocess.CompletedProcess[str]:
    """Run pip to its end. It tells nobody how far it is, so the files it writes are looked at."""
    arriving = folder / "arriving"
    shutil.rmtree(arriving, ignore_errors=True)
    arriving.mkdir()
    process = subprocess.Popen(  # noqa: S603  our own interpreter's pip
        command, env={**os.environ, "TMPDIR": str(arriving)}, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    deadline_s = time.monotonic() + PIP_TIMEOUT_S
    try:
        while True:
            try:
                output, errors = process.communicate(timeout=0.25)
                return subprocess.CompletedProcess(command, process.returncode, output, errors)
            except subprocess.TimeoutExpired as error:
                advance(_wheel_bytes(folder))
                if time.monotonic() > deadline_s:
                    raise NetworkError(f"pip did not fetch the wheels within {PIP_TIMEOUT_S:g} s") from error
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        shutil.rmtree(arriving, ignore_errors=True)


def _wheel_bytes(folder: Path) -> int:
    """Return the size of all wheels in `folder`, those that are still arriving included."""
    total = 0
    for path in folder.rglob("*.whl"):
        with contextlib.suppress(FileNotFoundError):  # pip moves it to its place in between
            total += path.stat().st_size
    return total


def unzip(wheels: Sequence[Path], site: Path) -> None:
    """Unzip wheels into `site`."""
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)  # zipfile keeps every name inside the folder


def link_copies(folder: Path) -> None:
    """Make one file of libraries that lie under several names: a wheel cannot carry links, so it carries copies."""
    kept: dict[str, Path] = {}
    for path in sorted(folder.glob("lib*.so*"), key=lambda path: (-len(path.name), path.name)):
        original = kept.setdefault(sha256_of(path), path)
        if original is not path:
            path.unlink()
            path.symlink_to(original.name)


def sha256_of(path: Path) -> str:
    """Return the digest of a file, 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
