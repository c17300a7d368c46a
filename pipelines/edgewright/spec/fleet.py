"""The fleet: where artifacts go, who signs, which devices run what."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgewright.spec.base import Document, Name, Spec
from edgewright.spec.quantity import Seconds

SecretRef = Annotated[str, Field(pattern=r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)$")]
"""Where a secret is found: `env:NAME` or `file:PATH`; never the secret itself."""


class Credentials(Spec):
    """User name and password of the registry, by reference."""

    username: SecretRef
    """Reference of the user name."""
    password: SecretRef
    """Reference of the password or token."""


class Registry(Spec):
    """Where artifacts and metadata are published."""

    url: Annotated[str, Field(pattern=r"^(https?://[^/]+(/.+)?|oci:.+)$")]
    """`https://host/prefix`, `http://localhost:5000/prefix`, or `oci:DIR` for OCI layouts in a directory."""
    credentials: Credentials | None = None
    """How to log in."""
    ca_file: str | None = None
    """Certificate authority of a private registry (PEM)."""


class Signing(Spec):
    """Who signs artifacts and gate reports."""

    mode: Literal["key"] = "key"
    """`key`: a self-managed ECDSA P-256 key, verifiable offline."""
    private_key: SecretRef = "file:.edgewright/keys/signing.key"
    """PEM private key."""
    public_key: str = ".edgewright/keys/signing.pub"
    """PEM public key that devices pin."""
    passphrase: SecretRef | None = None
    """Passphrase of the private key."""


class Expiry(Spec):
    """How long each metadata file is believed."""

    root: Seconds = 365 * 86400.0
    """Root."""
    targets: Seconds = 90 * 86400.0
    """Targets: which artifacts exist."""
    rollout: Seconds = 14 * 86400.0
    """Rollout: who should run what."""
    snapshot: Seconds = 14 * 86400.0
    """Snapshot."""
    timestamp: Seconds = 7 * 86400.0
    """Timestamp: how long a cut-off device keeps installing."""


class Trust(Spec):
    """The TUF repository."""

    keys: str = ".edgewright/keys"
    """Folder of the role keys."""
    metadata: str = ".edgewright/tuf"
    """Folder of the metadata files."""
    passphrase: SecretRef | None = None
    """Passphrase of the role keys."""
    expiry: Expiry = Expiry()
    """Lifetimes."""


class Selector(Spec):
    """Which devices belong to a group."""

    match_labels: dict[str, str] = {}
    """Labels a device must carry; none: every device."""


class Slot(Spec):
    """A model that a group runs."""

    model: Name
    """Name under `models/`."""
    pin: Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$")] | None = None
    """Stay on this released version; absent: follow the newest release."""


class Group(Spec):
    """Devices that share models and a rollout."""

    name: Name
    """Name."""
    selector: Selector = Selector()
    """Devices. The first group in the file that matches a device and names a model decides it."""
    models: tuple[Slot, ...] = Field(min_length=1)
    """Models."""


class Fleet(Document):
    """The fleet: `fleet.yaml`."""

    name: Name
    """Name of the fleet."""
    registry: Registry
    """Registry."""
    signing: Signing = Signing()
    """Signing of artifacts."""
    trust: Trust = Trust()
    """Signed desired state."""
    groups: tuple[Group, ...] = ()
    """Groups."""
