"""What a staged change would change, in sentences: nobody signs what they have not seen.

>>> for line in changes("root", former, staged_root, staged, current, ring):    # doctest: +SKIP
...     print(line)
timestamp: 1 of timestamp (b94d27b9934d) → 1 of timestamp-2 (77b2a1f0c3d5)
believed until 2027-01-01 → 2027-11-26
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from tuf.api.metadata import Metadata, Root, Targets

from edgewright.errors import TrustError
from edgewright.trust.delegation import holders_in
from edgewright.trust.repository import Current, delegated
from edgewright.trust.roles import TOP, is_class
from edgewright.trust.signers import KeyRing, key_fingerprint
from edgewright.trust.signing_key import fingerprint, spki_der
from edgewright.trust.staged import Staged
from edgewright_agent.contract import (
    ASSIGNMENT_TARGET,
    POLICY_TARGET,
    ROLE_ROLLOUT,
    TRUSTED_ROOT_TARGET,
)

SHOWN = 16
"""How much of a fingerprint is shown where people compare old and new; `trust status` has all of it."""
MAX_VALUE_CHARS = 1024
"""Longer values of a document (certificates) are shown by length and digest."""
_WORD = re.compile(r"[A-Za-z0-9_-]+")


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
        for path in (POLICY_TARGET, TRUSTED_ROOT_TARGET):
            yield from _document(path, current, staged if path in new.targets else None)
    elif is_class(role):
        yield from _listing(old, new, "artifact")
    elif role == ROLE_ROLLOUT:
        yield from _assignment(staged, current)
        yield from _document(ASSIGNMENT_TARGET, current, staged)
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
            said = f" {_custom(other.custom)}" if other.custom else ""
            yield f"{kind} {path}: {was} → {other.hashes['sha256'][:SHOWN]}{said}"
        elif one.custom != other.custom:
            yield f"{kind} {path}: {_custom(one.custom)} → {_custom(other.custom)}"


def _custom(custom: Any) -> str:
    return json.dumps(custom or {}, sort_keys=True)


def _assignment(staged: Staged, current: Current | None) -> Iterator[str]:
    from edgewright.trust.assignment import digests

    old: dict[str, Any] = {"release": "nothing", "groups": []}
    if current is not None:
        old = json.loads(current.assignment)
    try:
        new = json.loads(staged.files[ASSIGNMENT_TARGET])
        before, after = digests(old["groups"]), digests(new["groups"])
        yield f"release {_plain(old['release'])} → {_plain(new['release'])}"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TrustError("the staged rollout comes with an assignment that is none") from error
    for key in sorted({*before, *after}):
        if before.get(key) != after.get(key):
            group, model, name = map(_plain, key)
            was, now = (_plain(found.get(key, "nothing"))[:SHOWN] for found in (before, after))
            yield f"{group}: {model} on {name}: {was} → {now}"


def _document(path: str, current: Current | None, staged: Staged | None) -> Iterator[str]:
    """Yield what a document says that it did not say before: a digest tells nobody whom devices will believe."""
    old = current.files.get(path) if current is not None else None
    new = staged.files.get(path) if staged is not None else None
    before, after = (dict(_leaves(json.loads(body))) if body else {} for body in (old, new))
    for place in dict.fromkeys((*before, *after)):
        was, now = before.get(place, "nothing"), after.get(place, "nothing")
        if was != now:
            yield f"{path.rpartition('/')[2]} {place}: {_short(was)} → {_short(now)}"


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield (place, value as JSON) of everything a document says; an artifact of an assignment is one thing."""
    children: list[tuple[str, Any]] = []
    if isinstance(value, dict) and "digest" not in value:
        children = [
            (f"{place}.{_plain(key)}" if place else _plain(key), child) for key, child in value.items()
        ]
    elif isinstance(value, list):
        children = [(f"{place}[{index}]", child) for index, child in enumerate(value)]
    if not children:
        yield place, json.dumps(value, sort_keys=True)
    for at, child in children:
        yield from _leaves(child, at)


def _short(text: str) -> str:
    """Return a value as it is shown: of a key or a certificate, what people compare."""
    if (key := _public_key(text)) is not None:
        return key
    if len(text) <= MAX_VALUE_CHARS:
        return text
    return f"{len(text)} characters, sha256 {hashlib.sha256(text.encode()).hexdigest()[:SHOWN]}"


def _public_key(text: str) -> str | None:
    """Return how `keys show` calls a public key; None when a value is none, or holds anything beside it."""
    if "PUBLIC KEY" not in text:
        return None
    try:
        pem = str(json.loads(text))
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        return None
    if key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) != pem.encode():
        return None
    return f"key {fingerprint(spki_der(key))[:SHOWN]}"


def _plain(text: object) -> str:
    """Return a foreign name, with nothing in it that could steer a terminal or stand for two places."""
    return text if isinstance(text, str) and _WORD.fullmatch(text) else json.dumps(text)
