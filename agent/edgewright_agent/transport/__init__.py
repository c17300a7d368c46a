"""Where bytes come from: a registry, OCI layouts in a directory, or a bundle file, behind one interface.

A source is untrusted. It bounds what it reads and checks content against digests; whether content may be
*used* is decided in `edgewright_agent.trust`.

>>> source = open_source("https://registry.example/acme")     # doctest: +SKIP
>>> source.manifest("tuf", "timestamp.json", etag=last_seen)  # doctest: +SKIP
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from edgewright_agent.contract import MAX_MANIFEST_BYTES, is_digest
from edgewright_agent.errors import ConfigError, TransportError

if TYPE_CHECKING:
    from edgewright_agent.transport.allowance import Allowance
    from edgewright_agent.transport.authority import Authorities
    from edgewright_agent.transport.proxy import Route

# OCI distribution-spec 1.1, "Pulling manifests": what a repository and a tag may be called. Neither `..`, an
# absolute path nor an escape sequence fits, so a checked name is safe as a path and as a URL.
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")


class BusyError(TransportError):
    """The registry asks to be left alone for a while (HTTP 429 or 503); code `busy`.

    Attributes:
        retry_after_s: How long it asked for, in seconds, bounded; None when it did not say.
    """

    def __init__(self, message: str, *, retry_after_s: float | None) -> None:
        super().__init__("busy", message)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Manifest:
    """A manifest as stored: its digest is computed from `body`, never taken from a header.

    `etag` is what to send next time; None where the source has no such notion.
    """

    digest: str
    media_type: str
    body: bytes
    etag: str | None


class Source(Protocol):
    """One place that holds repositories of manifests and blobs (OCI distribution-spec 1.1, pull side)."""

    def manifest(
        self, repository: str, reference: str, *, limit: int = MAX_MANIFEST_BYTES, etag: str | None = None
    ) -> Manifest | None:
        """Return a manifest by tag or digest, or None when it still has `etag` (HTTP 304).

        Raises:
            TransportError: not found (`not-found`), too large (`too-large`), a digest reference whose bytes
                hash to something else (`digest-mismatch`), not a manifest at all (`bad-response`), refused
                (`denied`), unreachable (`network`), dripping (`too-slow`) or overloaded (`busy`).
        """

    def blob(self, repository: str, digest: str, *, size: int, offset: int = 0) -> Iterator[bytes]:
        """Yield the bytes of a blob from `offset` to `size` exactly, in chunks; never more than that.

        The caller hashes (it may have the first `offset` bytes on disk already).

        Raises:
            TransportError: as for `manifest`, or `truncated` when the source ends early.
        """

    def referrers(self, repository: str, digest: str) -> list[dict[str, Any]]:
        """Return descriptors of manifests whose subject is `digest`, at most `MAX_LISTED_REFERRERS`.

        Asks the referrers API, then the fallback tag. Never filters on artifactType (signers disagree on it).
        An empty list when there are none.
        """

    def close(self) -> None:
        """Let go of the connection or file; the source may not be used afterwards."""


def open_source(
    url: str,
    *,
    username: str | None = None,
    password: str | None = None,
    credential_helper: str | None = None,
    ca_file: str | None = None,
    client: tuple[str, str] | None = None,
    timeout_s: float = 20.0,
    allowance: Allowance | None = None,
    proxy: Route | None = None,
    within_s: float | None = None,
    authorities: Authorities | None = None,
) -> Source:
    """Open the source a URL names. Nothing is read before the first call on it.

    Args:
        url: `http(s)://host[:port][/prefix]`, `oci:DIR` (one OCI layout per repository in DIR) or
            `bundle:FILE` (an uncompressed tar of such a DIR).
        username: For registries that ask for one (basic or token authentication).
        password: The password or access token that belongs to it.
        credential_helper: Instead of both: the program `docker-credential-…` to ask once a registry wants a
            log-in.
        ca_file: PEM file of the certificate authorities to trust instead of the system's.
        client: PEM files of this device's certificate and key, for registries that ask for one.
        timeout_s: Longest silence of a registry, in seconds.
        allowance: What blobs may take of the link to a registry.
        proxy: What stands between us and it.
        within_s: How long a registry may take for everything together.
        authorities: Who vouched for servers before, of many that are trusted.

    Raises:
        ConfigError: `bad-source`: not one of the forms above, or secrets inside the URL; `bad-identity`:
            certificate and key cannot be used.
    """
    scheme, _, rest = url.partition(":")
    # Each implementation is imported only when asked for: http.client and ssl cost 7 MiB of memory.
    if scheme == "oci" and rest:
        from edgewright_agent.transport.layout import open_layout

        return open_layout(rest)
    if scheme == "bundle" and rest:
        from edgewright_agent.transport.bundle import open_bundle

        return open_bundle(rest)
    if scheme in ("http", "https"):
        from edgewright_agent.transport.registry import RegistrySource

        return RegistrySource(
            url,
            username=username,
            password=password,
            credential_helper=credential_helper,
            ca_file=ca_file,
            client=client,
            timeout_s=timeout_s,
            allowance=allowance,
            proxy=proxy,
            within_s=within_s,
            authorities=authorities,
        )
    raise ConfigError(
        "bad-source", f"source {url!r} is none of https://HOST[/PREFIX], oci:DIR and bundle:FILE"
    )


def is_repository(text: object) -> bool:
    """Whether `text` is a legal repository name (OCI distribution-spec 1.1), safe in paths and URLs."""
    return isinstance(text, str) and len(text) <= 255 and _REPOSITORY.fullmatch(text) is not None


def check_repository(repository: str) -> None:
    """Refuse names no repository can have, before they become part of a path or URL.

    Raises:
        TransportError: `not-found`.
    """
    if not is_repository(repository):
        raise TransportError("not-found", f"{repository!r} is not a legal repository name")


def check_reference(reference: str) -> None:
    """Refuse what is neither a tag nor a sha256 digest (OCI distribution-spec 1.1).

    Raises:
        TransportError: `not-found`.
    """
    if not is_digest(reference) and _TAG.fullmatch(reference) is None:
        raise TransportError("not-found", f"{reference!r} is neither a tag nor a sha256 digest")
