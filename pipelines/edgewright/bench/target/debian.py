"""Debian packages of any processor, fetched and unpacked without root and without touching the system's apt.

A private apt state reads the archive this machine already uses (its mirrors and proxies keep working) and apt
checks every byte against Debian's archive keys. Packages are unpacked, never installed: no script of theirs runs.

>>> archive = Archive(cache / "apt" / "bookworm-arm64", "bookworm", "arm64")   # doctest: +SKIP
>>> archive.update()                                                          # doctest: +SKIP
>>> archive.fetch(archive.find(["libc6"]), downloads)                         # doctest: +SKIP
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from edgewright.errors import EnvironmentFault, NetworkError

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR_VARIABLE = "EDGEWRIGHT_DEBIAN_MIRROR"
APT_TIMEOUT_S = 900.0
"""A package list or a package takes seconds; an archive that stalls this long is not going to answer."""

_SUITES = re.compile(r"(bookworm|trixie|forky|(old)*stable|testing|unstable|sid)")
_URI_LINE = re.compile(r"'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>\d+) SHA256:(?P<sha256>[0-9a-f]{64})")
_CONFIGURATION = """\
APT::Architectures {{ "{architecture}"; }};
Dir::State "{folder}/state";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Sandbox::User "root"; // the sandbox user of a root run cannot write into a private folder
Acquire::Retries "3";
Acquire::GzipIndexes "true"; // package lists stay compressed: 9 MB instead of 45
APT::Update::Error-Mode "any"; // an archive that cannot be read is an error, not a warning
#clear APT::Update::Post-Invoke; // container images delete system caches here, as root
#clear APT::Update::Post-Invoke-Success;
"""


@dataclass(frozen=True)
class Package:
    """One package file, as Debian's signed index describes it."""

    name: str
    version: str
    file: str
    size_bytes: int
    sha256: str

    def is_at(self, folder: Path) -> bool:
        """Whether `folder` holds exactly these bytes."""
        path = folder / self.file
        if not path.is_file() or path.stat().st_size != self.size_bytes:
            return False
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == self.sha256


def mirror() -> str:
    """Return the address of the Debian archive this machine uses.

    Raises:
        EnvironmentFault: its apt sources name none, or there is no apt.
    """
    if named := os.environ.get(MIRROR_VARIABLE):
        return named
    require_apt()
    listed = subprocess.run(
        [
            "apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)",
            "Created-By: Packages",
        ],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    for line in listed.stdout.splitlines():
        uri, _, rest = line.partition(" ")
        release, _, component = rest.partition(" ")
        # Security and third-party archives carry no other processors' base system.
        if component == "main" and _SUITES.fullmatch(release) and re.search(r"debian/?$", uri):
            return uri
    raise EnvironmentFault(
        "this machine's apt sources name no Debian archive",
        hint=f"name one:  export {MIRROR_VARIABLE}=http://…/debian",
    )


def require_apt() -> None:
    """Check that packages can be fetched and verified here.

    Raises:
        EnvironmentFault: apt, dpkg or Debian's archive keys are missing.
    """
    for program in ("apt-get", "dpkg", "dpkg-deb"):
        if shutil.which(program) is None:
            raise EnvironmentFault(
                f"{program} is not on this machine; userlands are made of Debian packages",
                hint="provision on Debian or Ubuntu, and copy the folder that EDGEWRIGHT_TARGETS names",
            )
    if not KEYRING.exists():
        raise EnvironmentFault(
            "Debian's archive keys are missing", hint="sudo apt-get install -y debian-archive-keyring"
        )


def host_architecture() -> str:
    """Return Debian's name of this machine's processor."""
    require_apt()
    told = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True)
    return told.stdout.strip()


class Archive:
    """One release and processor of a Debian archive, read through an apt state of its own in `folder`."""

    def __init__(self, folder: Path, suite: str, architecture: str) -> None:
        self.folder, self.suite, self.architecture = folder, suite, architecture

    def update(self) -> None:
        """Read the package list (about 9 MB; next to nothing when it has not changed).

        Raises:
            EnvironmentFault: apt or its keys are missing, or no archive is known.
            NetworkError: the archive cannot be read.
        """
        require_apt()
        uri = mirror()
        for part in ("state/lists/partial", "cache/archives/partial"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").write_text("")
        (self.folder / "sources.list").write_text(
            f"deb [arch={self.architecture} target=Packages signed-by={KEYRING}] {uri} {self.suite} main\n"
        )
        (self.folder / "apt.conf").write_text(
            _CONFIGURATION.format(architecture=self.architecture, folder=self.folder)
        )
        told = self._apt("update")
        if told.returncode != 0:
            raise NetworkError(
                f"the package list of Debian {self.suite} for {self.architecture} cannot be read:"
                f" {_last_words(told.stderr)}",
                hint=f"try again, or name another archive:  export {MIRROR_VARIABLE}=http://…/debian",
            )

    def find(self, names: Sequence[str]) -> list[Package]:
        """Return the newest version of each package.

        Raises:
            EnvironmentFault: the archive lacks one of them.
        """
        told = self._apt(
            "--print-uris", "download", *(f"{name}:{self.architecture}" for name in sorted(names))
        )
        found = []
        for match in _URI_LINE.finditer(told.stdout):
            name, version, _ = match["file"].split("_")
            size, sha256 = int(match["size"]), match["sha256"]
            found.append(Package(name, unquote(version), match["file"], size, sha256))
        missing = sorted(set(names) - {package.name for package in found})
        if told.returncode != 0 or missing:
            raise EnvironmentFault(
                f"Debian {self.suite} for {self.architecture} lacks {', '.join(missing) or 'a package'}:"
                f" {_last_words(told.stderr)}",
                hint=f"name a complete archive:  export {MIRROR_VARIABLE}=http://…/debian",
            )
        return sorted(found, key=lambda package: package.name)

    def fetch(self, packages: Sequence[Package], folder: Path, advance: Callable[[int], None]) -> None:
        """Download what `folder` does not hold yet; interrupted downloads go on where they stopped.

        Args:
            packages: From `find`.
            folder: Where the files go.
            advance: Called with the bytes that are there.

        Raises:
            NetworkError: the archive fails, or what came is not what its index promised.
        """
        folder.mkdir(parents=True, exist_ok=True)
        absent = [package for package in packages if not package.is_at(folder)]
        if absent:
            names = [f"{package.name}:{self.architecture}={package.version}" for package in absent]
            told = self._apt(
                "download", *names, cwd=folder, advance=lambda: advance(_bytes_at(packages, folder))
            )
            wrong = [package.file for package in absent if not package.is_at(folder)]
            if told.returncode != 0 or wrong:
                raise NetworkError(
                    f"Debian packages could not be fetched ({', '.join(wrong) or 'apt failed'}):"
                    f" {_last_words(told.stderr)}",
                    hint="run it again: what has arrived is kept",
                )
        advance(_bytes_at(packages, folder))

    def _apt(
        self, *arguments: str, cwd: Path | None = None, advance: Callable[[], None] | None = None
    ) -> subprocess.CompletedProcess[str]:
        command = ["apt-get", "-q", "-c", str(self.folder / "apt.conf"), *arguments]
        # apt's messages are read by people and by us: in English, whatever the machine speaks.
        environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
        process = subprocess.Popen(
            command, cwd=cwd, env=environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        waited_s = 0.0
        try:
            while True:
                try:
                    output, errors = process.communicate(timeout=0.25)
                    return subprocess.CompletedProcess(command, process.returncode, output, errors)
                except subprocess.TimeoutExpired as error:
                    waited_s += 0.25
                    if advance is not None:
                        advance()
                    if waited_s > APT_TIMEOUT_S:
                        raise NetworkError(
                            f"apt-get {arguments[0]} did not end within {APT_TIMEOUT_S:g} s",
                            hint="run it again: what has arrived is kept",
                        ) from error
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def unpack(package: Path, root: Path) -> None:
    """Unpack one package file below `root`.

    Raises:
        EnvironmentFault: the file is damaged or the disk is full.
    """
    told = subprocess.run(
        ["dpkg-deb", "--extract", str(package), str(root)], capture_output=True, text=True, check=False
    )
    if told.returncode != 0:
        raise EnvironmentFault(f"{package.name} cannot be unpacked: {_last_words(told.stderr)}")


def _bytes_at(packages: Sequence[Package], folder: Path) -> int:
    paths = (folder / package.file for package in packages)
    return sum(path.stat().st_size for path in paths if path.exists())


def _last_words(stderr: str) -> str:
    said = [line for line in stderr.splitlines() if line.strip() and not line.startswith("W:")]
    return "; ".join(said[-2:]) or "apt said nothing"
