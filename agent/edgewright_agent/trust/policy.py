"""The policy: who may sign what, and which attestations a hardware class demands, as the `targets` role signs it.

>>> demands = demands_of(parse_policy(body), pins=(), hardware_class="raspberry-pi-4")      # doctest: +SKIP
>>> sorted(demands.signers)                                                                 # doctest: +SKIP
['https://edgewright.dev/gate-report/v1', 'https://sigstore.dev/cosign/sign/v1']

A device demands a signature and a passing gate report whatever a policy says; a policy can only ask for more. What the
device's own configuration pins holds beside it: a signer must satisfy both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgewright_agent.contract import ATTESTATIONS, MAX_POLICY_BYTES, PREDICATE_PROVENANCE, is_name
from edgewright_agent.errors import ConfigError, TrustError
from edgewright_agent.transport.document import parse_json
from edgewright_agent.trust.pattern import matches

ALWAYS = ("signature", "gate-report")
"""Attestations without which nothing is installed."""

_MAX_SIGNERS = 64
_MAX_DEMANDS = 256
_MAX_TEXT = 1024


@dataclass(frozen=True)
class ByKey:
    """A signature of a bare key; `fingerprint` is the sha256 of its SubjectPublicKeyInfo, in hex."""

    fingerprint: str

    def __str__(self) -> str:
        return f"key {self.fingerprint[:16]}"


@dataclass(frozen=True)
class ByIdentity:
    """A signature under a short-lived certificate: who the issuer says it was."""

    issuer: str
    identity: str

    def __str__(self) -> str:
        return f"{self.identity} ({self.issuer})"


By = ByKey | ByIdentity
"""Who made a signature that verified."""


@dataclass(frozen=True)
class KeySigner:
    """A bare public key (key mode): PEM, ECDSA P-256; `fingerprint` as in `ByKey`."""

    name: str
    pem: bytes
    fingerprint: str = field(default="", compare=False)

    def made(self, by: By) -> bool:
        """Whether a signature is this signer's."""
        return isinstance(by, ByKey) and bool(self.fingerprint) and by.fingerprint == self.fingerprint


@dataclass(frozen=True)
class IdentitySigner:
    """An identity in short-lived certificates (keyless mode).

    Attributes:
        issuer: URL of the OIDC issuer, compared exactly.
        identity: Subject alternative name (e-mail address or URI), compared exactly; None when `pattern` is given.
        pattern: Regular expression that must match the whole subject alternative name.
    """

    name: str
    issuer: str
    identity: str | None = None
    pattern: str | None = None

    def accepts(self, issuer: str, identity: str) -> bool:
        """Whether a certificate of this issuer and subject alternative name is this signer's."""
        # Bounded, because whoever asks for a certificate chooses the name that a pattern has to work on.
        if issuer != self.issuer or len(identity) > _MAX_TEXT:
            return False
        if self.identity is not None:
            return identity == self.identity
        return self.pattern is not None and matches(self.pattern, identity)

    def made(self, by: By) -> bool:
        """Whether a signature is this signer's."""
        return isinstance(by, ByIdentity) and self.accepts(by.issuer, by.identity)


Signer = KeySigner | IdentitySigner


@dataclass(frozen=True)
class Demand:
    """One attestation that must be there, by one of `signers` (names), for `classes` (None: every class).

    `builder`, with provenance only, is the one builder that may have made the artifact (SLSA `builder.id`).
    """

    attestation: str
    signers: tuple[str, ...]
    classes: tuple[str, ...] | None = None
    builder: str | None = None

    def concerns(self, hardware_class: str) -> bool:
        """Whether it is made of artifacts for this class."""
        return self.classes is None or hardware_class in self.classes


@dataclass(frozen=True)
class Policy:
    """A parsed policy."""

    signers: Mapping[str, Signer]
    demands: tuple[Demand, ...]

    def demands_for(self, hardware_class: str) -> dict[str, tuple[Signer, ...]]:
        """Return predicate type → who may have signed it, for one class.

        Several demands of one attestation must all be met, so only signers named by each of them are left. What is
        always demanded and not mentioned may be signed by every signer of the policy.
        """
        allowed: dict[str, set[str]] = {}
        for demand in self.demands:
            if demand.concerns(hardware_class):
                before = allowed.get(demand.attestation, set(self.signers))
                allowed[demand.attestation] = before & set(demand.signers)
        for attestation in ALWAYS:
            allowed.setdefault(attestation, set(self.signers))
        return {
            ATTESTATIONS[attestation]: tuple(self.signers[name] for name in sorted(names))
            for attestation, names in allowed.items()
        }

    def builders_for(self, hardware_class: str) -> frozenset[str]:
        """Return every builder that demands of one class name; provenance must name all of them, so two are none."""
        return frozenset(
            demand.builder
            for demand in self.demands
            if demand.builder is not None and demand.concerns(hardware_class)
        )


@dataclass(frozen=True)
class Demands:
    """What one artifact must carry here, and whose signature counts.

    Attributes:
        signers: Predicate type → who may have signed it.
        pins: What this device's own configuration allows; a signer must be one of these too. Empty: nothing is pinned.
        builders: What the provenance must name as its builder; empty: any.
    """

    signers: Mapping[str, tuple[Signer, ...]]
    pins: tuple[Signer, ...] = ()
    builders: frozenset[str] = frozenset()

    def accept(self, predicate_type: str, by: By) -> bool:
        """Whether a statement of this type counts when `by` signed it."""
        allowed = any(signer.made(by) for signer in self.signers.get(predicate_type, ()))
        return allowed and (not self.pins or any(pin.made(by) for pin in self.pins))

    def everybody(self) -> tuple[Signer, ...]:
        """Return every signer that is named at all, each once."""
        named = [signer for signers in self.signers.values() for signer in signers]
        return tuple(dict.fromkeys([*named, *self.pins]))

    def takes_certificates(self) -> bool:
        """Whether a certificate could satisfy any demand."""
        pinned = not self.pins or any(isinstance(pin, IdentitySigner) for pin in self.pins)
        return pinned and any(
            isinstance(signer, IdentitySigner) for signers in self.signers.values() for signer in signers
        )


def demands_of(policy: Policy | None, *, pins: Sequence[Signer], hardware_class: str) -> Demands:
    """Return what artifacts for a class must carry: as the policy says, and by a signer that is pinned too.

    Without a policy, what is always demanded may be signed by whoever is pinned.

    Raises:
        TrustError: `no-policy` when neither says whom to believe.
    """
    if policy is not None:
        return Demands(policy.demands_for(hardware_class), tuple(pins), policy.builders_for(hardware_class))
    if not pins:
        raise TrustError(
            "no-policy",
            "nothing says who may sign: the fleet publishes no policy and this device pins no key or identity",
        )
    return Demands({ATTESTATIONS[name]: tuple(pins) for name in ALWAYS}, tuple(pins))


def parse_policy(body: bytes) -> Policy:
    """Parse a policy document; unknown keys are left for newer agents.

    Raises:
        TrustError: `bad-policy`, saying where.
    """
    if len(body) > MAX_POLICY_BYTES:
        raise TrustError("bad-policy", f"the policy has more than {MAX_POLICY_BYTES} bytes")
    try:
        document = parse_json(body, "the policy")
    except ValueError as error:
        raise TrustError("bad-policy", str(error)) from None
    if not isinstance(document, dict) or document.get("version") != 1:
        raise _wrong("version", "1; is this agent too old?")
    signers, demands = document.get("signers"), document.get("demands")
    if not isinstance(signers, dict) or not 0 < len(signers) <= _MAX_SIGNERS:
        raise _wrong("signers", f"an object of 1 to {_MAX_SIGNERS} signers")
    if not isinstance(demands, list) or len(demands) > _MAX_DEMANDS:
        raise _wrong("demands", f"a list of at most {_MAX_DEMANDS}")
    known = {name: _signer(name, entry) for name, entry in signers.items()}
    return Policy(known, tuple(_demand(f"demands[{i}]", entry, known) for i, entry in enumerate(demands)))


def _signer(name: str, entry: Any) -> Signer:
    where = f"signers.{name[:80]}"
    if not is_name(name) or not isinstance(entry, dict):
        raise _wrong(where, "a signer under a name")
    if "publicKey" in entry:
        return _key(where, name, _text(where, entry, "publicKey", limit=4096).encode())
    issuer = _text(where, entry, "issuer")
    if ("identity" in entry) == ("identityPattern" in entry):
        raise _wrong(where, "a publicKey, or an issuer with one of identity and identityPattern")
    if "identity" in entry:
        return IdentitySigner(name, issuer, identity=_text(where, entry, "identity"))
    pattern = _text(where, entry, "identityPattern")
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise _wrong(f"{where}.identityPattern", f"a regular expression ({error})") from None
    return IdentitySigner(name, issuer, pattern=pattern)


def _key(where: str, name: str, pem: bytes) -> KeySigner:
    # Here, because reading the rest of a policy needs no cryptography.
    from edgewright_agent.trust.sigstore import key_signer

    try:
        return key_signer(name, pem)
    except ConfigError as error:
        raise _wrong(f"{where}.publicKey", f"an ECDSA P-256 key in PEM ({error})") from None


def _demand(where: str, entry: Any, signers: Mapping[str, Signer]) -> Demand:
    if not isinstance(entry, dict):
        raise _wrong(where, "an object")
    attestation = entry.get("attestation")
    if not isinstance(attestation, str) or attestation not in ATTESTATIONS:
        raise _wrong(f"{where}.attestation", f"one of {', '.join(ATTESTATIONS)}")
    names = entry.get("signers")
    if (
        not isinstance(names, list)
        or not names
        or not all(isinstance(n, str) and n in signers for n in names)
    ):
        raise _wrong(f"{where}.signers", "a list of names under signers")
    classes = entry.get("classes")
    if classes is not None and (not isinstance(classes, list) or not all(map(is_name, classes))):
        raise _wrong(f"{where}.classes", "a list of hardware classes")
    builder = _text(where, entry, "builder") if "builder" in entry else None
    if builder is not None and ATTESTATIONS[attestation] != PREDICATE_PROVENANCE:
        raise _wrong(f"{where}.builder", "said of provenance")
    return Demand(str(attestation), tuple(names), None if classes is None else tuple(classes), builder)


def _text(where: str, entry: Mapping[str, Any], key: str, *, limit: int = _MAX_TEXT) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value or len(value) > limit:
        raise _wrong(f"{where}.{key}", f"a text of at most {limit} characters")
    return value


def _wrong(where: str, expected: str) -> TrustError:
    return TrustError("bad-policy", f"the policy's {where} is not {expected}")
