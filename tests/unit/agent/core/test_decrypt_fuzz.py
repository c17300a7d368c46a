"""The annotations of encrypted layers, mutated in structure and in bytes: one documented error, never a crash.

$ EDGEWRIGHT_FUZZ_INPUTS=100000 .venv/bin/pytest -s tests/unit/agent/core/test_decrypt_fuzz.py
"""

from __future__ import annotations

import base64
import json
import os
import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from edgewright_agent.artifact import Layer, Sealed
from edgewright_agent.decrypt import unwrap
from edgewright_agent.errors import TrustError
from unit.agent.core.sealing import encode, make_key, rsa_key, seal

INPUTS = int(os.environ.get("EDGEWRIGHT_FUZZ_INPUTS", "3000"))
DATA = b"weights"
KEYS = [make_key(), rsa_key()]
JUNK: tuple[Any, ...] = (
    None, 0, -1, 2**70, 1e300, True, "", "a", "=", "é", "A" * 5000, "A256GCM", [], {}, [[]], {"alg": "RSA-OAEP"},
)  # fmt: skip
NAMES = ("zip", "crit", "aad", "alg", "enc", "epk", "apu", "recipients", "header", "encrypted_key", "nonce")


def mutated(value: Any, dice: random.Random) -> Any:
    """Change one thing somewhere in a JSON value."""
    if isinstance(value, dict) and value:
        name = dice.choice(list(value))
        chance = dice.random()
        if chance < 0.5:
            return {**value, name: mutated(value[name], dice)}
        if chance < 0.65:
            return {key: item for key, item in value.items() if key != name}
        return {**value, (name if chance < 0.85 else dice.choice(NAMES)): dice.choice(JUNK)}
    if isinstance(value, list) and value:
        at = dice.randrange(len(value))
        return [*value[:at], mutated(value[at], dice), *value[at + 1 :]] * dice.choice((1, 1, 1, 1, 0, 70))
    if isinstance(value, str) and value:
        at = dice.randrange(len(value))
        return dice.choice(
            (
                value[:at] + chr(dice.randrange(128)) + value[at + 1 :],
                value[:at],
                value[:at] + dice.choice('-_+/=. \n\0{}[]é"') + value[at:],
                inside(value, dice),
                dice.choice(JUNK),
            )
        )
    return dice.choice(JUNK)


def inside(text: str, dice: random.Random) -> Any:
    """Mutate a protected header in what it says, where the text is one."""
    try:
        document = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except ValueError:
        return text[::-1]
    return base64.urlsafe_b64encode(json.dumps(mutated(document, dice)).encode()).decode().rstrip("=")


def spoilt(sealed: Sealed, dice: random.Random) -> Sealed:
    """Change the annotations of a layer."""
    where = dice.choice(("keys", "keys", "options"))
    data = base64.b64decode(getattr(sealed, where))
    chance = dice.random()
    if chance < 0.7:
        document = json.loads(data)
        for _ in range(dice.randint(1, 3)):
            document = mutated(document, dice)
        text = encode(json.dumps(document).encode())
    elif chance < 0.9:
        changed = bytearray(data)
        for _ in range(dice.randint(1, 4)):
            changed[dice.randrange(len(changed))] = dice.randrange(256)
        text = encode(bytes(changed))
    else:
        text = str(mutated(getattr(sealed, where), dice))
    return replace(sealed, **{where: ",".join([text] * dice.choice((1, 1, 1, 2, 9)))})


def layers() -> list[Layer]:
    return [seal(DATA, keys)[0] for keys in (KEYS[:1], KEYS[1:], KEYS)]


def test_whatever_annotations_say_a_layer_is_opened_or_refused(capsys: pytest.CaptureFixture[str]) -> None:
    dice, made, seen = random.Random(1), layers(), Counter[str]()
    for _ in range(INPUTS):
        layer = dice.choice(made)
        assert layer.sealed is not None
        try:
            unwrap(replace(layer, sealed=spoilt(layer.sealed, dice)), KEYS)
            seen["opened"] += 1  # another recipient's entry was changed, or nothing that is read
        except TrustError as error:
            seen[error.code] += 1
    with capsys.disabled():
        print(
            f"\n  {INPUTS} mutated annotations: "
            + ", ".join(f"{n} {code}" for code, n in sorted(seen.items()))
        )
    assert set(seen) == {"opened", "bad-manifest", "no-decryption-key"}
