"""What an update is told from outside: what is desired, and who decides what may be used."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from edgewright_agent.floor import Floor
from edgewright_agent.transport import Source
from edgewright_agent.trust.approval import Approval


class Desired(Protocol):
    """What `trust.tuf.refresh` returns: the verified assignment and what may be installed."""

    @property
    def versions(self) -> Mapping[str, int]: ...
    @property
    def floor(self) -> Floor: ...
    @property
    def assignment(self) -> Mapping[str, Any]: ...
    @property
    def expires(self) -> Mapping[str, str]: ...
    @property
    def policy(self) -> bytes | None: ...
    @property
    def trusted_root(self) -> bytes | None: ...
    def require_artifact(self, model: str, hardware_class: str, digest: str) -> Approval: ...
    def highest_sequence(self, model: str) -> int | None: ...


class Trust(Protocol):
    """Who decides what may be used; the real one is `trusted.DeviceTrust`."""

    def refresh(self, source: Source, *, floor: Floor, now: datetime) -> Desired:
        """Return the verified desired state; raises `TrustError` or `TransportError`."""

    def verify(self, source: Source, repository: str, digest: str, *, model: str, desired: Desired) -> None:
        """Accept an artifact's origin and gate verdict; raises `TrustError` or `TransportError`."""
