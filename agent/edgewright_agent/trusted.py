"""The real answer to "may this be used?": TUF says what and how fresh, Sigstore who and with which verdict.

>>> trust = DeviceTrust(config)                              # doctest: +SKIP
>>> trust.refresh(source, floor=Floor(), now=utc_now())      # doctest: +SKIP

Both are imported at their first use: a poll that finds nothing new does not pay for them.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from edgewright_agent.config import Config
from edgewright_agent.floor import Floor
from edgewright_agent.transport import Source

if TYPE_CHECKING:
    from edgewright_agent.trust.policy import Signer
    from edgewright_agent.trust.tuf import Desired


class Documents(Protocol):
    """The documents that `targets` signed, as the verified desired state holds them; None where it lists none."""

    @property
    def policy(self) -> bytes | None:
        """Who may sign what."""

    @property
    def trusted_root(self) -> bytes | None:
        """What certificates are checked by."""


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

    def verify(
        self,
        source: Source,
        repository: str,
        digest: str,
        *,
        model: str,
        desired: Documents,
    ) -> None:
        """Accept an artifact that carries what the policy demands for this class, by signers pinned here.

        Args:
            source: Untrusted.
            repository: Where the artifact is.
            digest: Its manifest.
            model: The model it is meant to be.
            desired: What `targets` says of signers.

        Raises:
            TrustError: as `trust.policy.parse_policy`, `trust.policy.demands_of`, `trust.sigstore.verify_artifact`.
            TransportError: the source cannot be read.
        """
        from edgewright_agent.trust import sigstore
        from edgewright_agent.trust.policy import demands_of, parse_policy

        hardware_class = self._config.device.hardware_class
        policy = parse_policy(desired.policy) if desired.policy is not None else None
        sigstore.verify_artifact(
            source,
            repository,
            digest,
            demands_of(policy, pins=self._pins(), hardware_class=hardware_class),
            model=model,
            hardware_class=hardware_class,
            trusted_root=desired.trusted_root,
        )

    def forget(self) -> None:
        """Empty the metadata cache: it saves transfers, and what must not be forgotten is in the record."""
        from edgewright_agent.trust import tuf

        tuf.forget(self._config.metadata)

    def _pins(self) -> list[Signer]:
        from edgewright_agent.trust.policy import IdentitySigner
        from edgewright_agent.trust.sigstore import key_signer

        trust = self._config.trust
        return [
            *(key_signer(path.name, pem) for path, pem in zip(trust.keys, trust.key_bytes(), strict=True)),
            *(IdentitySigner(pin.issuer, pin.issuer, pin.identity, pin.pattern) for pin in trust.identities),
        ]
