"""What a staged change would change, in sentences: nobody signs what they have not seen.

>>> for line in changes("root", former, staged_root, staged, current, ring):    # doctest: +SKIP
...     print(line)
timestamp: 1 of timestamp (b94d27b9934d) → 1 of timestamp-2 (77b2a1f0c3d5)
believed until 2027-01-01 → 2027-11-26
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tuf.api.metadata import Metadata, Root, Targets

from edgewright.trust.delegation import holders_in
from edgewright.trust.repository import Current, delegated
from edgewright.trust.roles import TOP, is_class
from edgewright.trust.signers import KeyRing, key_fingerprint
from edgewright.trust.staged import Staged
from edgewright_agent.contract import ASSIGNMENT_TARGET, POLICY_TARGET, ROLE_ROLLOUT
from edgewright_agent.errors import AgentError
from edgewright_agent.trust.policy import KeySigner, parse_policy

SHOWN = 16
"""How much of a fingerprint is shown where people compare old and new; `trust status` has all of it."""


def changes(
    role: str,
    former: Metadata[Any] | None,
    following: Metadata[Any],
    staged: Staged,
    current: Current | None,
    ring: KeyRing,
) -> Iterator[str]:
    """Yield one sentence per thing that is not as it was."""
    old = former.signed if former is not None else None
    new = following.signed
    if role == "root":
        yield from _keys(old, new, TOP, ring)
    elif role == "targets":
        before = delegated(old) if old is not None else ()
        yield from _keys(old, new, tuple(dict.fromkeys((*before, *delegated(new)))), ring)
        yield from _listing(old, new, "document")
        yield from _policy(staged, current)
    elif is_class(role):
        yield from _listing(old, new, "artifact")
    elif role == ROLE_ROLLOUT:
        yield from _assignment(staged, current)
    was = f"{old.expires:%Y-%m-%d}" if old is not None else "nothing"
    yield f"believed until {was} → {new.expires:%Y-%m-%d}"


def _keys(old: Any, new: Root | Targets, roles: tuple[str, ...], ring: KeyRing) -> Iterator[str]:
    for role in roles:
        before, after = (_holders(one, role, ring) for one in (old, new))
        if before != after:
            yield f"{role}: {before} → {after}"


def _holders(delegator: Root | Targets | None, role: str, ring: KeyRing) -> str:
    try:
        found = holders_in(delegator, role) if delegator is not None else None
    except ValueError:  # the role is new
        found = None
    if found is None:
        return "nobody"
    names = sorted(f"{ring.name_of(key)} ({key_fingerprint(key)[:SHOWN]})" for key in found.keys)
    return f"{found.threshold} of {', '.join(names)}"


def _listing(old: Targets | None, new: Targets, kind: str) -> Iterator[str]:
    before = old.targets if old is not None else {}
    for path in sorted({*before, *new.targets}):
        one, other = before.get(path), new.targets.get(path)
        if other is None:
            yield f"{kind} {path} is taken away"
        elif one is None or one.hashes != other.hashes:
            was = one.hashes["sha256"][:SHOWN] if one is not None else "nothing"
            yield f"{kind} {path}: {was} → {other.hashes['sha256'][:SHOWN]}"
        elif one.custom != other.custom:
            yield f"{kind} {path}: {_custom(one.custom)} → {_custom(other.custom)}"


def _policy(staged: Staged, current: Current | None) -> Iterator[str]:
    """Yield whom devices would believe and what they would demand, not only the hash of the document that says so."""
    before, after = (_told(files) for files in (current.files if current else {}, staged.files))
    if after:  # nothing of it is staged when it stays as it is
        yield from (f"policy, no longer: {line}" for line in before if line not in after)
        yield from (f"policy, new: {line}" for line in after if line not in before)


def _told(files: Mapping[str, bytes]) -> list[str]:
    body = files.get(POLICY_TARGET)
    if body is None:
        return []
    try:
        policy = parse_policy(body)
    except AgentError as error:
        return [f"DEVICES CANNOT READ IT: {error}"]
    lines = []
    for signer in policy.signers.values():
        if isinstance(signer, KeySigner):
            who = f"key {signer.fingerprint[:SHOWN]}"
        else:
            subject = signer.identity if signer.identity is not None else f"whoever matches {signer.pattern}"
            who = f"{subject} ({signer.issuer})"
        lines.append(f"signer {signer.name} is {who}")
    for demand in policy.demands:
        built = f", built by {demand.builder}" if demand.builder is not None else ""
        where = f"on {', '.join(demand.classes)}" if demand.classes is not None else "everywhere"
        lines.append(f"{demand.attestation} by {' or '.join(demand.signers)}{built}, {where}")
    return lines


def _custom(custom: Any) -> str:
    return json.dumps(custom or {}, sort_keys=True)


def _assignment(staged: Staged, current: Current | None) -> Iterator[str]:
    from edgewright.trust.assignment import digests

    old: dict[str, Any] = {"release": "nothing", "groups": []}
    if current is not None:
        old = json.loads(current.assignment)
    new = json.loads(staged.files[ASSIGNMENT_TARGET])
    yield f"release {old['release']} → {new['release']}"
    before, after = digests(old["groups"]), digests(new["groups"])
    for key in sorted({*before, *after}):
        if before.get(key) != after.get(key):
            group, model, name = key
            was, now = (str(found.get(key, "nothing"))[:SHOWN] for found in (before, after))
            yield f"{group}: {model} on {name}: {was} → {now}"
