"""Provisioning: fetch a userland and the emulator, prove that they work, and only then give them their names.

    downloads   <cache>/downloads/<name>/   kept until the userland is finished, checked by hash, resumed
    building    <cache>/.part-<name>/       made anew by every attempt
    finished    <cache>/<name>/             by rename, so a folder of that name is always whole

>>> provision("arm64", targets_cache(), watch)     # doctest: +SKIP
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from edgewright.bench.target import wheels
from edgewright.bench.target.debian import Archive, Package, host_architecture, unpack
from edgewright.bench.target.processor import host_arch
from edgewright.bench.target.userland import (
    DOCUMENT,
    EMULATOR,
    EMULATOR_PACKAGES,
    EMULATOR_SUITE,
    USERLANDS,
    VERSION,
    Installed,
    Userland,
    inspect,
    recipe_of,
    this_python,
    tree_bytes,
    tree_digest,
)
from edgewright.errors import EnvironmentFault
from edgewright_agent.contract import canonical_json


class Watch(Protocol):
    """Told what is going on, so that a person is."""

    def step(self, what: str, total_bytes: int | None = None) -> None:
        """A new step begins."""

    def advance(self, done_bytes: int) -> None:
        """That much of the step's bytes is there."""


def provision(name: str, cache: Path, watch: Watch) -> Installed:
    """Make sure that `cache` holds the userland `name` and the emulator it needs; does nothing when it does.

    Raises:
        EnvironmentFault: no apt, no space, another processor or Python than it is for, or what was fetched does not
            run here.
        NetworkError: an archive or index cannot be reached; what has arrived is kept.
    """
    userland = USERLANDS[name]
    if not userland.fetched:
        return inspect(name, cache)
    check_host(userland)
    try:
        with _locked(cache):
            if userland.qemu and inspect(EMULATOR, cache, verify=True).state != "ready":
                _make_emulator(cache, watch)
            installed = inspect(name, cache, verify=True)
            if installed.state != "ready":
                _make_userland(userland, cache, watch)
                installed = inspect(name, cache)
    except OSError as error:
        raise EnvironmentFault(
            f"cannot write userlands to {cache}: {error.strerror or error}",
            hint="free space, or set EDGEWRIGHT_TARGETS to a folder on another disk",
        ) from error
    return installed


def check_host(userland: Userland) -> None:
    """Check that what runs on this machine's own processor and Python can do so.

    Raises:
        EnvironmentFault: it cannot.
    """
    if userland.qemu is None and host_arch() != userland.arch:
        raise EnvironmentFault(
            f"{userland.name} runs on {userland.arch} without an emulator; this machine is {host_arch()}",
            hint=f"provision it on {userland.arch}",
        )
    if userland.pythons and this_python() not in userland.pythons:
        raise EnvironmentFault(
            f"{userland.name} needs the wheels of its Python: there are some for {', '.join(userland.pythons)},"
            f" and this is Python {this_python()}",
            hint="put a python3.11 on PATH, then:  rm -rf .venv && make bootstrap",
        )


def _make_emulator(cache: Path, watch: Watch) -> None:
    architecture = host_architecture()
    packages = _fetch(EMULATOR, EMULATOR_SUITE, architecture, EMULATOR_PACKAGES, cache, watch)
    watch.step("unpacking the emulator")
    with _building(EMULATOR, cache) as part:
        loose = part / "loose"
        for package in packages:
            unpack(cache / "downloads" / EMULATOR / package.file, loose)
        (part / "bin").mkdir()
        (part / "lib").mkdir()
        for program in sorted({userland.qemu for userland in USERLANDS.values() if userland.qemu}):
            shutil.copy2(loose / "usr" / "bin" / program, part / "bin")
        for library in sorted(loose.glob("**/lib/*-linux-gnu*/*.so*")):
            if not library.is_dir():
                shutil.copy2(library, part / "lib", follow_symlinks=False)
        shutil.rmtree(loose)
        versions = {package.name: package.version for package in packages}
        told = subprocess.run(  # noqa: S603  the program just unpacked
            [str(part / "bin" / "qemu-aarch64"), "--version"],
            env={"LD_LIBRARY_PATH": str(part / "lib")}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if told.returncode != 0:
            raise EnvironmentFault(
                f"Debian {EMULATOR_SUITE}'s qemu-user does not run on this machine: {told.stderr.strip()}"
            )
        number = told.stdout.split("version ", 1)[-1].split()[0]
        facts = {"version": ".".join(number.split(".")[:2]), "build": versions["qemu-user"]}
        _finish(part, EMULATOR, {"packages": versions, **facts}, cache)


def _make_userland(userland: Userland, cache: Path, watch: Watch) -> None:
    downloads = cache / "downloads" / userland.name
    packages: list[Package] = []
    fetched: list[Path] = []
    if userland.packages:
        packages = _fetch(userland.name, userland.suite, userland.debian, userland.packages, cache, watch)
    if userland.wheels:
        names = " and ".join(sorted(wheels.locked(userland.lock)))
        watch.step(f"fetching the wheels of {names}", userland.wheel_bytes)
        fetched = wheels.fetch(userland, downloads, watch.advance)
    watch.step("unpacking")
    with _building(userland.name, cache) as part:
        for package in packages:
            unpack(downloads / package.file, part)
        for folder in ("usr/share/doc", "usr/share/man", "usr/share/lintian", "usr/share/locale"):
            shutil.rmtree(part / folder, ignore_errors=True)
        wheels.unzip(fetched, part / userland.site)
        for tests in sorted(part.glob(f"{userland.site}/numpy/**/tests")):
            shutil.rmtree(tests)
        wheels.link_copies(part / userland.site / "onnxruntime" / "capi")
        if userland.packages:
            _complete(userland, part)
        watch.step(f"trying it under {userland.qemu}" if userland.qemu else "trying it")
        facts = _try(userland, part, cache)
        document = {
            "arch": userland.arch,
            "packages": {package.name: package.version for package in packages},
            "wheels": wheels.locked(userland.lock) if userland.wheels else {},
            **facts,
        }
        _finish(part, userland.name, document, cache)


def _complete(userland: Userland, root: Path) -> None:
    """Add the links that Debian's own installation would have made."""
    if not (root / "lib").exists():  # since trixie /lib is a link that belongs to no package below us
        (root / "lib").symlink_to("usr/lib")
    libraries = root / "usr" / "lib" / userland.triplet
    for name in ("blas/libblas.so.3", "lapack/liblapack.so.3"):  # alternatives
        if (libraries / name).exists():
            (libraries / Path(name).name).symlink_to(name)


def _try(userland: Userland, root: Path, cache: Path) -> dict[str, Any]:
    """Start the engine in the new userland; Python leaves the byte code it needs behind, once.

    Raises:
        EnvironmentFault: it does not start, or its execution provider takes no operator.
    """
    from edgewright.bench.target.ask import ask
    from edgewright.bench.target.emulator import emulated_target
    from edgewright.bench.target.processor import Core, nearest
    from edgewright.bench.target.provider import one_operator, wheel_target

    installed = Installed(userland.name, root, "ready", {"tree": ""})
    request: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="edgewright-try-") as scratch:
        if userland.provider:
            target = wheel_target(userland, installed, writes_byte_code=True)
            model = Path(scratch, "model.onnx")
            model.write_bytes(one_operator())
            request = {"model": str(model), "providers": [userland.provider], "placement": True}
        else:
            core = Core(userland.name, nearest(userland.arch, "", ()), "", 1)
            target = emulated_target(core, cache, installed=installed, writes_byte_code=True)
        answer = ask(target, request, timeout_s=300)
    mend = "remove the targets cache and provision again; if that does not help, it is a defect"
    if "failure" in answer:
        what = f"the {userland.name} userland does not start ONNX Runtime"
        raise EnvironmentFault(f"{what}: {answer['message']}", hint=mend)
    if userland.provider and userland.provider not in answer["placement"]:
        raise EnvironmentFault(f"{userland.provider} does not run on this machine", hint=mend)
    return {"engine": answer["engine"], "python": answer["python"], "numpy": answer["numpy"]}


def _fetch(
    name: str, suite: str, architecture: str, names: tuple[str, ...], cache: Path, watch: Watch
) -> list[Package]:
    archive = Archive(cache / "apt" / f"{suite}-{architecture}", suite, architecture)
    watch.step(f"reading the package list of Debian {suite} for {architecture}")
    archive.update()
    packages = archive.find(names)
    watch.step(f"fetching {len(packages)} packages", sum(package.size_bytes for package in packages))
    archive.fetch(packages, cache / "downloads" / name, watch.advance)
    return packages


@contextlib.contextmanager
def _building(name: str, cache: Path) -> Iterator[Path]:
    part = cache / f".part-{name}"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _finish(part: Path, name: str, facts: Mapping[str, Any], cache: Path) -> None:
    """Describe the folder and give it its name.

    Nothing is fsynced: a power cut can only leave what the digest tells, and provisioning checks that.
    """
    document = {
        "version": VERSION, "name": name, "recipe": recipe_of(name), "tree": tree_digest(part),
        "bytes": tree_bytes(part), **facts,
    }  # fmt: skip
    (part / DOCUMENT).write_bytes(canonical_json(document))
    final = cache / name
    if final.exists():
        old = cache / f".old-{name}"
        shutil.rmtree(old, ignore_errors=True)
        final.rename(old)
        part.rename(final)
        shutil.rmtree(old)
    else:
        part.rename(final)
    shutil.rmtree(cache / "downloads" / name, ignore_errors=True)


@contextlib.contextmanager
def _locked(cache: Path) -> Iterator[None]:
    """Let one process at a time provision; the others wait."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
