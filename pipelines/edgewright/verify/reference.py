"""What people call an artifact, taken apart: where it is, which repository, which manifest.

>>> parse_reference("registry.example/acme/digit-reader:1.0.0")
Reference(url='https://registry.example', repository='acme/digit-reader', reference='1.0.0')
>>> parse_reference("oci:dist/registry/digit-reader@sha256:" + "0" * 64).url
'oci:dist/registry'
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgewright.errors import SpecError
from edgewright_agent.contract import is_digest
from edgewright_agent.transport import is_repository

if TYPE_CHECKING:
    from edgewright_agent.transport import Source

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_HOST = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?|\[[0-9a-fA-F:]+\](:[0-9]{1,5})?")
_FORMS = "HOST/REPOSITORY@sha256:…, HOST/REPOSITORY:TAG or oci:DIR/REPOSITORY@sha256:…"


@dataclass(frozen=True)
class Reference:
    """One manifest in one repository of one source.

    Attributes:
        url: As `edgewright_agent.transport.open_source` takes it.
        repository: Below it.
        reference: Tag or digest.
    """

    url: str
    repository: str
    reference: str

    def named(self, digest: str) -> str:
        """Return what `cosign` and `oras` call another manifest of the same repository."""
        return f"{self.url.removeprefix('https://').removeprefix('http://')}/{self.repository}@{digest}"

    def open(
        self,
        *,
        username: str | None = None,
        password: str | None = None,
        credential_helper: str | None = None,
        ca_file: str | None = None,
    ) -> Source:
        """Open the source; nothing is contacted yet."""
        from edgewright_agent.transport import open_source

        return open_source(
            self.url,
            username=username,
            password=password,
            credential_helper=credential_helper,
            ca_file=ca_file,
        )


def parse_reference(text: str, *, plain_http: bool = False) -> Reference:
    """Return the parts of a reference.

    Args:
        text: What a person wrote.
        plain_http: Whether a registry is asked without TLS.

    Raises:
        SpecError: it has none of the known forms.
    """
    name, reference = _split(text.removeprefix("https://").removeprefix("http://"))
    if name.startswith("oci:"):
        place, _, repository = name.removeprefix("oci:").rpartition("/")
        url = f"oci:{place or '.'}"
    else:
        host, _, repository = name.partition("/")
        insecure = plain_http or text.startswith("http://")
        url = f"{'http' if insecure else 'https'}://{host}"
        if _HOST.fullmatch(host) is None:
            raise SpecError(f"{text!r} names no registry", hint=f"write {_FORMS}")
    if not is_repository(repository):
        raise SpecError(f"{text!r} names no repository", hint=f"write {_FORMS}")
    if not is_digest(reference) and _TAG.fullmatch(reference) is None:
        raise SpecError(f"{text!r} has neither a tag nor a sha256 digest", hint=f"write {_FORMS}")
    return Reference(url, repository, reference)


def _split(text: str) -> tuple[str, str]:
    name, at, digest = text.partition("@")
    if at:
        # `repository:tag@digest` is legal, and the digest decides.
        place, slash, last = name.rpartition("/")
        return (f"{place}/{last.partition(':')[0]}" if slash else name), digest
    name, _, tag = text.rpartition(":")
    return (text, "") if "/" in tag else (name, tag)
