"""The fleet: where artifacts go, who signs, which devices run what."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgewright.spec.base import Document, FilePath, Name, SemanticVersion, Spec, Text
from edgewright.spec.quantity import Seconds

SecretRef = Annotated[
    str,
    Text(
        "a reference to a secret, never the secret itself: env:NAME, file:PATH or credential:NAME",
        r"env:[A-Za-z_][A-Za-z0-9_]*|file:(?!.*-----BEGIN)\S(.*\S)?|credential:[A-Za-z0-9_][A-Za-z0-9_.-]*",
        ("env:REGISTRY_PASSWORD",),
        max_length=1024,
    ),
]
"""Where a secret is found: `env:NAME`, `file:PATH` or `credential:NAME` (systemd); never the secret itself."""

RegistryUrl = Annotated[
    str,
    Text(
        "https://host/prefix, http://host:port/prefix or oci:DIR, without a user name or password in it",
        r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[a-z0-9]+([._/-]+[a-z0-9]+)*)?/?|oci:[^\s@]+",
        ("https://registry.example/edge", "oci:dist/registry"),
    ),
]

Helper = Annotated[
    str,
    Text(
        "what follows docker-credential- in a program's name",
        r"[a-z0-9][a-z0-9._-]{0,63}",
        ("ecr-login",),
    ),
]

Label = Annotated[
    str,
    Text(
        "a label: letters, digits, '-', '_', '.' and '/'", r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,250}[A-Za-z0-9])?"
    ),
]


class Credentials(Spec):
    """The registry's log-in: user name and password by reference, or a program that knows them."""

    username: SecretRef | None = None
    """Reference of the user name."""
    password: SecretRef | None = None
    """Reference of the password or token."""
    helper: Helper | None = None
    """Credential helper: `docker-credential-NAME` is asked when the registry wants a log-in (`ecr-login`, `pass`)."""


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
    groups: tuple[Group, ...] = ()
    """Groups."""
