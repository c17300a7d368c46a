"""Rules of the fleet: groups name models that exist, and every group can have an effect."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from edgewright.spec.base import camel_case
from edgewright.spec.fleet import KEY_FIELDS, KEYLESS_FIELDS, Expiry, Fleet
from edgewright.spec.problem import did_you_mean
from edgewright.spec.rules import Context, Finding, repeated, rule
from edgewright.spec.source import Path

_SHORTEST_S = 1
_LONGEST_S = 10 * 365 * 86400
_SHORTEST_CERTIFICATE_S = 3600
_LONGEST_CERTIFICATE_S = 2 * 365 * 86400


@rule(Fleet, "groups")
def groups_have_their_own_names(fleet: Fleet, context: Context) -> Iterator[Finding]:
    """Reports and rollouts speak of groups by name."""
    for index, first, name in repeated(group.name for group in fleet.groups):
        line = context.loaded.source.at(("groups", first)).line
        yield Finding(("groups", index, "name"), f"group '{name}' is already on line {line}")


@rule(Fleet, "groups")
def group_models_exist(fleet: Fleet, context: Context) -> Iterator[Finding]:
    """Every model has its folder, and a group names it once."""
    for index, group in enumerate(fleet.groups):
        for place, slot in enumerate(group.models):
            if slot.model not in context.draft.models:
                message = f"there is no model '{slot.model}' (models/{slot.model}/model.yaml)"
                hint = did_you_mean(slot.model, context.draft.models, "models are")
                yield Finding(("groups", index, "models", place, "model"), message, hint)
        for place, _first, name in repeated(slot.model for slot in group.models):
            yield Finding(("groups", index, "models", place, "model"), f"'{name}' is here twice")


@rule(Fleet, "groups")
def experiments_compare_two_versions(fleet: Fleet, context: Context) -> Iterator[Finding]:
    """A version compared with itself would tell nothing, and so would a share of no requests."""
    for index, group in enumerate(fleet.groups):
        for place, slot in enumerate(group.models):
            experiment = slot.experiment
            if experiment is None:
                continue
            path: Path = ("groups", index, "models", place, "experiment")
            if experiment.version == slot.pin:
                message = "this compares a version with itself"
                hint = "pin the group to the version it runs, or name another version here"
                yield Finding(path, message, hint, value=False)
            if not 0 < experiment.share <= 100:
                yield Finding((*path, "share"), "a share lies above 0% and up to 100%", "write 10%")
        names = [slot.experiment.name for slot in group.models if slot.experiment]
        for _index, _first, name in repeated(names):
            place = max(
                i for i, slot in enumerate(group.models) if slot.experiment and slot.experiment.name == name
            )
            message = f"experiment '{name}' is in this group already"
            yield Finding(("groups", index, "models", place, "experiment", "name"), message)


@rule(Fleet, "registry")
def a_log_in_is_whole_and_encrypted(fleet: Fleet, context: Context) -> Iterator[Finding]:
    """A user name needs its password, a helper stands alone, and neither travels where it can be read."""
    credentials = fleet.registry.credentials
    if credentials is None:
        return
    named = [bool(credentials.username), bool(credentials.password)]
    place = ("registry", "credentials")
    if credentials.helper and any(named):
        yield Finding((*place, "helper"), "a helper knows user name and password", "keep one of the two")
    elif not credentials.helper and not all(named):
        yield Finding(place, "a log-in is username and password, or helper")
    url = urlsplit(fleet.registry.url)
    if url.scheme == "http" and not _is_loopback(url.hostname or ""):
        message = "a password is not sent over http, where it could be read on the way"
        yield Finding(("registry", "url"), message, "use https:// (caFile names a private authority)")


@rule(Fleet, "signing", "policy")
def signing_is_of_one_mode(fleet: Fleet, context: Context) -> Iterator[Finding]:
    """What belongs to the other mode would silently do nothing."""
    foreign: tuple[str, ...] = KEYLESS_FIELDS if fleet.signing.mode == "key" else KEY_FIELDS
    other = "keyless" if fleet.signing.mode == "key" else "key"
    if any(signer.issuer is not None for signer in (fleet.policy.signers if fleet.policy else ())):
        foreign = tuple(field for field in foreign if field != "trust_config")  # for those identities
    for field in foreign:
        if field in fleet.signing.model_fields_set:
            key = camel_case(field)
            message = f"{key} belongs to mode {other}; this is mode {fleet.signing.mode}"
            yield Finding(("signing", key), message, f"write mode: {other}, or remove {key}", value=False)


@rule(Fleet, "signing")
def keyless_says_who_signs(fleet: Fleet, context: Context) -> Iterator[Finding]:
    """An instance alone gives certificates to anybody: devices must know whose to believe."""
    signing = fleet.signing
    if signing.mode != "keyless":
        return
    example = "write issuer: https://token.actions.githubusercontent.com for GitHub Actions"
    if signing.trust_config is None:
        message = "mode keyless needs trustConfig, the Sigstore instance"
        yield Finding(("signing", "mode"), message, "write trustConfig: trust.json, or public-good")
    if signing.issuer is None:
        yield Finding(("signing", "mode"), "mode keyless needs issuer: who vouches for the identity", example)
    if signing.identity is None and signing.identity_pattern is None:
        message = "mode keyless needs identity or identityPattern: whose certificates devices believe"
        yield Finding(("signing", "mode"), message, "write the workflow's URI, or an e-mail address")
    if signing.identity is not None and signing.identity_pattern is not None:
        message = "there is an identity already; one of the two decides"
        yield Finding(("signing", "identityPattern"), message, "remove one", value=False)
    if signing.identity_pattern is not None:
        try:
            re.compile(signing.identity_pattern)
        except (re.error, OverflowError, RecursionError) as error:
            yield Finding(("signing", "identityPattern"), f"not a regular expression: {error}")


@rule(Fleet, "trust")
def metadata_lives_a_sensible_time(fleet: Fleet, context: Context) -> Iterator[Finding]:
    """Metadata that is born expired helps nobody, and a lifetime beyond a decade is no lifetime."""
    for role in Expiry.model_fields:
        seconds = getattr(fleet.trust.expiry, role)
        if not _SHORTEST_S <= seconds <= _LONGEST_S:
            message = f"{role} metadata lives between a second and ten years"
            yield Finding(("trust", "expiry", role), message, "write 7d, for example")


@rule(Fleet, "trust")
def thresholds_can_be_met(fleet: Fleet, context: Context) -> Iterator[Finding]:
    """A role needs as many different keys as have to sign."""
    for place, role in fleet.trust.roles.named().items():
        path: Path = ("trust", "roles", *place)
        for index, _first, name in repeated(role.names):
            yield Finding((*path, "keys", index), f"key '{name}' is here twice, and counts once")
        if role.threshold > len(set(role.names)):
            message = f"{role.threshold} signatures are asked of {len(set(role.names))} keys"
            yield Finding((*path, "threshold"), message, "name more keys, or ask for fewer")


@rule(Fleet, "trust")
def keys_have_one_purpose(fleet: Fleet, context: Context) -> Iterator[Finding]:
    """A key that signs artifacts signs no metadata, and a root key, which stays offline, signs nothing else."""
    roles = fleet.trust.roles.named()
    roots = set(roles[("root",)].names if ("root",) in roles else ("root",))
    addresses: dict[str, str | None] = {}
    for place, role in roles.items():
        for index, key in enumerate(role.keys):
            path: Path = ("trust", "roles", *place, "keys", index)
            name, uri = (key, None) if isinstance(key, str) else (key.name, key.uri)
            if name == "signing":
                yield Finding(path, "'signing' is the key of artifacts and signs no metadata")
            elif place != ("root",) and name in roots:
                yield Finding(path, f"'{name}' is a key of root, which signs nothing else")
            if addresses.setdefault(name, uri) != uri:
                yield Finding(path, f"'{name}' has another address elsewhere in this file")


@rule(Fleet, "trust")
def classes_with_their_own_keys_exist(fleet: Fleet, context: Context) -> Iterator[Finding]:
    """Keys for a class nobody knows would never sign."""
    for name in fleet.trust.roles.classes:
        if name not in context.draft.hardware:
            message = f"there is no hardware class '{name}' (hardware/{name}.yaml)"
            hint = did_you_mean(name, context.draft.hardware, "classes are")
            yield Finding(("trust", "roles", "classes", name), message, hint)


@rule(Fleet, "devices")
def device_certificates_live_a_sensible_time(fleet: Fleet, context: Context) -> Iterator[Finding]:
    """A certificate must outlive the way to its renewal, and one for years is what enrolment is meant to avoid."""
    for field, key in (("lifetime", "lifetime"), ("crl_lifetime", "crlLifetime")):
        if not _SHORTEST_CERTIFICATE_S <= getattr(fleet.devices, field) <= _LONGEST_CERTIFICATE_S:
            yield Finding(
                ("devices", key), "this lies between an hour and two years", "write 90d, for example"
            )


@rule(Fleet, "registry")
def a_client_certificate_has_its_key(fleet: Fleet, context: Context) -> Iterator[Finding]:
    """One without the other is a mistake that would only show at the registry."""
    certificate, key = fleet.registry.client_certificate, fleet.registry.client_key
    if (certificate is None) != (key is None):
        there, missing = (
            ("clientCertificate", "clientKey") if key is None else ("clientKey", "clientCertificate")
        )
        yield Finding(("registry", there), f"{there} needs {missing}", f"add {missing}", value=False)
    elif key is not None and key.startswith("env:"):
        yield Finding(("registry", "clientKey"), "TLS reads this key from a file", "write file:PATH")


@rule(Fleet, "groups")
def groups_are_reachable(fleet: Fleet, context: Context) -> Iterator[Finding]:
    """The first matching group decides a model, so a wider group above hides a narrower one below."""
    for index, group in enumerate(fleet.groups):
        wanted = group.selector.match_labels.items()
        for place, slot in enumerate(group.models):
            for above, earlier in enumerate(fleet.groups[:index]):
                wider = earlier.selector.match_labels.items() <= wanted
                if wider and slot.model in (other.model for other in earlier.models):
                    line = context.loaded.source.at(("groups", above)).line
                    message = f"never used: group '{earlier.name}' on line {line} already decides this model"
                    yield Finding(
                        ("groups", index, "models", place, "model"), message, "put narrower groups first"
                    )
                    break


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
