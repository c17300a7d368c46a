"""The agent's configuration: one JSON file, read strictly, every problem named at once.

>>> config = load(Path("/etc/edgewright/agent.json"))   # doctest: +SKIP
>>> config.device.hardware_class                        # doctest: +SKIP
'raspberry-pi-4'

Relative paths are relative to the file, so a configuration and its trust anchors move together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewright_agent.contract import canonical_json, is_name
from edgewright_agent.errors import ConfigError
from edgewright_agent.transport.document import parse_json

if TYPE_CHECKING:
    from edgewright_agent.transport import Source

DEFAULT_STATE = "/var/lib/edgewright"
DEFAULT_CONFIG = "/etc/edgewright/agent.json"
DEFAULT_RESERVE_BYTES = 64 * 1024 * 1024
DEFAULT_INTERVAL_S = 900.0
DEFAULT_JITTER = 0.2
DEFAULT_MAX_BACKOFF_S = 6 * 3600.0
_MAX = 2.0**63


@dataclass(frozen=True)
class Device:
    """Who this is: `hardware_class` selects artifacts, `labels` select groups; `id` is unique."""

    id: str
    hardware_class: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Origin:
    """Where artifacts come from: a registry URL, `oci:DIR` or `bundle:FILE`; credentials by file."""

    url: str
    username_file: Path | None = None
    password_file: Path | None = None
    ca_file: Path | None = None

    def open(self) -> Source:
        """Open the source; credentials are read now: a rotated password takes effect at the next poll.

        Raises:
            ConfigError: a credential file cannot be read.
            TransportError: a layout or bundle cannot be opened.
        """
        from edgewright_agent.transport import open_source

        def secret(path: Path | None) -> str | None:
            try:
                return _read(path, "credential").decode().strip() if path else None
            except UnicodeDecodeError:
                raise ConfigError("bad-config", f"credential: {path} is not UTF-8 text") from None

        return open_source(
            self.url,
            username=secret(self.username_file),
            password=secret(self.password_file),
            ca_file=str(self.ca_file) if self.ca_file else None,
        )


@dataclass(frozen=True)
class Anchors:
    """What is trusted from the start: the first TUF root, and the signers' public keys (PEM)."""

    root: Path
    keys: tuple[Path, ...]

    def root_bytes(self) -> bytes:
        """Return the first root metadata."""
        return _read(self.root, "trust.root")

    def key_bytes(self) -> tuple[bytes, ...]:
        """Return the PEM public keys."""
        return tuple(_read(path, "trust.keys") for path in self.keys)


@dataclass(frozen=True)
class Polling:
    """How often to ask: every `interval_s`, up to a share `jitter` later, `max_backoff_s` after failures."""

    interval_s: float = DEFAULT_INTERVAL_S
    jitter: float = DEFAULT_JITTER
    max_backoff_s: float = DEFAULT_MAX_BACKOFF_S


@dataclass(frozen=True)
class Budget:
    """What a model may cost on this device; None is not checked."""

    load_ms: float | None = None
    latency_ms: float | None = None
    peak_memory_bytes: int | None = None


@dataclass(frozen=True)
class Config:
    """The whole configuration. `reserve_bytes` of disk are never used."""

    device: Device
    origin: Origin
    state: Path
    trust: Anchors
    poll: Polling
    reserve_bytes: int
    budget: Budget

    @property
    def metadata(self) -> Path:
        """Where the TUF client keeps its files: a cache, never believed below the record's floor."""
        return self.state / "tuf"

    def fingerprint(self) -> str:
        """Return a digest of everything that decides what this device should run.

        An ETag stored under another fingerprint is worthless: new labels may choose another group.

        Raises:
            ConfigError: a trust anchor cannot be read.
        """
        anchors = [hashlib.sha256(b).hexdigest() for b in (self.trust.root_bytes(), *self.trust.key_bytes())]
        device = self.device
        return hashlib.sha256(
            canonical_json([self.origin.url, device.id, device.hardware_class, dict(device.labels), anchors])
        ).hexdigest()


def load(path: Path) -> Config:
    """Read and check a configuration file.

    Raises:
        ConfigError: `bad-config`, naming every wrong key.
    """
    try:
        document = parse_json(_read(path, "configuration"), "it")
    except ValueError as error:
        raise ConfigError("bad-config", f"{path} is not JSON: {error}") from None
    return parse(document, base=path.resolve().parent, name=str(path))


def parse(document: object, *, base: Path, name: str = "configuration") -> Config:
    """Check a configuration document; relative paths start at `base`.

    Raises:
        ConfigError: `bad-config`, naming every wrong key.
    """
    problems: list[str] = []
    top = _Section(document, "", problems)
    if top.number("version", 0) != 1:
        top.problem("version", "must be 1")
    device, source, trust = top.section("device"), top.section("source"), top.section("trust")
    poll, budget = top.section("poll", optional=True), top.section("budget", optional=True)
    url = source.text("url")
    if url.startswith("http") and "@" in url.partition("://")[2].partition("/")[0]:
        # Refused before it is shown: `status` and the log print the URL.
        source.problem("url", "must not carry a password: that belongs into a file")
    config = Config(
        device=Device(device.text("id"), device.name("class"), device.labels("labels")),
        origin=Origin(
            _absolute(url, base),
            *(source.path(key, base) for key in ("usernameFile", "passwordFile", "caFile")),
        ),
        state=base / top.text("state", DEFAULT_STATE),
        trust=Anchors(base / trust.text("root"), tuple(base / key for key in trust.texts("keys"))),
        poll=Polling(
            poll.number("intervalS", DEFAULT_INTERVAL_S, low=1),
            poll.number("jitter", DEFAULT_JITTER, high=1),
            poll.number("maxBackoffS", DEFAULT_MAX_BACKOFF_S, low=1),
        ),
        reserve_bytes=int(top.number("reserveBytes", DEFAULT_RESERVE_BYTES)),
        budget=Budget(
            budget.optional("loadMs"),
            budget.optional("latencyMs"),
            int(peak) if (peak := budget.optional("peakMemoryBytes")) is not None else None,
        ),
    )
    for section in (top, device, source, trust, poll, budget):
        section.finish()
    if problems:
        raise ConfigError("bad-config", f"{name}: " + "; ".join(problems))
    return config


class _Section:
    """One mapping being read: collects problems and remembers which keys were asked for."""

    def __init__(self, value: object, where: str, problems: list[str]) -> None:
        self._where, self._problems, self._known = where, problems, set[str]()
        self._values: dict[str, Any] = value if isinstance(value, dict) else {}
        if not isinstance(value, dict):
            problems.append(f"{where or 'the document'} must be an object")

    def problem(self, key: str, text: str) -> None:
        self._problems.append(f"{self._where}{key} {text}")

    def _take(self, key: str) -> Any:
        self._known.add(key)
        return self._values.get(key)

    def text(self, key: str, default: str | None = None) -> str:
        value = self._take(key)
        if key not in self._values and default is not None:
            return default
        if isinstance(value, str) and value.strip():
            return value
        self.problem(key, "is missing" if key not in self._values else "must be a non-empty string")
        return ""

    def name(self, key: str) -> str:
        value = self.text(key)
        if value and not is_name(value):
            self.problem(key, f"{value!r} must be lower-case letters, digits and single dashes")
        return value

    def path(self, key: str, base: Path) -> Path | None:
        if key in self._values:
            return base / self.text(key)
        self._known.add(key)
        return None

    def number(self, key: str, default: float, *, low: float = 0, high: float = _MAX) -> float:
        value = self._take(key)
        if key not in self._values:
            return default
        if isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high:
            return value
        self.problem(key, f"must be a number from {low:g}" + (f" to {high:g}" if high < _MAX else ""))
        return default

    def optional(self, key: str) -> float | None:
        value = self.number(key, -1)
        return value if value >= 0 else None

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._take(key)
        if isinstance(value, list) and value and all(isinstance(item, str) and item for item in value):
            return tuple(value)
        self.problem(key, "must be a list of at least one string")
        return ()

    def labels(self, key: str) -> dict[str, str]:
        value = self._take(key)
        if value is None:
            return {}
        if isinstance(value, dict) and all(isinstance(item, str) for item in value.values()):
            return value
        self.problem(key, "must map strings to strings")
        return {}

    def section(self, key: str, *, optional: bool = False) -> _Section:
        value = self._take(key)
        return _Section(
            {} if optional and key not in self._values else value, f"{self._where}{key}.", self._problems
        )

    def finish(self) -> None:
        for key in sorted(set(self._values) - self._known):
            self.problem(key, f"is unknown (known: {', '.join(sorted(self._known))})")


def _absolute(url: str, base: Path) -> str:
    scheme, _, rest = url.partition(":")
    return f"{scheme}:{base / rest}" if scheme in ("oci", "bundle") else url


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError("bad-config", f"{what}: cannot read {path}: {error.strerror}") from error
