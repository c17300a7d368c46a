"""Real parts for tests: the programs in `.edgewright/tools/bin`, run as processes on this machine only.

>>> registry = Registry(require("docker-registry"), tmp_path / "registry")   # doctest: +SKIP
>>> registry.start()                                                         # doctest: +SKIP
>>> Tool(require("oras"), tmp_path)("push", "--plain-http", f"{registry.host}/x:1", "file")  # doctest: +SKIP
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edgewright.bench.target.userland import EMULATOR, USERLANDS, inspect, targets_cache

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".edgewright" / "tools" / "bin"
NOTHING_MAY_BE_SKIPPED = os.environ.get("EDGEWRIGHT_REQUIRE_REAL") == "1"

START_DEADLINE_S = 20.0
"""How long a process may take until it accepts connections; here it takes about 0.1 s."""

TOOL_DEADLINE_S = 120.0
"""A client that runs longer hangs."""

_LISTENS = re.compile(rb'listening on 127\.0\.0\.1:(\d+)[",]')

# Discard service: nothing listens there, so a program that reaches for the internet fails at once.
DEAD_PROXY = "http://127.0.0.1:9"


def require(tool: str) -> Path:
    """Return the path of a real program, or skip the test saying how to get it.

    With `EDGEWRIGHT_REQUIRE_REAL=1` a missing program fails the test instead.
    """
    unpacked = TOOLS / tool
    if unpacked.exists():
        return unpacked
    if found := shutil.which(tool):
        return Path(found)
    reason = f"{tool} is not on this machine: run scripts/real-parts"
    if NOTHING_MAY_BE_SKIPPED:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def require_target(name: str) -> None:
    """Skip the test, saying how to get it, when a target is not provisioned on this machine.

    With `EDGEWRIGHT_REQUIRE_REAL=1` a missing one fails the test instead.
    """
    cache = targets_cache()
    parts = (name, EMULATOR) if USERLANDS[name].qemu else (name,)
    if all(inspect(part, cache).state == "ready" for part in parts):
        return
    reason = f"{name} is not on this machine: edgewright targets provision --arch {name}"
    if NOTHING_MAY_BE_SKIPPED:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@contextmanager
def closed_port() -> Iterator[int]:
    """Hold a TCP port of 127.0.0.1 that refuses connections; nobody else can take it meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


@dataclass
class Tool:
    """A command-line program that can reach this machine and nothing else.

    Calling it never raises on a bad exit code: whether the program agrees is what tests ask.

    Attributes:
        path: The program.
        home: Its HOME and working folder.
        environment: Added to every call.
    """

    path: Path
    home: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def __call__(
        self, *args: str | Path, stdin: str | None = None, cwd: Path | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end; keyword arguments become environment variables."""
        return subprocess.run(
            [str(self.path), *map(str, args)],
            cwd=cwd or self.home,
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                "HOME": str(self.home),
                "DOCKER_CONFIG": str(self.home / ".docker"),
                "HTTP_PROXY": DEAD_PROXY,
                "HTTPS_PROXY": DEAD_PROXY,
                "NO_PROXY": "127.0.0.1,localhost",
                **self.environment,
                **environment,
            },
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=TOOL_DEADLINE_S,
            check=False,
        )


# A test's registry is small and short-lived: collecting its garbage would take half of its processor time.
_THRIFTY = {"GOGC": "800", "GOMAXPROCS": "1"}


@dataclass
class Registry:
    """A docker-registry process of its own, on a port of 127.0.0.1 that the system chooses at its first start.

    `stop` and `start` keep address and content, so a test can take the network away and give it back.

    Attributes:
        program: docker-registry.
        folder: Holds its configuration, log and content.
        auth: The `auth` section of its configuration.
        tls: Certificate chain and key (PEM files); plain HTTP without.
        ca_file: What a client must trust to talk to it.
        client_cas: Who must vouch for clients (PEM file); without, it asks them for no certificate.
        username: Who may push, when it asks for a login.
        password: Its password.
        quiet: Whether it keeps no access log, which takes a quarter of its time.
    """

    program: Path
    folder: Path
    auth: Mapping[str, Any] | None = None
    tls: tuple[Path, Path] | None = None
    ca_file: Path | None = None
    client_cas: Path | None = None
    username: str | None = None
    password: str | None = None
    quiet: bool = False
    port: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    @property
    def host(self) -> str:
        """`127.0.0.1:port`, as image references write it."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Base address."""
        return f"{'https' if self.tls else 'http'}://{self.host}"

    @property
    def storage(self) -> Path:
        """Root of what it stores (`docker/registry/v2/…` below it)."""
        return self.folder / "storage"

    @property
    def log(self) -> Path:
        """Everything it printed, request by request."""
        return self.folder / "log"

    def blob_path(self, digest: str) -> Path:
        """Return where the registry keeps a blob or manifest, for tests that corrupt it."""
        algorithm, _, value = digest.partition(":")
        return self.storage / "docker/registry/v2/blobs" / algorithm / value[:2] / value / "data"

    def start(self) -> None:
        """Start it and return once it answers."""
        assert self._process is None, "it runs already"
        self.storage.mkdir(parents=True, exist_ok=True)
        said_before_bytes = self.log.stat().st_size if self.log.exists() else 0
        config = self.folder / "config.yml"
        config.write_text(json.dumps(self._configuration()))  # JSON is YAML
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(self.program), "serve", str(config)],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={
                    "PATH": os.defpath,
                    "HOME": str(self.folder),
                    "OTEL_TRACES_EXPORTER": "none",
                    **_THRIFTY,
                },
            )
        self._wait_until_it_listens(self._process, said_before_bytes)

    def stop(self) -> None:
        """Take it away; does nothing when it is not running."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _configuration(self) -> dict[str, Any]:
        http: dict[str, Any] = {"addr": self.host, "secret": "test"}
        if self.tls:
            http["tls"] = {"certificate": str(self.tls[0]), "key": str(self.tls[1])}
            if self.client_cas:
                http["tls"]["clientcas"] = [str(self.client_cas)]
        return {
            "version": 0.1,
            "log": {"level": "info", "accesslog": {"disabled": self.quiet}},
            # No cache: a test that corrupts a file on disk must be served the corrupted file.
            "storage": {
                "filesystem": {"rootdirectory": str(self.storage)},
                "delete": {"enabled": True},
                "maintenance": {"uploadpurging": {"enabled": False}},
            },
            "http": http,
            **({"auth": self.auth} if self.auth else {}),
        }

    def _wait_until_it_listens(self, process: subprocess.Popen[bytes], said_before_bytes: int) -> None:
        deadline = time.monotonic() + START_DEADLINE_S
        while time.monotonic() < deadline:
            if process.poll() is not None:
                self._process = None
                raise RuntimeError(f"docker-registry ended at once:\n{self.log.read_text()[-2000:]}")
            if told := _LISTENS.search(self.log.read_bytes(), said_before_bytes):
                self.port = int(told[1])
                return
            time.sleep(0.01)  # look again; readiness is decided by what it says above
        self.stop()
        raise RuntimeError(f"docker-registry did not listen within {START_DEADLINE_S} s")
