"""Userlands: the smallest set of files in which another processor's Python and ONNX Runtime run.

A finished userland is a folder of the targets cache that appeared by rename and holds a `userland.json`:

    <cache>/arm64/userland.json       recipe, digest of the tree, versions
    <cache>/arm64/usr lib site …      Debian packages unpacked, wheels unzipped
    <cache>/qemu/userland.json …      the emulator, likewise
    <cache>/amd64-openvino/site …     another ONNX Runtime for this machine's own Python, from wheels alone

>>> USERLANDS["arm64"].qemu
'qemu-aarch64'
>>> inspect("arm64", targets_cache()).state        # doctest: +SKIP
'ready'
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgewright_agent.contract import canonical_json

DOCUMENT = "userland.json"
VERSION = 1
EMULATOR = "qemu"
"""Folder of the emulator, which all userlands share."""

# Bookworm's is the only Debian build of user-mode QEMU that loads plugins: it is linked dynamically.
EMULATOR_SUITE = "bookworm"
EMULATOR_PACKAGES = (
    "libcapstone4", "libffi8", "libgcc-s1", "libglib2.0-0", "libgmp10", "libgnutls30", "libhogweed6", "libidn2-0",
    "libnettle8", "libnuma1", "libp11-kit0", "libpcre2-8-0", "libtasn1-6", "libunistring2", "liburing2",
    "qemu-user", "zlib1g",
)  # fmt: skip

WHEELS_LOCK = Path(__file__).with_name("wheels.txt")
"""A pip requirements file: exact versions, one sha256 per processor."""
OPENVINO_LOCK = Path(__file__).with_name("wheels-openvino.txt")
"""Likewise, one sha256 per version of Python."""

State = Literal["ready", "missing", "outdated", "damaged", "native"]


@dataclass(frozen=True)
class Userland:
    """One processor's userland, or another ONNX Runtime for this machine's own Python.

    Attributes:
        name: What a person calls it (`edgewright targets provision --arch arm64`).
        arch: Processor in the words of `cpu.arch`.
        qemu: The emulator's program; None where nothing is emulated.
        suite: Debian release the packages come from.
        debian: Debian's name of the architecture.
        triplet: Its library folder.
        python: Interpreter, relative to the root.
        packages: Debian packages, in full: nothing is resolved.
        wheels: Platform tags for pip, empty where Debian's own packages bring onnxruntime.
        environment: What the guest's programs need to be told.
        lock: The wheels' versions and hashes.
        pythons: Versions of this machine's Python that the lock has wheels for; empty with a Python of its own.
        wheel_bytes: What the wheels weigh, about, to show progress.
        provider: The execution provider it is there for, in ONNX Runtime's words.
    """

    name: str
    arch: str
    qemu: str | None = None
    suite: str = ""
    debian: str = ""
    triplet: str = ""
    python: str = ""
    packages: tuple[str, ...] = ()
    wheels: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    lock: Path = WHEELS_LOCK
    pythons: tuple[str, ...] = ()
    wheel_bytes: int = 0
    provider: str = ""

    @property
    def fetched(self) -> bool:
        """Whether there is anything to provision."""
        return bool(self.packages or self.wheels)

    @property
    def python_version(self) -> str:
        """The Python that its wheels are for: its own, or this machine's."""
        return this_python() if self.pythons else "3.11"

    @property
    def recipe(self) -> str:
        """Digest of everything that decides what is fetched; a userland made by another recipe is outdated."""
        lock = self.lock.read_text() if self.wheels else ""
        python = this_python() if self.pythons else self.python
        parts = [self.suite, self.debian, python, sorted(self.packages), list(self.wheels), lock]
        return hashlib.sha256(canonical_json(parts)).hexdigest()

    @property
    def site(self) -> str:
        """Folder of onnxruntime and numpy, relative to the root."""
        return "site" if self.wheels else "usr/lib/python3/dist-packages"


def this_python() -> str:
    """Return this interpreter's version as wheels know it: `3.11`."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


_PYTHON_3_11 = (
    "libbz2-1.0", "libc6", "libexpat1", "libffi8", "libgcc-s1", "liblzma5", "libpython3.11-minimal",
    "libpython3.11-stdlib", "libstdc++6", "python3.11-minimal", "zlib1g",
)  # fmt: skip

# Debian's own onnxruntime, where PyPI has no wheel. Its Python dependencies (sympy, protobuf, …) are needed to
# quantize models, not to run them.
_ONNXRUNTIME_1_21 = (
    "libabsl20240722", "libblas3", "libbz2-1.0", "libc6", "libexpat1", "libffi8", "libgcc-s1", "libgfortran5",
    "liblapack3", "liblzma5", "libonnx1t64", "libonnxruntime1.21", "libprotobuf32t64", "libpython3.13-minimal",
    "libpython3.13-stdlib", "libre2-11", "libstdc++6", "python3-numpy", "python3-onnxruntime",
    "python3.13-minimal", "zlib1g",
)  # fmt: skip

_MANYLINUX_AMD64 = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64")

USERLANDS: Mapping[str, Userland] = {
    userland.name: userland
    for userland in (
        Userland("amd64", "amd64"),
        Userland(
            "amd64-openvino", "amd64", wheels=_MANYLINUX_AMD64, lock=OPENVINO_LOCK, pythons=("3.11", "3.12", "3.13"),
            wheel_bytes=101_000_000, provider="OpenVINOExecutionProvider",
        ),
        Userland(
            "amd64-qemu", "amd64", "qemu-x86_64", "bookworm", "amd64", "x86_64-linux-gnu", "usr/bin/python3.11",
            _PYTHON_3_11, _MANYLINUX_AMD64,
            # numpy's BLAS would pick a kernel for a core the emulator does not quite have, and stop.
            {"OPENBLAS_CORETYPE": "Nehalem"},
        ),
        Userland(
            "arm64", "arm64", "qemu-aarch64", "bookworm", "arm64", "aarch64-linux-gnu", "usr/bin/python3.11",
            _PYTHON_3_11, ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64"),
        ),
        Userland(
            "armv7", "armv7", "qemu-arm", "trixie", "armhf", "arm-linux-gnueabihf", "usr/bin/python3.13",
            (*_ONNXRUNTIME_1_21, "libcpuinfo0", "libpthreadpool0", "libxnnpack0.20241108"),
        ),
        Userland(
            "riscv64", "riscv64", "qemu-riscv64", "trixie", "riscv64", "riscv64-linux-gnu", "usr/bin/python3.13",
            _ONNXRUNTIME_1_21,
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Installed:
    """What the cache holds of one userland.

    Attributes:
        name: Userland, or `qemu`.
        root: Its folder.
        state: `ready`; `missing`; `outdated`: made by another recipe; `damaged`: files differ from the digest;
            `native`: nothing is fetched.
        document: `userland.json`, empty when missing.
    """

    name: str
    root: Path
    state: State
    document: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tree(self) -> str:
        """Digest of all its files, the userland's part of an action key."""
        return str(self.document.get("tree", ""))


def recipe_of(name: str) -> str:
    """Return the digest of what a userland, or the emulator, is made of."""
    if name == EMULATOR:
        return hashlib.sha256(canonical_json([EMULATOR_SUITE, list(EMULATOR_PACKAGES)])).hexdigest()
    return USERLANDS[name].recipe


def targets_cache() -> Path:
    """Return the folder of all userlands: `EDGEWRIGHT_TARGETS`, else one that all checkouts of a user share."""
    if named := os.environ.get("EDGEWRIGHT_TARGETS"):
        return Path(named).absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache).absolute() / "edgewright" / "targets"


def inspect(name: str, cache: Path, *, verify: bool = False) -> Installed:
    """Return what `cache` holds of a userland.

    Args:
        name: Key of `USERLANDS`, or `qemu`.
        cache: The targets cache.
        verify: Hash all files (about 0.3 s) instead of trusting the document.
    """
    if name != EMULATOR and not USERLANDS[name].fetched:
        return Installed(name, Path("/"), "native")
    root = cache / name
    try:
        document = json.loads((root / DOCUMENT).read_bytes())
        made_by, tree = document["recipe"], document["tree"]
    except FileNotFoundError:
        return Installed(name, root, "missing")
    except (ValueError, KeyError, TypeError, OSError):
        return Installed(name, root, "damaged")
    if made_by != recipe_of(name):
        return Installed(name, root, "outdated", document)
    if verify and tree_digest(root) != tree:
        return Installed(name, root, "damaged", document)
    return Installed(name, root, "ready", document)


def tree_digest(root: Path) -> str:
    """Return the digest of every file below `root`: path, executable bit, and bytes or link target.

    Byte code is left out (Python writes it), and so is the document that carries the digest.
    """
    digest = hashlib.sha256()
    for path in _files(root):
        name = path.relative_to(root).as_posix()
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            entry = ["link", name, str(path.readlink())]
        else:
            with path.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
            entry = ["exec" if status.st_mode & 0o100 else "file", name, content]
        digest.update(canonical_json(entry))
    return f"sha256:{digest.hexdigest()}"


def tree_bytes(root: Path) -> int:
    """Return the size of all files below `root`, byte code included."""
    return sum(path.lstat().st_size for path in root.rglob("*") if path.is_file() and not path.is_symlink())


def _files(root: Path) -> list[Path]:
    """Return files and links below `root` in the order of their names, on every file system."""
    return sorted(
        path
        for path in root.rglob("*")
        if (path.is_symlink() or path.is_file())
        and path.parent.name != "__pycache__"
        and path != root / DOCUMENT
    )
