"""The installation: software, trust anchors, secrets, identity, and the service that runs the agent."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from edgewright_agent import __version__
from edgewright_agent.clock import utc_now
from edgewright_agent.config import Config
from edgewright_agent.contract import HEALTH_SOCKET, LIVE_SOCKET
from edgewright_agent.doctor import FAIL, OK, WARN, Finding
from edgewright_agent.errors import AgentError
from edgewright_agent.lock import exclusive

_LEAST_PYTHON = (3, 10)
_NEEDED = (("cryptography", 44), ("tuf", 7))
UNITS = ("edgewright-agent.service", "edgewright-agent.timer")
_ONCE = "edgewright-agent-once.service"  # what the timer starts
_ASK_S = 5.0
# What systemd passes to a unit (systemd.exec(5), Credentials) is there while it runs, for its user.
_PASSED = Path("/run/credentials")
IN_UNIT = (
    f"a poll of the unit tells: systemctl reload {UNITS[0]} (or start {_ONCE}), then edgewright-agent status"
)
_LOAD_S = 60.0  # of a library of 14 MB from a slow card
_CFFI = (
    "pip install cffi into the virtual environment; where PyPI has none for this processor, apt install "
    "python3-cffi-backend and make it with `python3 -m venv --system-site-packages`"
)


def software(config: Config) -> Iterator[Finding]:
    """Python, what the agent needs, and the inference engine."""
    from edgewright_agent.trust.approval import engine_version

    python = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < _LEAST_PYTHON:
        yield Finding("software", FAIL, f"Python {python}", "install Python 3.10 or newer")
    found = []
    for name, least in _NEEDED:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Finding("software", FAIL, f"{name} is not installed", f"pip install '{name}>={least}'")
            continue
        found.append(f"{name} {version}")
        if int(version.split(".")[0]) < least:
            yield Finding("software", FAIL, f"{name} {version} is too old", f"pip install '{name}>={least}'")
    if broken := _broken():
        yield Finding("software", FAIL, f"cryptography does not load in Python {python}: {broken}",
                      _CFFI if "_cffi_backend" in broken else "install cryptography for this Python again")  # fmt: skip
    yield Finding("software", OK, f"edgewright-agent {__version__}, Python {python}, {', '.join(found)}")
    engine = engine_version()
    if engine is None:
        advice = "pip install 'edgewright-agent[runtime]', or the build of onnxruntime for this device"
        yield Finding("engine", WARN, "onnxruntime is not installed: models are stored, but wait", advice)
    else:
        yield Finding("engine", OK, f"onnxruntime {engine}")


def _broken() -> str:
    """Return why the compiled part of cryptography cannot be used, in one line; empty when it can.

    In a process of its own: what fails there may be no exception but a panic of Rust, or an illegal instruction.
    """
    command = [sys.executable, "-c", "import cryptography.hazmat.bindings._rust"]
    try:
        asked = subprocess.run(  # noqa: S603  this Python, no shell
            command, capture_output=True, text=True, errors="replace", timeout=_LOAD_S, check=False,
            env={**os.environ, "PYTHONSAFEPATH": "1"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if asked.returncode == 0:
        return ""
    lines = [line for line in asked.stderr.splitlines() if line.strip()]
    # The innermost cause: a panic only says that something else failed before it.
    cause = next((line for line in lines if line.startswith(("ModuleNotFoundError", "ImportError"))), None)
    return cause or (lines[-1] if lines else f"exit code {asked.returncode}")


def anchors(config: Config) -> Iterator[Finding]:
    """What all trust begins with can be read, and nobody else could have put it there."""
    files = (config.trust.root, *config.trust.keys)
    config.fingerprint()
    for path in files:
        if path.stat().st_mode & 0o022:
            yield Finding("trust", WARN, f"{path} can be written by others", f"chmod go-w {path}")
    pins = len(config.trust.keys) + len(config.trust.identities)
    whom = f"{pins} pinned signer(s)" if pins else "the signers of the fleet's policy"
    yield Finding("trust", OK, f"{config.trust.root}, and {whom}")


def secrets(config: Config) -> Iterator[Finding]:
    """Log-ins and decryption keys can be read by this user, and by nobody else."""
    for mirror in config.origin.mirrors:
        if held := mirror.held_by_unit():
            told = f"{mirror.url}: {', '.join(held)} is passed to the agent's unit alone: not checked here"
            yield Finding("log-in", WARN, told, IN_UNIT)
            continue
        try:
            mirror.open().close()
        except AgentError as error:
            yield Finding("log-in", FAIL, f"{mirror.url}: {error}")
    if config.decryption.keys:
        from edgewright_agent.decrypt import load_keys

        outside = not os.environ.get("CREDENTIALS_DIRECTORY")
        for key in config.decryption.keys:
            if outside and key.is_relative_to(_PASSED):
                told = f"{key} is passed to the agent's unit alone: not checked here"
                yield Finding("decryption", WARN, told, IN_UNIT)
        here = [key for key in config.decryption.keys if not (outside and key.is_relative_to(_PASSED))]
        if here:
            yield Finding("decryption", OK, f"{len(load_keys(here))} private key(s)")


def identity(config: Config) -> Iterator[Finding]:
    """The device's own key and certificate."""
    own = config.identity
    if own is None:
        return
    from edgewright_agent.identity.validity import validity

    if not own.key.exists():
        yield Finding("identity", FAIL, f"there is no key {own.key}", "edgewright-agent identity create")
        return
    if not own.certificate.exists():
        yield Finding(
            "identity", WARN, f"there is no certificate {own.certificate} yet",
            "edgewright-agent identity request --out FILE; then edgewright devices enroll",
        )  # fmt: skip
        return
    try:
        valid = validity(own.certificate.read_bytes())
    except ValueError as error:
        yield Finding(
            "identity", FAIL, f"{own.certificate}: {error}", "edgewright-agent identity install CERT"
        )
        return
    until = f"{valid.end:%Y-%m-%dT%H:%M:%SZ}"
    if valid.end <= utc_now():
        yield Finding(
            "identity", FAIL, f"the certificate ended {until}", "edgewright-agent identity install CERT"
        )
    elif own.ca is None:
        yield Finding(
            "identity", WARN, f"the certificate ends {until} and does not renew",
            "name its authority in identity.ca",
        )  # fmt: skip
    else:
        yield Finding("identity", OK, f"certificate until {until}, renews {valid.renews:%Y-%m-%dT%H:%M:%SZ}")


def service(config: Config) -> Iterator[Finding]:
    """Somebody polls: a running agent, or systemd units that start one."""
    runs = _runs(config)
    if runs is None:
        yield Finding(
            "service", WARN, "only the agent's user, or root, sees whether an agent is running",
            f"run this as the user that owns {config.state}",
        )  # fmt: skip
        return
    if runs:
        yield Finding("service", OK, "an agent is running")
        return
    systemctl = shutil.which("systemctl")
    if systemctl is None:
        yield Finding("service", WARN, "no agent is running", "edgewright-agent run, under your init system")
        return
    enabled = [unit for unit in UNITS if _says(systemctl, "is-enabled", unit) == "enabled"]
    if enabled == [UNITS[1]] and _says(systemctl, "is-active", UNITS[1]) == "active":
        if _says(systemctl, "is-failed", _ONCE) == "failed":
            told = f"{UNITS[1]} polls, and its last poll failed"
            yield Finding("service", WARN, told, f"journalctl -u {_ONCE}; edgewright-agent status")
        else:
            yield Finding("service", OK, f"{UNITS[1]} polls")
    elif enabled:
        failed = _says(systemctl, "is-failed", enabled[0]) == "failed"
        yield Finding(
            "service", FAIL if failed else WARN,
            f"{enabled[0]} is enabled, and {'failed' if failed else 'not running'}",
            f"journalctl -u {enabled[0]}" if failed else f"systemctl start {enabled[0]}",
        )  # fmt: skip
    else:
        yield Finding(
            "service", WARN, "no agent is running, and none starts by itself",
            f"systemctl enable --now {UNITS[0]}",
        )  # fmt: skip


def sockets(config: Config) -> Iterator[Finding]:
    """Applications can tell a running agent what their models do, and anybody who may can ask it."""
    if not _runs(config):
        return
    from edgewright_agent.top import fetch

    health = config.state / HEALTH_SOCKET
    try:
        found = fetch(config.state)
    except PermissionError:
        yield Finding("sockets", WARN, f"you may not talk to the agent at {health}",
                      f"become a member of the group of {config.state}")  # fmt: skip
        return
    except (OSError, AgentError) as error:
        yield Finding("sockets", FAIL, f"the agent does not answer at {health}: {error}", "restart the agent")
        return
    if not (config.state / LIVE_SOCKET).is_socket():
        yield Finding("sockets", WARN, f"{config.state / LIVE_SOCKET} is not there: sessions are not heard",
                      "the agent's log says why (not-listening)")  # fmt: skip
        return
    count = found["agent"]["sessions"]
    yield Finding("sockets", OK, f"the agent answers, and hears {count} session{'' if count == 1 else 's'}")


def _runs(config: Config) -> bool | None:
    """Whether a daemon runs; None when this user may not see it."""
    if not (config.state / "daemon.lock").exists():
        return False
    try:
        with exclusive(config.state / "daemon.lock"):
            return False
    except AgentError as error:
        return None if error.code == "not-permitted" else error.code == "busy"


def _says(systemctl: str, verb: str, unit: str) -> str:
    try:
        asked = subprocess.run(  # noqa: S603  found in PATH, no shell
            [systemctl, verb, unit], capture_output=True, text=True, timeout=_ASK_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.strip()
