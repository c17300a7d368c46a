"""The real answer to "may this be used?": TUF says what and how fresh, Sigstore who and with which verdict.

>>> trust = DeviceTrust(config)                              # doctest: +SKIP
>>> trust.refresh(source, floor=Floor(), now=utc_now())      # doctest: +SKIP

Both are imported at their first use: a poll that finds nothing new does not pay for them.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from edgewright_agent.config import Config
from edgewright_agent.floor import Floor
from edgewright_agent.transport import Source

if TYPE_CHECKING:
    from edgewright_agent.trust.tuf import Desired


class DeviceTrust:
    """Trust anchored in the configuration's TUF root and public keys."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def refresh(self, source: Source, *, floor: Floor, now: datetime) -> Desired:
        """Return the verified desired state.

        Raises:
            TrustError: as `trust.tuf.refresh`.
            TransportError: the source cannot be read.
        """
        from edgewright_agent.trust import tuf

        return tuf.refresh(
            source,
            cache=self._config.metadata,
            root=self._config.trust.root_bytes(),
            hardware_class=self._config.device.hardware_class,
            floor=floor,
            now=now,
        )

    def verify(self, source: Source, repository: str, digest: str, *, model: str) -> None:
        """Accept an artifact's origin and its passing gate verdict for this class.

        Raises:
            TrustError: as `trust.sigstore.verify_artifact`.
            TransportError: the source cannot be read.
        """
        from edgewright_agent.trust import sigstore

        keys = [sigstore.load_key(pem) for pem in self._config.trust.key_bytes()]
        sigstore.verify_artifact(
            source, repository, digest, keys, model=model, hardware_class=self._config.device.hardware_class
        )
