"""The fleet: where artifacts go, who signs, which devices run what."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgewright.spec.base import (
    Document,
    FilePath,
    Name,
    SemanticVersion,
    Spec,
    Text,
    contradiction,
)
from edgewright.spec.quantity import Percent, Seconds

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

IssuerUrl = Annotated[
    str,
    Text(
        "the address of an OpenID Connect issuer",
        r"https?://[^\s@]+",
        ("https://token.actions.githubusercontent.com",),
        max_length=1024,
    ),
]
"""An OpenID Connect issuer, as certificates name it."""

Identity = Annotated[
    str,
    Text(
        "an e-mail address or a URI, without spaces",
        r"[^\s]+",
        ("https://github.com/acme/fleet/.github/workflows/release.yml@refs/heads/main", "ada@acme.example"),
        max_length=1024,
    ),
]
"""Who signs: the subject alternative name of a Sigstore certificate."""

IdentityPattern = Annotated[
    str,
    Text(
        "a regular expression",
        r"\S(.*\S)?",
        (r"https://github\.com/acme/fleet/\.github/workflows/release\.yml@refs/tags/v.*",),
        max_length=1024,
    ),
]
"""A regular expression over identities; it must match the whole."""

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
    client_certificate: FilePath | None = None
    """Certificate that the pipeline shows to a registry that asks for one (PEM)."""
    client_key: SecretRef | None = None
    """Key of `clientCertificate`; TLS reads it from a file, so `file:PATH`."""


KEY_FIELDS = ("private_key", "public_key", "passphrase")
"""Fields of `Signing` in mode `key`."""
KEYLESS_FIELDS = ("trust_config", "identity_token", "issuer", "identity", "identity_pattern")
"""Those in mode `keyless`."""
PUBLIC_GOOD = "public-good"
"""What `trustConfig` calls sigstore.dev."""


class Signing(Spec):
    """Who signs artifacts and gate reports: a key of yours, or whoever a Sigstore instance knows (keyless)."""

    mode: Literal["key", "keyless"] = "key"
    """`key`: a self-managed ECDSA P-256 key. `keyless`: a certificate of ten minutes for the identity that signs, from
    any Sigstore instance; devices pin issuer and identity. Both are verified offline."""
    private_key: SecretRef = "file:.edgewright/keys/signing.key"
    """Mode `key`: PEM private key."""
    public_key: FilePath = ".edgewright/keys/signing.pub"
    """Mode `key`: PEM public key that devices pin."""
    passphrase: SecretRef | None = None
    """Mode `key`: passphrase of the private key."""
    trust_config: FilePath | None = None
    """Mode `keyless`: the Sigstore instance, a ClientTrustConfig (JSON file) or `public-good` for sigstore.dev. The
    trusted root in it reaches devices as a signed document. Mode `key` needs it when the policy names an identity."""
    identity_token: SecretRef | None = None
    """Mode `keyless`: OpenID Connect token of who signs; absent: that of the CI job, or a browser on a terminal."""
    issuer: IssuerUrl | None = None
    """Mode `keyless`: OpenID Connect issuer that vouches for the identity; compared exactly."""
    identity: Identity | None = None
    """Mode `keyless`: who signs, as certificates name it: an e-mail address, or the URI of a workflow at a ref."""
    identity_pattern: IdentityPattern | None = None
    """Mode `keyless`, instead of `identity`: a regular expression that must match the whole of it."""

    @property
    def verified_with(self) -> str | None:
        """The file that tells what devices verify signatures with; None for the public instance, which has no file."""
        if self.mode == "key":
            return self.public_key
        return None if self.trust_config == PUBLIC_GOOD else self.trust_config


class Expiry(Spec):
    """How long each metadata file is believed."""

    root: Seconds = 365 * 86400.0
    """Root."""
    targets: Seconds = 90 * 86400.0
    """Targets: who signs artifacts and rollouts, and what devices believe."""
    artifacts: Seconds = 90 * 86400.0
    """Class roles: which artifacts exist."""
    rollout: Seconds = 14 * 86400.0
    """Rollout: who should run what."""
    snapshot: Seconds = 14 * 86400.0
    """Snapshot."""
    timestamp: Seconds = 7 * 86400.0
    """Timestamp: how long a cut-off device keeps installing."""


KeyUri = Annotated[
    str,
    Text(
        "the address of a private key in a token or a key service: hsm:, gcpkms:, awskms:, azurekms: or hv:",
        r"(hsm|gcpkms|awskms|azurekms|hv):\S*",
        ("hsm:2?label=release",),
        max_length=1024,
    ),
]
"""Where a private key is that never leaves its token or service, as securesystemslib's signers write it."""


class RoleKey(Spec):
    """A key that a token or a key service holds."""

    name: Name
    """Name; its public half is the file `<trust.keys>/<name>.pub`."""
    uri: KeyUri
    """Where the private half is: `hsm:[ID][?label=TOKEN]` (PKCS #11), `gcpkms:…`, `awskms:…`, `azurekms:…`, `hv:…`."""


class RoleKeys(Spec):
    """Who signs a role."""

    threshold: int = Field(default=1, ge=1, le=16)
    """How many of the keys have to sign."""
    keys: tuple[Name | RoleKey, ...] = Field(min_length=1, max_length=16)
    """Keys: names of files `<trust.keys>/<name>.key` and `.pub`, or `{name, uri}`."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the keys, in their order."""
        return tuple(key if isinstance(key, str) else key.name for key in self.keys)


class Roles(Spec):
    """Who signs which metadata; a role that is not named has one key with the role's own name."""

    root: RoleKeys | None = None
    """Root: names the keys of root, targets, snapshot and timestamp. Several keys, kept offline, in several hands."""
    targets: RoleKeys | None = None
    """Targets: names the keys of class roles and rollout, and signs what devices believe. May be offline."""
    artifacts: RoleKeys | None = None
    """Class roles: which artifacts exist."""
    classes: dict[Name, RoleKeys] = Field(default_factory=dict)
    """Hardware classes whose artifacts other keys sign."""
    rollout: RoleKeys | None = None
    """Rollout: which devices run which artifact."""
    snapshot: RoleKeys | None = None
    """Snapshot."""
    timestamp: RoleKeys | None = None
    """Timestamp."""

    def named(self) -> dict[tuple[str, ...], RoleKeys]:
        """Return what fleet.yaml says, by the place it says it (`("root",)`, `("classes", "pi")`)."""
        found: dict[tuple[str, ...], RoleKeys] = {}
        for name in type(self).model_fields:
            keys = getattr(self, name)
            if isinstance(keys, RoleKeys):
                found[(name,)] = keys
        return {**found, **{("classes", name): keys for name, keys in self.classes.items()}}


class Trust(Spec):
    """The TUF repository."""

    keys: FilePath = ".edgewright/keys"
    """Folder of the role keys."""
    metadata: FilePath = ".edgewright/tuf"
    """Folder of the metadata files."""
    passphrase: SecretRef | None = None
    """Passphrase of the role keys."""
    pin: SecretRef | None = None
    """PIN of the token that holds role keys (`hsm:` addresses)."""
    roles: Roles = Field(default_factory=Roles)
    """Who signs which metadata."""
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


class Experiment(Spec):
    """A second version beside the one a group runs, to compare the two on live requests."""

    name: Name
    """Name; with a device's id it decides which requests take part, so another name draws others."""
    kind: Literal["shadow", "ab"]
    """`shadow`: it sees requests too, and its answers are only counted and compared. `ab`: it answers its share."""
    share: Percent = 100.0
    """Of a device's requests: how many it sees (`shadow`) or answers (`ab`)."""
    version: SemanticVersion | None = None
    """Released version that is compared; absent: the newest."""


class Slot(Spec):
    """A model that a group runs."""

    model: Name
    """Name under `models/`."""
    pin: SemanticVersion | None = None
    """Stay on this released version; absent: follow the newest release."""
    experiment: Experiment | None = None
    """A second version that runs beside it; absent: none."""


class Group(Spec):
    """Devices that share models and a rollout."""

    name: Name
    """Name."""
    selector: Selector = Field(default_factory=Selector)
    """Devices. The first group in the file that matches a device and names a model decides it."""
    models: tuple[Slot, ...] = Field(min_length=1)
    """Models."""


class PolicySigner(Spec):
    """Somebody whose signature counts: a public key, or an identity in short-lived certificates."""

    name: Name
    """What demands call it."""
    public_key: FilePath | None = None
    """PEM public key (ECDSA P-256)."""
    issuer: IssuerUrl | None = None
    """OIDC issuer that vouches for the identity, compared exactly."""
    identity: Identity | None = None
    """Subject of the certificate, compared exactly: a workflow's address or an e-mail address."""
    identity_pattern: IdentityPattern | None = None
    """Regular expression that must match the whole subject; instead of `identity`."""

    @model_validator(mode="after")
    def _is_a_key_or_an_identity(self) -> PolicySigner:
        """Check that it is exactly one of the two.

        Raises:
            PydanticCustomError: says what is missing or too much.
        """
        subjects = [text for text in (self.identity, self.identity_pattern) if text is not None]
        if self.public_key is not None and (self.issuer is not None or subjects):
            raise contradiction("a signer is either 'publicKey' or 'issuer' with an identity, not both")
        if self.public_key is None and (self.issuer is None or len(subjects) != 1):
            raise contradiction(
                "a signer needs 'publicKey', or 'issuer' with one of 'identity' and 'identityPattern'"
            )
        return self


class PolicyDemand(Spec):
    """An attestation that artifacts must carry; a signature and a passing gate report are demanded in any case."""

    attestation: Literal["signature", "gate-report", "provenance", "bom"]
    """What must be attested."""
    signers: tuple[Name, ...] | None = Field(default=None, min_length=1)
    """Who may have signed it; absent: every signer."""
    classes: tuple[Name, ...] | None = Field(default=None, min_length=1)
    """Hardware classes that demand it; absent: every class."""
    builder: Identity | None = None
    """With `provenance`: the one builder that may have made the artifact, as its provenance names it (`builder.id`)."""

    @model_validator(mode="after")
    def _builders_are_named_by_provenance(self) -> PolicyDemand:
        """Check that a builder is asked of provenance only.

        Raises:
            PydanticCustomError: another attestation names no builder.
        """
        if self.builder is not None and self.attestation != "provenance":
            raise contradiction("only 'provenance' names a builder")
        return self


class Policy(Spec):
    """Whom devices believe, and what artifacts must carry; signed by the TUF role `targets`."""

    signers: tuple[PolicySigner, ...] = Field(min_length=1)
    """Who may sign."""
    demands: tuple[PolicyDemand, ...] = ()
    """What must be attested; several demands of one attestation must all be met."""


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
    policy: Policy | None = None
    """Who may sign what; absent: the fleet's own signer, a signature and a gate report."""
    devices: Devices = Field(default_factory=Devices)
    """Certificates of enrolled devices."""
    groups: tuple[Group, ...] = ()
    """Groups."""
