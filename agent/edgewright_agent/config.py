"""The agent's configuration: one JSON file, read strictly, every problem named at once.

>>> config = load(Path("/etc/edgewright/agent.json"))   # doctest: +SKIP
>>> config.device.hardware_class                        # doctest: +SKIP
'raspberry-pi-4'

Relative paths are relative to the file, so a configuration and its trust anchors move together.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from edgewright_agent.contract import canonical_json
from edgewright_agent.errors import ConfigError
from edgewright_agent.network import Network, network_of
from edgewright_agent.section import Section
from edgewright_agent.telemetry_settings import Telemetry, telemetry_of
from edgewright_agent.transport.document import parse_json
from edgewright_agent.transport.secret import Secret

if TYPE_CHECKING:
    from edgewright_agent.metered import Traffic
    from edgewright_agent.transport import Source
    from edgewright_agent.transport.allowance import Allowance
    from edgewright_agent.transport.authority import Authorities
    from edgewright_agent.transport.proxy import Route

DEFAULT_STATE = "/var/lib/edgewright"
DEFAULT_CONFIG = "/etc/edgewright/agent.json"
DEFAULT_RESERVE_BYTES = 64 * 1024 * 1024
DEFAULT_RESERVE_INODES = 64
DEFAULT_INTERVAL_S = 900.0
DEFAULT_JITTER = 0.2
DEFAULT_MAX_BACKOFF_S = 6 * 3600.0
MAX_INTERVAL_S = 3650 * 86400.0  # ten years: times that far ahead still have a date
MAX_DECRYPTION_KEYS = 8
ENVIRONMENT = "environment"


@dataclass(frozen=True)
class Device:
    """Who this is: `hardware_class` selects artifacts, `labels` select groups; `id` is unique."""

    id: str
    hardware_class: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Identity:
    """What this device is known by: its own key, the certificate for it, and who may issue that.

    Without `ca` nothing is renewed: whoever answers for the registry could put another certificate here.
    """

    key: Path
    certificate: Path
    ca: Path | None = None

    def client(self) -> tuple[str, str] | None:
        """Return certificate and key (PEM files) for TLS; None as long as there is no certificate."""
        return (str(self.certificate), str(self.key)) if self.certificate.is_file() else None


@dataclass(frozen=True)
class Mirror:
    """One place that artifacts come from: a registry URL, `oci:DIR` or `bundle:FILE`; secrets by reference.

    What is said about one mirror holds for it alone: its password is never sent to another.

    Attributes:
        proxy: `http://HOST:PORT`, or `environment`: as `HTTPS_PROXY` and the like say. None: none, whatever they say.
    """

    url: str
    username: Secret | None = None
    password: Secret | None = None
    credential_helper: str | None = None
    ca_file: Path | None = None
    identity: Identity | None = None
    proxy: str | None = None
    proxy_username: Secret | None = None
    proxy_password: Secret | None = None

    def open(
        self,
        allowance: Allowance | None = None,
        *,
        within_s: float | None = None,
        authorities: Authorities | None = None,
    ) -> Source:
        """Open it; secrets are read now: a rotated password takes effect at the next poll.

        Args:
            allowance: What blobs may take of the link.
            within_s: How long it may take for everything together.
            authorities: Who vouched for servers before.

        Raises:
            ConfigError: `bad-secret`, `bad-ca-file`, `bad-source`.
        """
        from edgewright_agent.transport import open_source

        return open_source(
            self.url,
            username=self.username.read("source.username", private=False) if self.username else None,
            password=self.password.read("source.password") if self.password else None,
            credential_helper=self.credential_helper,
            ca_file=str(self.ca_file) if self.ca_file else None,
            client=self.identity.client() if self.identity else None,
            allowance=allowance,
            proxy=self.route(),
            within_s=within_s,
            authorities=authorities,
        )

    def held_by_unit(self) -> list[str]:
        """Return references to secrets that systemd passes to the agent's unit, unless this process is in a unit."""
        secrets = (self.username, self.password, self.proxy_username, self.proxy_password)
        if os.environ.get("CREDENTIALS_DIRECTORY"):
            return []
        return [str(secret) for secret in secrets if secret and secret.kind == "credential"]

    def without_login(self) -> Mirror:
        """Return it without secrets: all that can be checked outside the unit that they are passed to."""
        return replace(self, username=None, password=None, proxy_username=None, proxy_password=None)

    def route(self) -> Route | None:
        if self.proxy is None:
            return None
        from edgewright_agent.transport.proxy import Environment, parse_proxy

        if self.proxy == ENVIRONMENT:
            return Environment(os.environ)
        found = parse_proxy(self.proxy)
        if self.proxy_username is None or self.proxy_password is None:
            return found
        username = self.proxy_username.read("source.proxyUsername", private=False)
        return found.with_login(username, self.proxy_password.read("source.proxyPassword"))


@dataclass(frozen=True)
class Origin:
    """Where artifacts come from: one or more mirrors in order of preference, the first being `source.url`."""

    mirrors: tuple[Mirror, ...]

    @property
    def url(self) -> str:
        """The preferred one, which a poll asks first."""
        return self.mirrors[0].url

    @property
    def remote(self) -> bool:
        """Whether all of them are reached over the network, so that nothing can be had while the link is closed."""
        return all(mirror.url.startswith("http") for mirror in self.mirrors)

    def open(
        self,
        *,
        polls: int = 0,
        traffic: Traffic | None = None,
        allowance: Allowance | None = None,
        within_s: float | None = None,
        authorities: Authorities | None = None,
    ) -> Source:
        """Open the source.

        Args:
            polls: How many polls there have been: now and then all mirrors are asked what is new.
            traffic: Counts what is asked for and given.
            allowance: What blobs may take of the link.
            within_s: How long all mirrors together may take for everything; each has its share.
            authorities: Who vouched for servers before.

        Raises:
            ConfigError: as `Mirror.open`.
        """
        share_s = None if within_s is None else within_s / len(self.mirrors)
        opened = {
            mirror.url: mirror.open(allowance, within_s=share_s, authorities=authorities)
            for mirror in self.mirrors
        }
        if traffic is not None:
            from edgewright_agent.metered import Metered

            opened = {url: Metered(source, traffic) for url, source in opened.items()}
        if len(opened) == 1:
            return opened[self.url]
        from edgewright_agent.transport.mirrors import Mirrors, is_thorough

        return Mirrors(opened, thorough=is_thorough(polls))


@dataclass(frozen=True)
class PinnedIdentity:
    """Who may have signed with a certificate: the issuer, and its subject by name or by a full-match pattern."""

    issuer: str
    identity: str | None = None
    pattern: str | None = None


@dataclass(frozen=True)
class Anchors:
    """What is trusted from the start: the first TUF root, and the signers that this device insists on.

    Attributes:
        root: First root metadata.
        keys: Public keys (PEM); with `identities`, a signer must be one of these *and* be allowed by the policy.
        identities: Identities in certificates. Neither: the fleet's policy alone says who may sign.
    """

    root: Path
    keys: tuple[Path, ...] = ()
    identities: tuple[PinnedIdentity, ...] = ()

    def root_bytes(self) -> bytes:
        """Return the first root metadata."""
        return _read(self.root, "trust.root")

    def key_bytes(self) -> tuple[bytes, ...]:
        """Return the PEM public keys."""
        return tuple(_read(path, "trust.keys") for path in self.keys)


@dataclass(frozen=True)
class Polling:
    """How often to ask: every `interval_s`, up to a share `jitter` later, `max_backoff_s` after failures.

    Attributes:
        said: Keys of `poll` that the configuration has itself; for the others the fleet's signed policy counts, where
            there is one: see `schedule.polling`.
    """

    interval_s: float = DEFAULT_INTERVAL_S
    jitter: float = DEFAULT_JITTER
    max_backoff_s: float = DEFAULT_MAX_BACKOFF_S
    said: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Budget:
    """What a model may cost on this device; None is not checked."""

    load_ms: float | None = None
    latency_ms: float | None = None
    peak_memory_bytes: int | None = None

    def stricter(self, other: Budget) -> Budget:
        """Return the lower figure of both in everything; what neither limits is not checked.

        >>> Budget(load_ms=900).stricter(Budget(load_ms=500, latency_ms=20))
        Budget(load_ms=500, latency_ms=20, peak_memory_bytes=None)
        """
        return Budget(
            _lower(self.load_ms, other.load_ms),
            _lower(self.latency_ms, other.latency_ms),
            _lower(self.peak_memory_bytes, other.peak_memory_bytes),
        )


_Figure = TypeVar("_Figure", int, float)


def _lower(one: _Figure | None, other: _Figure | None) -> _Figure | None:
    return other if one is None else one if other is None else min(one, other)


@dataclass(frozen=True)
class Decryption:
    """What opens encrypted models: private keys of this device or its class (PEM), read when one is installed."""

    keys: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Config:
    """The whole configuration. `reserve_bytes` and `reserve_inodes` of the disk are left free."""

    device: Device
    origin: Origin
    state: Path
    trust: Anchors
    poll: Polling
    reserve_bytes: int
    budget: Budget
    decryption: Decryption
    identity: Identity | None = None
    reserve_inodes: int = DEFAULT_RESERVE_INODES
    network: Network = field(default_factory=Network)
    telemetry: Telemetry = field(default_factory=Telemetry)

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
        pinned = [[pin.issuer, pin.identity, pin.pattern] for pin in self.trust.identities]
        device, urls = self.device, [mirror.url for mirror in self.origin.mirrors]
        labels = dict(device.labels)
        return hashlib.sha256(
            canonical_json([urls, device.id, device.hardware_class, labels, anchors, pinned])
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
    top = Section(document, "", problems)
    if top.number("version", 0) != 1:
        top.problem("version", "must be 1")
    device, source, trust = top.section("device"), top.section("source"), top.section("trust")
    poll, budget = top.section("poll", optional=True), top.section("budget", optional=True)
    decryption = top.section("decryption", optional=True)
    identity = _own_identity(top, base)
    further = source.mirrors("mirrors")
    mirrors = [_mirror(section, base, identity) for section in (source, *further)]
    if len({mirror.url for mirror in mirrors}) != len(mirrors):
        source.problem("mirrors", "names a URL twice")
    config = Config(
        device=Device(device.text("id"), device.name("class"), device.labels("labels")),
        origin=Origin(tuple(mirrors)),
        state=base / top.text("state", DEFAULT_STATE),
        trust=Anchors(
            base / trust.text("root"),
            tuple(base / key for key in trust.texts("keys", optional=True)),
            tuple(map(_identity, trust.sections("identities"))),
        ),
        poll=Polling(
            poll.number("intervalS", DEFAULT_INTERVAL_S, low=1, high=MAX_INTERVAL_S),
            poll.number("jitter", DEFAULT_JITTER, high=1),
            poll.number("maxBackoffS", DEFAULT_MAX_BACKOFF_S, low=1, high=MAX_INTERVAL_S),
            frozenset(key for key in ("intervalS", "jitter", "maxBackoffS") if key in poll),
        ),
        reserve_bytes=int(top.number("reserveBytes", DEFAULT_RESERVE_BYTES)),
        reserve_inodes=int(top.number("reserveInodes", DEFAULT_RESERVE_INODES)),
        budget=Budget(
            budget.optional("loadMs"),
            budget.optional("latencyMs"),
            int(peak) if (peak := budget.optional("peakMemoryBytes")) is not None else None,
        ),
        decryption=Decryption(
            tuple(base / key for key in decryption.texts("keys")) if "decryption" in top else ()
        ),
        identity=identity,
        network=network_of(top, base),
        telemetry=telemetry_of(top, base),
    )
    if len(config.decryption.keys) > MAX_DECRYPTION_KEYS:
        decryption.problem("keys", f"must be at most {MAX_DECRYPTION_KEYS}: each is tried on each recipient")
    for section in (top, device, source, *further, trust, poll, budget, decryption):
        section.finish()
    if problems:
        raise ConfigError("bad-config", f"{name}: " + "; ".join(problems))
    return config


def _mirror(section: Section, base: Path, identity: Identity | None) -> Mirror:
    url = section.text("url")
    host = url.partition("://")[2].partition("/")[0] if url.startswith("http") else ""
    if "@" in host:
        # Refused before it is shown: `status` and the log print the URL.
        section.problem("url", "must not carry a password: say in username and password where they are")
    username, password = section.secret("username", base), section.secret("password", base)
    helper = section.helper("credentialHelper")
    if (username is None) != (password is None):
        section.problem("username", "and password belong together")
    if helper and password:
        section.problem("credentialHelper", "and password are two answers to one question: keep one")
    if url.startswith("http://") and (password or helper) and not _is_loopback(url):
        section.problem("url", "must be https://, or the password could be read on the way")
    ca_file = section.path("caFile", base)
    proxy = _proxy(section, base, url)
    return Mirror(_absolute(url, base), username, password, helper, ca_file, identity, *proxy)


def _proxy(section: Section, base: Path, url: str) -> tuple[str | None, Secret | None, Secret | None]:
    proxy = section.text("proxy", "") or None
    username, password = section.secret("proxyUsername", base), section.secret("proxyPassword", base)
    if (username is None) != (password is None):
        section.problem("proxyUsername", "and proxyPassword belong together")
    if username and proxy in (None, ENVIRONMENT):
        section.problem("proxyUsername", "belongs to a proxy of the form http://HOST:PORT")
    if proxy is None:
        return None, None, None
    if not url.startswith("http"):
        section.problem("proxy", "stands before registries only")
    if proxy != ENVIRONMENT:
        from edgewright_agent.transport.proxy import parse_proxy

        try:
            parse_proxy(proxy)
        except ValueError as error:
            section.problem("proxy", f"{error}; it is http://HOST:PORT or {ENVIRONMENT}")
    return proxy, username, password


def _own_identity(top: Section, base: Path) -> Identity | None:
    section = top.section("identity", optional=True)
    if "identity" not in top:
        return None
    key, certificate = section.text("key"), section.text("certificate")
    found = Identity(base / key, base / certificate, section.path("ca", base))
    section.finish()
    return found


def _is_loopback(url: str) -> bool:
    from edgewright_agent.transport.host import is_loopback

    try:
        return is_loopback(urlsplit(url).hostname or "")
    except ValueError:  # no URL at all, which opening it says
        return True


def _identity(section: Section) -> PinnedIdentity:
    issuer = section.text("issuer")
    identity, pattern = section.text("identity", ""), section.text("identityPattern", "")
    if bool(identity) == bool(pattern):
        section.problem("identity", "or identityPattern must be there, exactly one of them")
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        section.problem("identityPattern", f"is no regular expression: {error}")
    section.finish()
    return PinnedIdentity(issuer, identity or None, pattern or None)


def _absolute(url: str, base: Path) -> str:
    scheme, _, rest = url.partition(":")
    return f"{scheme}:{base / rest}" if scheme in ("oci", "bundle") else url


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        from edgewright_agent.files import whose

        hint = f"; {whose(path)}" if isinstance(error, PermissionError) else ""
        raise ConfigError("bad-config", f"{what}: cannot read {path}: {error.strerror}{hint}") from error
