"""Rules of the policy: it names signers and classes that exist, and what it demands can be met by what is published."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edgewright.spec.fleet import Fleet, PolicySigner, Signing
from edgewright.spec.problem import did_you_mean
from edgewright.spec.rules import Context, Finding, repeated, rule

_PEM = "-----BEGIN PUBLIC KEY-----"


@rule(Fleet, "policy")
def signers_have_their_own_names(fleet: Fleet, context: Context) -> Iterator[Finding]:
    """Demands speak of signers by name."""
    for index, first, name in repeated(signer.name for signer in _signers(fleet)):
        line = context.loaded.source.at(("policy", "signers", first)).line
        yield Finding(("policy", "signers", index, "name"), f"signer '{name}' is already on line {line}")


@rule(Fleet, "policy")
def demands_name_what_exists(fleet: Fleet, context: Context) -> Iterator[Finding]:
    """A demand of an unknown signer could never be met, one of an unknown class would be of nobody."""
    names = [signer.name for signer in _signers(fleet)]
    for index, demand in enumerate(fleet.policy.demands if fleet.policy else ()):
        for place, name in enumerate(demand.signers or ()):
            if name not in names:
                message, hint = f"there is no signer '{name}'", did_you_mean(name, names, "signers are")
                yield Finding(("policy", "demands", index, "signers", place), message, hint)
        for place, name in enumerate(demand.classes or ()):
            if name not in context.draft.hardware:
                message = f"there is no hardware class '{name}' (hardware/{name}.yaml)"
                hint = did_you_mean(name, context.draft.hardware, "classes are")
                yield Finding(("policy", "demands", index, "classes", place), message, hint)


@rule(Fleet, "policy")
def identity_patterns_compile(fleet: Fleet, context: Context) -> Iterator[Finding]:
    """A device could not read a policy with a broken pattern, and would install nothing."""
    for index, signer in enumerate(_signers(fleet)):
        if signer.identity_pattern is not None:
            try:
                re.compile(signer.identity_pattern)
            except (re.error, OverflowError, RecursionError) as error:
                message = f"this is no regular expression: {error}"
                yield Finding(("policy", "signers", index, "identityPattern"), message)


@rule(Fleet, "policy", "signing")
def identities_can_be_checked(fleet: Fleet, context: Context) -> Iterator[Finding]:
    """Devices check certificates by a trusted root; without one, what an identity signed would silently not count."""
    if fleet.signing.trust_config is not None or fleet.signing.mode == "keyless":  # told by another rule
        return
    for index, signer in enumerate(_signers(fleet)):
        if signer.issuer is not None:
            message = "devices could not check its certificates: no Sigstore instance is named"
            hint = "write signing.trustConfig: trust.json, or public-good; or remove the signer"
            yield Finding(("policy", "signers", index, "issuer"), message, hint, value=False)


@rule(Fleet, "policy", "signing")
def public_keys_can_be_read(fleet: Fleet, context: Context) -> Iterator[Finding]:
    """A key that devices are to believe is in the repository; the fleet's own may not have been made yet."""
    for index, signer in enumerate(_signers(fleet)):
        if signer.public_key is None or signer.public_key == fleet.signing.public_key:
            continue
        try:
            text = (context.draft.root / signer.public_key).read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            message = f"the public key cannot be read: {reason}"
            yield Finding(("policy", "signers", index, "publicKey"), message)
            continue
        if _PEM not in text:
            message = "this is not a public key in PEM"
            yield Finding(
                ("policy", "signers", index, "publicKey"), message, f"a file that begins with {_PEM}"
            )


@rule(Fleet, "policy", "signing")
def demands_can_be_met_by_what_is_published(fleet: Fleet, context: Context) -> Iterator[Finding]:
    """Every attestation is made by the fleet's own signer: where it may not sign, nothing could ever be installed."""
    if fleet.policy is None:
        return
    own = {
        signer.name
        for signer in fleet.policy.signers
        if is_own_signer(signer, fleet.signing) or _same_file(signer, fleet.signing, context)
    }
    if not own:
        message = "none of the signers is the fleet's own (`signing`), so devices could not install anything"
        yield Finding(("policy", "signers"), message, "add it as a signer", value=False)
        return
    for index, demand in enumerate(fleet.policy.demands):
        if demand.signers is not None and not own & set(demand.signers):
            message = (
                f"the fleet's own signer may not sign the {demand.attestation}, so nothing could be installed"
            )
            yield Finding(
                ("policy", "demands", index, "signers"),
                message,
                f"add {' or '.join(sorted(own))}",
                value=False,
            )


def is_own_signer(signer: PolicySigner, signing: Signing) -> bool:
    """Whether a signer of the policy is what the fleet itself signs with."""
    if signing.mode == "key":
        return signer.public_key is not None and signer.public_key == signing.public_key
    if signer.issuer is None or signer.issuer != signing.issuer:
        return False
    if signer.identity_pattern is not None and signing.identity is not None:
        try:
            return re.fullmatch(signer.identity_pattern, signing.identity) is not None
        except (re.error, OverflowError, RecursionError):
            return True  # told by another rule
    if signer.identity is not None and signing.identity_pattern is not None:
        try:
            return re.fullmatch(signing.identity_pattern, signer.identity) is not None
        except (re.error, OverflowError, RecursionError):
            return True
    return (signer.identity, signer.identity_pattern) == (signing.identity, signing.identity_pattern)


def _same_file(signer: PolicySigner, signing: Signing, context: Context) -> bool:
    """Whether two paths hold one key: the policy may name the copy that is kept in Git."""
    if signing.mode != "key" or signer.public_key is None:
        return False
    try:
        one, other = (
            (context.draft.root / path).read_text().split()
            for path in (signer.public_key, signing.public_key)
        )
    except (OSError, UnicodeDecodeError):
        # The fleet's key is not here (a check of a pull request, say): nothing can be told.
        return True
    return one == other


def _signers(fleet: Fleet) -> tuple[PolicySigner, ...]:
    return fleet.policy.signers if fleet.policy else ()
