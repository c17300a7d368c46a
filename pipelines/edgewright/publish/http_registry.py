"""A registry over HTTP(S): the push side of the OCI distribution specification 1.1.

>>> registry = HttpRegistry("digit-reader", Exchange("http://localhost:5000/acme"))
>>> registry.address("1.0.0")
'localhost:5000/acme/digit-reader:1.0.0'
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edgewright.errors import ContentError, EnvironmentFault, NetworkError, SpecError
from edgewright.publish import oci
from edgewright.publish.http_exchange import Answer, Exchange, Transient, failure, led_to
from edgewright.publish.registry import MAX_TAGS
from edgewright_agent.contract import (
    MAX_LISTED_REFERRERS,
    MAX_MANIFEST_BYTES,
    OCI_INDEX,
    OCI_MANIFEST,
    digest_of,
    is_digest,
)

_DIGEST_HEADER = "Docker-Content-Digest"
_NEXT_PAGE = re.compile(r'<([^<>\s"]{1,2000})>\s*;\s*rel="?next"?')
_MAX_PAGES = 16
_MAX_TAGS_BYTES = 4 * 1024 * 1024
# distribution-spec 1.1, Pulling Manifests: the grammar of a repository name.
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")


class HttpRegistry:
    """One repository of a registry.

    Args:
        repository: Name below the prefix in the registry's address.
        exchange: The session with that registry; shared between its repositories.

    Raises:
        SpecError: prefix and name do not make a legal repository name.
    """

    def __init__(self, repository: str, exchange: Exchange) -> None:
        parts = urlsplit(exchange.registry_url)
        self._path = "/".join(part for part in (parts.path.strip("/"), repository) if part)
        if not _REPOSITORY.fullmatch(self._path):
            raise SpecError(f"registry.url: {self._path!r} is not a legal repository name (lower case only)")
        self._host = parts.netloc.rpartition("@")[2]
        self._base = f"{parts.scheme}://{self._host}/v2/{self._path}/"
        self._exchange = exchange

    def address(self, reference: str) -> str:
        """Return `host/prefix/repository` with the tag or digest, as `oras` and `cosign` take it."""
        return f"{self._host}/{self._path}{'@' if is_digest(reference) else ':'}{reference}"

    def has_blob(self, digest: str) -> bool:
        """Whether the registry has the blob (HEAD).

        Raises:
            NetworkError: unreachable, or an answer that makes no sense.
        """
        answer = self._call("HEAD", f"blobs/{digest}")
        if answer.status == 404:
            return False
        if answer.status != 200:
            raise failure(f"look for {digest} in {self._path}", answer)
        return True

    def put_blob(self, digest: str, content: bytes | Path) -> bool:
        """Upload a blob unless it is there: POST for a place, then one PUT streamed from the file.

        Raises:
            NetworkError: unreachable, refused, or the registry computed another digest.
        """
        if self.has_blob(digest):
            return False
        # A broken upload starts again from its POST: the place it was given may be gone.
        self._exchange.retrying(lambda: self._upload(digest, content))
        return True

    def get_blob(self, digest: str, *, limit: int) -> bytes | None:
        """Return a small blob, checked against its digest.

        Raises:
            NetworkError: unreachable, too large or damaged.
        """
        answer = self._call("GET", f"blobs/{digest}", limit=limit)
        return self._body(answer, digest, limit)

    def save_blob(self, digest: str, path: Path, *, limit: int) -> bool:
        """Write a blob to a file as it comes, checked against its digest.

        Raises:
            NetworkError: unreachable, too large or damaged.
            EnvironmentFault: the file cannot be written.
        """
        try:
            answer = self._call("GET", f"blobs/{digest}", limit=limit, into=path)
        except (NetworkError, EnvironmentFault):
            path.unlink(missing_ok=True)
            raise
        if answer.status == 404:
            return False
        if answer.status != 200:
            raise failure(f"read {self.address(digest)}", answer)
        if not answer.complete or oci.hash_file(path)[0] != digest:
            path.unlink()
            what = "came back with other bytes" if answer.complete else f"is larger than {limit} bytes"
            raise ContentError(f"{self.address(digest)} {what}; {self._host} is damaged")
        return True

    def put_manifest(self, reference: str, body: bytes, media_type: str) -> bool:
        """Store a manifest; return whether the registry lists its referrers itself.

        Raises:
            NetworkError: unreachable, refused, or the registry computed another digest.
        """
        answer = self._call("PUT", f"manifests/{reference}", {"Content-Type": media_type}, body)
        if answer.status not in (201, 200):
            raise failure(f"push the manifest {self.address(reference)}", answer)
        self._require_digest(answer, digest_of(body), f"the manifest {self.address(reference)}")
        subject = json.loads(body).get("subject", {}).get("digest")
        return subject is not None and answer.headers.get("OCI-Subject") == subject

    def get_manifest(self, reference: str) -> bytes | None:
        """Return the bytes of a manifest by tag or digest.

        Raises:
            NetworkError: unreachable, too large or damaged.
        """
        accept = {"Accept": f"{OCI_MANIFEST}, {OCI_INDEX}"}
        answer = self._call("GET", f"manifests/{reference}", accept, limit=MAX_MANIFEST_BYTES)
        return self._body(answer, reference, MAX_MANIFEST_BYTES)

    def own_referrers(self, digest: str) -> list[dict[str, Any]] | None:
        """Return what the registry's referrers API lists (distribution-spec 1.1, Listing Referrers), page by page.

        Raises:
            NetworkError: unreachable, or the list makes no sense.
        """
        place = f"referrers/{digest}"
        found: list[dict[str, Any]] = []
        query: str | None = ""
        for _ in range(_MAX_PAGES):
            if query is None or len(found) >= MAX_LISTED_REFERRERS:
                break
            answer = self._call("GET", f"{place}?{query}" if query else place, {"Accept": OCI_INDEX})
            if answer.status == 404 and not query:
                return None
            found += [
                entry
                for entry in self._list_of(answer, "manifests", f"the referrers of {digest}")
                if isinstance(entry, dict) and is_digest(entry.get("digest"))
            ]
            query = _next_page(answer)
        return found[:MAX_LISTED_REFERRERS]

    def tags(self, prefix: str) -> list[str]:
        """Return tags that begin with `prefix`, from the registry's list (distribution-spec 1.1, Listing Tags).

        Raises:
            NetworkError: unreachable, or the list makes no sense.
        """
        found: list[str] = []
        # The list is in order: what comes before the prefix need not be sent. Old registries send it all the same.
        query: str | None = f"last={prefix}"
        for _ in range(_MAX_PAGES):
            if query is None or len(found) >= MAX_TAGS:
                break
            answer = self._call("GET", f"tags/list?{query}", limit=_MAX_TAGS_BYTES)
            if answer.status in (401, 403, 404, 405):
                break
            listed = self._list_of(answer, "tags", f"the tags of {self._path}")
            found += [tag for tag in listed if isinstance(tag, str) and tag.startswith(prefix)]
            past = any(isinstance(tag, str) and tag > prefix and not tag.startswith(prefix) for tag in listed)
            query = None if past else _next_page(answer)
        return found[:MAX_TAGS]

    @contextmanager
    def exclusive(self) -> Iterator[bool]:
        """Keep nobody out: registries have no locks."""
        yield False

    def _list_of(self, answer: Answer, key: str, what: str) -> list[Any]:
        if answer.status != 200:
            raise failure(f"read {what} in {self._host}", answer)
        if not answer.complete:
            raise NetworkError(f"{what} in {self._host}: the list is too long to be read")
        try:
            listed = json.loads(answer.body)[key]
        except (ValueError, KeyError, TypeError, RecursionError):
            listed = None
        if listed is None and key == "tags":
            return []  # docker-registry's word for none
        if not isinstance(listed, list):
            raise NetworkError(f"{self._host} gives something else than {what}")
        return listed

    def _call(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        content: bytes | None = None,
        *,
        limit: int = MAX_MANIFEST_BYTES,
        into: Path | None = None,
    ) -> Answer:
        return self._exchange.retrying(
            lambda: self._exchange.send(
                method,
                self._base + path,
                scope=self._path,
                headers=headers,
                content=content,
                limit=limit,
                into=into,
            )
        )

    def _upload(self, digest: str, content: bytes | Path) -> None:
        answer = self._exchange.send(
            "POST", self._base + "blobs/uploads/", scope=self._path, headers={"Content-Length": "0"}
        )
        if answer.status != 202 or "Location" not in answer.headers:
            raise failure(f"start an upload to {self._path}", answer)
        place = led_to(answer)
        place += ("&" if urlsplit(place).query else "?") + f"digest={digest}"
        answer = self._exchange.send(
            "PUT",
            place,
            scope=self._path,
            headers={"Content-Type": "application/octet-stream"},
            content=content,
        )
        if answer.status == 404:  # the upload's place expired (BLOB_UPLOAD_UNKNOWN)
            raise Transient(f"{self._host} lost the upload of {digest}")
        if answer.status != 201:
            raise failure(f"upload {_name(content)} to {self._path}", answer)
        self._require_digest(answer, digest, _name(content))

    def _require_digest(self, answer: Answer, digest: str, what: str) -> None:
        claimed = answer.headers.get(_DIGEST_HEADER, digest)
        if claimed != digest:
            raise NetworkError(
                f"{self._host} stored {what} as {claimed}, but it is {digest}",
                hint="the bytes were damaged on the way, or this is no registry; run the command again",
            )

    def _body(self, answer: Answer, reference: str, limit: int) -> bytes | None:
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise failure(f"read {self.address(reference)}", answer)
        if not answer.complete:
            raise ContentError(f"{self.address(reference)} is larger than {limit} bytes")
        if is_digest(reference) and digest_of(answer.body) != reference:
            raise ContentError(
                f"{self.address(reference)} came back with other bytes; {self._host} is damaged"
            )
        return answer.body


def _next_page(answer: Answer) -> str | None:
    """Return the parameters that lead to a list's next page, from its Link header (RFC 8288); None at its end.

    Nothing else of it is taken: where the list is, we know.
    """
    link = answer.headers.get("Link", "")
    found = _NEXT_PAGE.search(link) if len(link) <= 8192 and link.isascii() and link.isprintable() else None
    return (found[1].partition("?")[2].partition("#")[0] or None) if found else None


def _name(content: bytes | Path) -> str:
    return content.name if isinstance(content, Path) else f"{len(content)} bytes"
