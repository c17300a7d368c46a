"""Attacks on signatures by identity, against a private Sigstore instance that can be made to misbehave.

The fleet's policy and the device's pins name one workflow; the trusted root comes as a TUF target.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from attacks.attestations import attach, bundles_of, key_of, predicate_type, statement_of
from attacks.on_transport import NETWORK, endless_file
from attacks.scene import Scene
from attacks.table import attack
from edgewright.publish.statement import sign_statement
from edgewright_agent.contract import PREDICATE_GATE_REPORT, PREDICATE_SIGN, canonical_json
from private_sigstore.instance import IDENTITY, WORKFLOW, PrivateSigstore

REGISTRY = "the registry: everything in it can be replaced, no identity"
ANYBODY = "the registry, and an account at the same Sigstore instance"
INSTANCE = "the registry, and a Sigstore instance that misbehaves"
Bundle = dict[str, Any]
Make = Callable[[PrivateSigstore, bytes], Bundle]


def _keyless(scene: Scene) -> PrivateSigstore:
    """Let the owner release under a policy that names an identity, which the device pins too."""
    assert scene.sigstore is not None
    sigstore, owner = scene.sigstore(), scene.owner()
    (owner.root / "trust.json").write_bytes(canonical_json(sigstore.client_trust_config()))
    who = {"issuer": sigstore.issuer, "identity": IDENTITY}
    owner.more = {
        "signing": {"mode": "keyless", "trustConfig": "trust.json", **who},
        "policy": {
            "signers": ({"name": "ci", **who},),
            "demands": tuple({"attestation": name} for name in ("signature", "gate-report")),
        },
    }
    trust = json.loads(scene.device.config.read_bytes())["trust"]
    scene.device.configure(trust={"root": trust["root"], "identities": [who]})
    scene.offer_artifacts(2)
    owner.release()
    return sigstore


def _play(scene: Scene, *, make: Make) -> Iterator[None]:
    sigstore = _keyless(scene)
    digest = scene.fleet.releases[2].digest
    payloads = _payloads(scene, digest)
    scene.keep()
    attach(scene, digest, *(canonical_json(make(sigstore, payload)) for payload in payloads))
    yield
    # The honest release is the same artifact with honest signatures, which its publisher attaches again.
    scene.honestly(lambda: attach(scene, digest, *(_signed(sigstore, payload) for payload in payloads)))


def _payloads(scene: Scene, digest: str) -> list[bytes]:
    """Return what the release key has signed of an artifact, to be signed by an identity."""
    said = {predicate_type(one): canonical_json(statement_of(one)) for one in bundles_of(scene, digest)}
    return [said[kind] for kind in (PREDICATE_SIGN, PREDICATE_GATE_REPORT)]


def _signed(sigstore: PrivateSigstore, payload: bytes) -> bytes:
    return canonical_json(sigstore.bundle(payload))


def _by(who: str) -> Make:
    return lambda sigstore, payload: sigstore.bundle(payload, who)


def _with(fault: str) -> Make:
    def make(sigstore: PrivateSigstore, payload: bytes) -> Bundle:
        with sigstore.misbehaving(fault):
            return sigstore.bundle(payload)

    return make


def _edited(edit: Callable[[Bundle], object]) -> Make:
    def make(sigstore: PrivateSigstore, payload: bytes) -> Bundle:
        made = sigstore.bundle(payload)
        edit(made)
        return made

    return make


def _other_issuer(sigstore: PrivateSigstore, payload: bytes) -> Bundle:
    with mock.patch.object(sigstore.tokens, "url", "https://evil.example/oidc"):
        return sigstore.bundle(payload)


def _tamper(made: Bundle) -> None:
    payload = base64.b64decode(made["dsseEnvelope"]["payload"])
    made["dsseEnvelope"]["payload"] = base64.b64encode(payload + b" ").decode()


def _by_key(scene: Scene) -> Make:
    return lambda _sigstore, payload: json.loads(sign_statement(payload, key_of(scene)))


def _key_bundle(scene: Scene) -> Iterator[None]:
    return _play(scene, make=_by_key(scene))


for _name, _has, _code, _make in (
    ("another identity", ANYBODY, "unsigned", _by(WORKFLOW.replace("release", "nightly"))),
    ("another issuer", "the registry, and an issuer that the same instance believes", "unsigned", _other_issuer),
    ("an expired certificate", ANYBODY, "bad-signature", _with("late")),
    ("a certificate of another authority", REGISTRY, "bad-signature", _with("foreign-ca")),
    ("a forged checkpoint of the log", INSTANCE, "bad-signature", _with("forged-checkpoint")),
    ("no entry in the log", ANYBODY, "bad-signature", _edited(
        lambda made: made["verificationMaterial"].update(tlogEntries=[])
    )),
    ("a tampered payload", REGISTRY, "bad-signature", _edited(_tamper)),
):  # fmt: skip
    attack(f"keyless: {_name}", has=_has, refused=_code, floor_kept=False)(
        functools.partial(_play, make=_make)
    )

attack(
    "keyless: a bare key where identities are demanded",
    has="the registry, and the key that signed releases before",
    refused="bad-signature",
    floor_kept=False,
)(_key_bundle)


@attack("endless data: the trusted root", has=NETWORK, failed="too-large")
def endless_trusted_root(scene: Scene) -> Iterator[None]:
    sigstore = _keyless(scene)
    digest = scene.fleet.releases[2].digest
    payloads = _payloads(scene, digest)
    scene.keep()
    yield from endless_file(scene, role="trusted-root")
    scene.look_at_registry()
    scene.honestly(lambda: attach(scene, digest, *(_signed(sigstore, payload) for payload in payloads)))
