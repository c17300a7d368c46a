"""The form of the metadata this program writes: nothing else is signed, however it came into `staged/`.

>>> require_our_shape("targets", metadata.signed)          # doctest: +SKIP

People sign what `edgewright.trust.review` shows them. So whatever a role could say beyond that (keys of another kind or
under a name of somebody's choice, delegations of a class role, fields nobody knows) is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from securesystemslib.exceptions import UnsupportedAlgorithmError, VerificationError
from securesystemslib.signer import Key, SSlibKey
from tuf.api.metadata import Root, TargetFile, Targets

from edgewright.errors import TrustError
from edgewright.trust.delegation import paths_of
from edgewright.trust.repository import delegated
from edgewright.trust.roles import class_of, is_class
from edgewright_agent.contract import (
    ASSIGNMENT_TARGET,
    DELTAS_FIELD,
    KEY_NAME_FIELD,
    MAX_DELTA_BASES,
    POLICY_TARGET,
    ROLE_ROLLOUT,
    TRUSTED_ROOT_TARGET,
    artifact_target,
    is_digest,
    is_name,
)

_CUSTOM = {"model", "hardwareClass", "modelVersion", "build", "sequence", "runtime", "minAgent"}


def require_our_shape(role: str, signed: Root | Targets) -> None:
    """Refuse what this program does not write.

    Raises:
        TrustError: says what.
    """
    if signed.unrecognized_fields:
        raise _refused(role, f"say {', '.join(map(repr, signed.unrecognized_fields))}")
    if isinstance(signed, Root):
        _require_keys(role, signed.keys)
        _require_plain(role, signed.roles)
        return
    if role == "targets":
        _require_delegations(signed)
    elif signed.delegations is not None:
        raise _refused(role, "delegate what is theirs to others")
    for path, target in signed.targets.items():
        _require_target(role, path, target)


def _require_delegations(targets: Targets) -> None:
    found = targets.delegations
    roles = found.roles if found is not None else None
    for name, role in (roles or {}).items():
        right = name == ROLE_ROLLOUT or (is_class(name) and is_name(class_of(name)))
        if not right or (role.paths, role.path_hash_prefixes, role.terminating) != (
            paths_of(name),
            None,
            True,
        ):
            raise _refused("targets", f"delegate {role.paths!r} to {name!r}")
    if found is None or ROLE_ROLLOUT not in delegated(targets):
        raise TrustError("the staged targets name nobody who signs rollouts")
    if found.unrecognized_fields:
        raise _refused("targets", f"say {', '.join(map(repr, found.unrecognized_fields))}")
    _require_keys("targets", found.keys)
    _require_plain("targets", roles or {})


def _require_keys(role: str, keys: Mapping[str, Key]) -> None:
    """Refuse keys of another kind, or whose id is not made of the key: review compares what they are by that."""
    for keyid, key in keys.items():
        try:
            ours = SSlibKey.from_crypto(key._crypto_key()) if isinstance(key, SSlibKey) else None
        except (ValueError, VerificationError, UnsupportedAlgorithmError):
            ours = None
        if (
            ours is None
            or (ours.keyid, ours.keytype, ours.scheme) != (keyid, key.keytype, key.scheme)
            or key.unrecognized_fields.keys() - {KEY_NAME_FIELD}
        ):
            raise _refused(
                role, f"name a key of a kind that is not made here ({key.keytype!r}, {keyid[:12]!r})"
            )


def _require_plain(role: str, roles: Mapping[str, Any]) -> None:
    for name, one in roles.items():
        if one.unrecognized_fields:
            raise _refused(role, f"say {', '.join(map(repr, one.unrecognized_fields))} of {name}")


def _require_target(role: str, path: str, target: TargetFile) -> None:
    if target.hashes.keys() != {"sha256"} or not is_digest(f"sha256:{target.hashes['sha256']}"):
        raise _refused(role, f"list {path!r} without a sha256 alone")
    if is_class(role):
        custom = target.custom if isinstance(target.custom, dict) else {}
        right = (
            is_name(custom.get("model"))
            and custom.get("hardwareClass") == class_of(role)
            and path == artifact_target(custom["model"], class_of(role), target.hashes["sha256"])
            and custom.keys() - {DELTAS_FIELD} == _CUSTOM
            and _are_deltas(custom.get(DELTAS_FIELD, []))
            and target.unrecognized_fields.keys() == {"custom"}
        )
    else:
        documents = (POLICY_TARGET, TRUSTED_ROOT_TARGET) if role == "targets" else (ASSIGNMENT_TARGET,)
        right = path in documents and not target.unrecognized_fields
    if not right:
        raise TrustError(f"the staged {role} list {path!r}, which no fleet's {role} do")


def _are_deltas(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= MAX_DELTA_BASES
        and all(
            isinstance(delta, dict)
            and delta.keys() == {"base", "digest", "size", "bytes"}
            and is_digest(delta["base"])
            and is_digest(delta["digest"])
            and all(type(delta[name]) is int and delta[name] > 0 for name in ("size", "bytes"))
            for delta in value
        )
    )


def _refused(role: str, what: str) -> TrustError:
    return TrustError(f"the staged {role} {what}, which is not ours to sign")
