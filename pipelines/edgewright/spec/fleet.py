"""The fleet: where artifacts go, who signs, which devices run what."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgewright.spec.base import Document, FilePath, Name, SemanticVersion, Spec, Text
from edgewright.spec.quantity import Seconds

SecretRef = Annotated[
    str,
    Text(
        "a reference to a secret, never the secret itself: env:NAME or file:PATH",
        r"env:[A-Za-z_][A-Za-z0-9_]*|file:(?!.*-----BEGIN)\S(.*\S)?",
        ("env:REGISTRY_PASSWORD",),
        max_length=1024,
    ),
]
"""Where a secret is found: `env:NAME` or `file:PATH`; never the secret itself."""

RegistryUrl = Annotated[
    str,
    Text(
        "https://host/prefix, http://host:port/prefix or oci:DIR, without a user name or password in it",
        r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[a-z0-9]+([._/-]+[a-z0-9]+)*)?/?|oci:[^\s@]+",
        ("https://registry.example/edge", "oci:dist/registry"),
    ),
]

Label = Annotated[
    str,
    Text(
        "a label: letters, digits, '-', '_', '.' and '/'", r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,250}[A-Za-z0-9])?"
    ),
]


class Credentials(Spec):
    """User name and password of the registry, by reference."""

    username: SecretRef
    """Reference of the user name."""
    password: SecretRef
    """Reference of the password or token."""


class Registry(Spec):
    """Where artifacts and metadata are published."""

    url: RegistryUrl
    """`https://host/prefix`, `http://localhost:5000/prefix`, or `oci:DIR` for OCI layouts in a directory."""
    credentials: Credentials | None = None
    """How to log in."""
    compression: Literal["none", "gzip"] = "none"
    """How layers are stored: `gzip` compresses those that lose a tenth by it (int8 and pruned weights often do)."""
    ca_file: FilePath | None = None
    """Certificate authority of a private registry (PEM)."""
    client_certificate: FilePath | None = None
    """Certificate that the pipeline shows to a registry that asks for one (PEM)."""
    client_key: SecretRef | None = None
    """Key of `clientCertificate`; TLS reads it from a file, so `file:PATH`."""


class Signing(Spec):
    """Who signs artifacts and gate reports."""

    mode: Literal["key"] = "key"
    """`key`: a self-managed ECDSA P-256 key, verifiable offline."""
    private_key: SecretRef = "file:.edgewright/keys/signing.key"
    """PEM private key."""
    public_key: FilePath = ".edgewright/keys/signing.pub"
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

    keys: FilePath = ".edgewright/keys"
    """Folder of the role keys."""
    metadata: FilePath = ".edgewright/tuf"
    """Folder of the metadata files."""
    passphrase: SecretRef | None = None
    """Passphrase of the role keys."""
    expiry: Expiry = Field(default_factory=Expiry)
    """Lifetimes."""


class DeviceAuthority(Spec):
    """Who issues the devices' certificates: this fleet's own authority."""

    key: SecretRef = "file:.edgewright/device-ca.key"
    """Private key (PEM)."""
    certificate: FilePath = "devices/ca.pem"
    """Certificate that devices and registries pin; belongs into Git."""
    passphrase: SecretRef | None = None
    """Passphrase of the private key."""
    issued: FilePath = ".edgewright/devices"
    """Folder of every certificate that was issued and has not ended; keep it as you keep `trust.metadata`."""


class Devices(Spec):
    """Identity of the devices: who issues their certificates, and for how long."""

    ca: DeviceAuthority = Field(default_factory=DeviceAuthority)
    """The devices' certificate authority."""
    lifetime: Seconds = 90 * 86400.0
    """How long a device's certificate is valid; the device renews it when a third of that is left."""
    crl_lifetime: Seconds = 30 * 86400.0
    """How long a revocation list is believed: `edgewright devices certify` must run more often than that."""


class Selector(Spec):
    """Which devices belong to a group."""

    match_labels: dict[Label, Label] = Field(default_factory=dict)
    """Labels a device must carry; none: every device."""


class Slot(Spec):
    """A model that a group runs."""

    model: Name
    """Name under `models/`."""
    pin: SemanticVersion | None = None
    """Stay on this released version; absent: follow the newest release."""


class Group(Spec):
    """Devices that share models and a rollout."""

    name: Name
    """Name."""
    selector: Selector = Field(default_factory=Selector)
    """Devices. The first group in the file that matches a device and names a model decides it."""
    models: tuple[Slot, ...] = Field(min_length=1)
    """Models."""


class Fleet(Document):
    """The fleet: `fleet.yaml`."""

    name: Name
    """Name of the fleet."""
    registry: Registry
    """Registry."""
    signing: Signing = Field(default_factory=Signing)
    """Signing of artifacts."""
    trust: Trust = Field(default_factory=Trust)
    """Signed desired state."""
    devices: Devices = Field(default_factory=Devices)
    """Certificates of enrolled devices."""
    groups: tuple[Group, ...] = ()
    """Groups."""
