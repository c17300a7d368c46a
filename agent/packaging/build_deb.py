"""Build the agent's Debian package: `python agent/packaging/build_deb.py --arch arm64 --out dist`.

The package brings the agent, the few libraries it needs (wheels of PyPI, by the hashes in `wheels.txt`), its units and
its user. It is for every Debian and Ubuntu with Python 3.11 or newer on that processor. The inference engine is not in
it: which build of onnxruntime a device needs, its accelerator decides (`/etc/default/edgewright-agent`).

The same commit gives the same file, byte for byte, with one version of dpkg-deb.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import tomllib

HERE = Path(__file__).resolve().parent
AGENT = HERE.parent
LOCK = HERE / "wheels.txt"
HOME = "usr/lib/edgewright-agent"
EPOCH = "1577836800"  # 2020-01-01: a time that is no fact about this package
# cryptography's wheel is for all of them, but cffi has a wheel for each. Later ones use Debian's python3-cffi-backend,
# as 32-bit ARM always does: PyPI has no cffi for it.
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
# Debian's name of a processor → what wheels call it, and whether there is a cffi for it.
PROCESSORS = {
    "amd64": (("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"), True),
    "arm64": (("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"), True),
    "armhf": (("manylinux_2_31_armv7l",), False),
}
CONTROL = """\
Package: edgewright-agent
Version: {version}
Architecture: {arch}
Maintainer: Edgewright <maintainers@edgewright.dev>
Installed-Size: {size_kib}
Depends: python3 (>= 3.11), python3-cffi-backend, passwd
Recommends: ca-certificates, systemd
Suggests: python3-onnxruntime, python3-numpy
Section: admin
Priority: optional
Homepage: https://edgewright.dev
Description: Keeps the machine-learning models of an edge device up to date
 Polls a registry, verifies what it offers offline, installs it atomically, tries it on this device,
 and goes back by itself when it does not work. Inference never waits for it.
"""


def main(arguments: list[str] | None = None) -> int:
    """Build one package; returns the exit code."""
    parser = argparse.ArgumentParser(description="Build the agent's Debian package.")
    parser.add_argument("--arch", choices=sorted(PROCESSORS), default=_own(), help="default: this machine's")
    parser.add_argument("--out", type=Path, default=Path("dist"), metavar="DIR", help="where (default: dist)")
    parser.add_argument(
        "--wheels", type=Path, metavar="DIR", help="where downloaded wheels are kept (default: nowhere)"
    )
    options = parser.parse_args(arguments)
    if shutil.which("dpkg-deb") is None:
        sys.exit("build_deb: dpkg-deb is missing: apt-get install dpkg, on Debian or Ubuntu")
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        wheels = fetch(options.arch, options.wheels or Path(scratch, "wheels"))
        tree = Path(scratch, "tree")
        lay_out(tree, wheels)
        package = build(tree, options.arch, options.out)
    print(package)
    return 0


def fetch(arch: str, folder: Path) -> list[Path]:
    """Download the locked wheels for a processor; pip checks every one against its hash."""
    platforms, has_cffi = PROCESSORS[arch]
    place = folder / arch
    text = LOCK.read_text()
    cffi = re.search(r"^cffi==(.*\\\n)*.*\n", text, flags=re.MULTILINE)
    if cffi is None:
        sys.exit(f"build_deb: {LOCK} names no cffi")
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [(PYTHONS[0], text.replace(cffi[0], ""))]
    if has_cffi:
        wanted += [(python, cffi[0]) for python in PYTHONS]
    for python, requirements in wanted:
        lock = folder / "wheels.txt"
        lock.write_text(requirements)
        command = [
            sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps",
            "--only-binary=:all:", "--implementation", "cp", "--python-version", python, "--require-hashes",
            "--requirement", str(lock), "--dest", str(place), *(o for p in platforms for o in ("--platform", p)),
        ]  # fmt: skip
        if subprocess.run(command, check=False).returncode != 0:
            sys.exit(f"build_deb: the wheels for {arch} could not be fetched; run it again")
    allowed = set(re.findall(r"sha256:([0-9a-f]{64})", text))
    wheels = sorted(place.glob("*.whl"))
    return [wheel for wheel in wheels if hashlib.sha256(wheel.read_bytes()).hexdigest() in allowed]


def lay_out(tree: Path, wheels: list[Path]) -> None:
    """Put everything where it belongs on a device."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(AGENT / "edgewright_agent", tree / HOME / "edgewright_agent", ignore=ignore)
    vendor = tree / HOME / "vendor"
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                # Of cffi only the compiled part is used, by cryptography; the rest is a compiler's.
                if not (wheel.name.startswith("cffi-") and name.startswith("cffi/")):
                    archive.extract(name, vendor)
    # Applications: `from edgewright_agent.runtime import open_model`, with the engine of their own Python.
    _put(tree / "usr/lib/python3/dist-packages/edgewright-agent.pth", f"/{HOME}\n")
    _copy(HERE / "debian/edgewright-agent", tree / "usr/bin/edgewright-agent")
    _copy(HERE / "debian/default", tree / "etc/default/edgewright-agent")
    for unit in sorted((HERE / "systemd").iterdir()):
        _copy(unit, tree / "lib/systemd/system" / unit.name)
    for document in ("README.md", "LICENSE"):
        found = next(path for path in (AGENT / document, AGENT.parent / document) if path.exists())
        name = "copyright" if document == "LICENSE" else document
        _copy(found, tree / "usr/share/doc/edgewright-agent" / name)


def build(tree: Path, arch: str, out: Path) -> Path:
    """Write the package and return where it is."""
    version = tomllib.loads((AGENT / "pyproject.toml").read_text())["project"]["version"]
    files = sorted(path for path in tree.rglob("*") if path.is_file())
    size_kib = sum(-(-path.stat().st_size // 1024) for path in files)
    control = tree / "DEBIAN"
    _put(control / "control", CONTROL.format(version=version, arch=arch, size_kib=size_kib))
    _put(control / "conffiles", "/etc/default/edgewright-agent\n")
    sums = (f"{hashlib.md5(p.read_bytes()).hexdigest()}  {p.relative_to(tree)}\n" for p in files)  # noqa: S324
    _put(control / "md5sums", "".join(sums))
    scripts = [control / script for script in ("postinst", "prerm", "postrm")]
    for script in scripts:
        _copy(HERE / "debian" / script.name, script)
    programs = {tree / "usr/bin/edgewright-agent", *scripts}
    tree.chmod(0o755)
    for path in sorted(tree.rglob("*"), reverse=True):
        # What wheels, and this user's umask, say of modes is the machine's that builds.
        runs = path.is_dir() or path in programs
        path.chmod(0o755 if runs else 0o644)
        os.utime(path, (int(EPOCH), int(EPOCH)))
    os.utime(tree, (int(EPOCH), int(EPOCH)))
    package = out / f"edgewright-agent_{version}_{arch}.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Zxz", "--build", str(tree), str(package)],
        env={**os.environ, "SOURCE_DATE_EPOCH": EPOCH, "LC_ALL": "C.UTF-8"},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return package


def _own() -> str:
    machine = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "armhf"}.get(machine, "amd64")


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


if __name__ == "__main__":
    raise SystemExit(main())
