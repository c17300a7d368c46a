"""Where artifacts go: one small interface, and the address that chooses what stands behind it.

>>> open_repository = open_registry({"url": "oci:out/registry"}, Path("."))
>>> open_repository("digit-reader").address("1.0.0")
'oci:out/registry/digit-reader:1.0.0'
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from edgewright.errors import SpecError
from edgewright.trust.secret import read_line, secret_path

MAX_TAGS = 64


class Registry(Protocol):
    """One repository that takes manifests and blobs (OCI distribution-spec 1.1, push side)."""

    def address(self, reference: str) -> str:
        """Return what a person (or `oras`) calls `reference`, a tag or digest, in this repository."""

    def has_blob(self, digest: str) -> bool:
        """Whether the blob is there already.

        Raises:
            NetworkError: unreachable, or the answer makes no sense.
        """

    def put_blob(self, digest: str, content: bytes | Path) -> bool:
        """Store a blob unless it is there; return whether bytes were sent.

        A path is streamed. The receiver hashes what it got.

        Raises:
            NetworkError: unreachable, refused, or the receiver computed another digest.
            EnvironmentFault: no space, or not writable.
        """

    def get_blob(self, digest: str, *, limit: int) -> bytes | None:
        """Return a small blob, checked against its digest; None when absent.

        Raises:
            NetworkError: unreachable, larger than `limit` bytes, or damaged.
        """

    def save_blob(self, digest: str, path: Path, *, limit: int) -> bool:
        """Write a blob of any size to a file, checked against its digest; False when it is absent.

        Raises:
            NetworkError: unreachable, larger than `limit` bytes, or damaged; nothing is left of the file.
            EnvironmentFault: it cannot be written.
        """

    def put_manifest(self, reference: str, body: bytes, media_type: str) -> bool:
        """Store a manifest under a tag or its digest; what it names must be there.

        Returns:
            Whether the receiver keeps the referrers list itself (`OCI-Subject`, distribution-spec 1.1,
            Pushing Manifests with Subject); if not, the caller maintains the fallback tag.

        Raises:
            NetworkError: as for `put_blob`.
            EnvironmentFault: as for `put_blob`.
        """

    def get_manifest(self, reference: str) -> bytes | None:
        """Return the bytes of a manifest (at most `MAX_MANIFEST_BYTES`), None when absent.

        Raises:
            NetworkError: unreachable, too large, or a digest reference whose bytes hash to something else.
        """

    def own_referrers(self, digest: str) -> list[dict[str, Any]] | None:
        """Return at most `MAX_LISTED_REFERRERS` descriptors of what refers to `digest`; None when no list is kept.

        Raises:
            NetworkError: unreachable, or the list makes no sense.
        """

    def tags(self, prefix: str) -> list[str]:
        """Return the tags that begin with `prefix`, at most `MAX_TAGS` of them; none where tags are not told.

        Raises:
            NetworkError: unreachable.
        """

    def exclusive(self) -> AbstractContextManager[bool]:
        """Keep other writers out while the block runs, where the medium can (a layout); whether it does."""


OpenRepository = Callable[[str], Registry]


def open_registry(spec: Mapping[str, Any], root: Path) -> OpenRepository:
    """Return what opens a repository by name below the registry's prefix; nothing is contacted yet.

    Args:
        spec: `url`, and optionally `credentials {username, password}` or `{helper}`, `caFile`, `clientCertificate` and
            `clientKey`, as in fleet.yaml.
        root: The fleet's repository; relative paths start there.

    Raises:
        SpecError: an address of no known kind.
        TrustError: a credential cannot be read.
    """
    url = str(spec["url"])
    if url.startswith("oci:"):
        from edgewright.publish.layout_registry import LayoutRegistry

        name = url.removeprefix("oci:")
        return lambda repository: LayoutRegistry(root / name / repository, f"{url}/{repository}")
    if not url.startswith(("http://", "https://")):
        raise SpecError(f"registry.url {url!r} is none of https://HOST/PREFIX, http://HOST/PREFIX, oci:DIR")
    from edgewright.publish.http_exchange import Exchange
    from edgewright.publish.http_registry import HttpRegistry

    given = spec.get("credentials") or {}
    credentials = None
    if given.get("username") and given.get("password"):
        credentials = (
            read_line(given["username"], root, what="the registry's user name"),
            read_line(given["password"], root, what="the registry's password"),
        )
    ca_file = root / spec["caFile"] if spec.get("caFile") else None
    exchange = Exchange(
        url,
        credentials=credentials,
        helper=given.get("helper"),
        ca_file=ca_file,
        client=_client(spec, root),
    )
    return lambda repository: HttpRegistry(repository, exchange)


def _client(spec: Mapping[str, Any], root: Path) -> tuple[Path, Path] | None:
    if not spec.get("clientCertificate") or not spec.get("clientKey"):
        return None
    key = secret_path(spec["clientKey"], root)
    if key is None:
        raise SpecError("registry.clientKey must be file:PATH: TLS reads this key from a file")
    return root / spec["clientCertificate"], key
