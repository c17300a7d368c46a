"""The counting plugin as QEMU loads it: compiled once per source, kept in the targets' cache.

>>> build(Path.home() / ".cache/edgewright/targets")               # doctest: +SKIP
PosixPath('…/targets/plugins/counting-5f0e5a1c3a52b3c4.so')
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from edgewright.errors import EnvironmentFault

SOURCES = (
    "plugin.c",
    "kinds.h",
    "predictor.h",
    "aarch64.h",
    "x86.h",
    "x86_encoding.h",
    "x86_scalar.h",
    "x86_vector.h",
    "x86_vector_0f38.h",
    "qemu_plugin_api.h",
)
FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-fPIC", "-fvisibility=hidden", "-shared")
TIMEOUT_S = 60.0
_FOLDER = Path(__file__).parent


def build(cache: Path, *, compiler: str = "gcc") -> Path:
    """Return the plugin for this machine, compiled now if this source never was.

    Several processes may do so at once: the file appears by rename.

    Args:
        cache: Folder of the emulated targets.
        compiler: Name or path of a C compiler that takes gcc's options.

    Raises:
        EnvironmentFault: there is no compiler, it fails (with its last words), or the folder cannot be written.
    """
    plugin = cache / "plugins" / f"counting-{source_digest()}.so"
    if plugin.exists():
        return plugin
    program = shutil.which(compiler)
    if program is None:
        raise EnvironmentFault(
            f"counting instructions needs a C compiler, and there is no {compiler} on this machine",
            hint="sudo apt-get install -y gcc libc6-dev",
        )
    try:
        plugin.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=plugin.parent, prefix=".part-", suffix=".so")
        os.close(handle)
    except OSError as error:
        raise EnvironmentFault(
            f"cannot write {plugin.parent}: {error.strerror or error}",
            hint="set EDGEWRIGHT_TARGETS to a folder on another disk",
        ) from error
    try:
        _compile(program, Path(part))
        Path(part).replace(plugin)
    finally:
        Path(part).unlink(missing_ok=True)
    return plugin


def source_digest() -> str:
    """Return 16 hex digits that change with the source, the compiler's options and the machine's processor."""
    digest = hashlib.sha256(" ".join((*FLAGS, platform.machine())).encode())
    for name in SOURCES:
        digest.update((_FOLDER / name).read_bytes())
    return digest.hexdigest()[:16]


def _compile(program: str, out: Path) -> None:
    command = [program, *FLAGS, str(_FOLDER / SOURCES[0]), "-o", str(out)]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentFault(f"{program} does not run: {error}") from error
    if ran.returncode != 0:
        said = "\n  ".join(ran.stderr.strip().splitlines()[-5:])
        raise EnvironmentFault(f"{program} cannot compile the counting plugin:\n  {said}")
