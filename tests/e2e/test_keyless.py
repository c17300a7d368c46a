"""Keyless signatures are what the rest of the world understands: sigstore-python and real cosign, both ways."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgewright.plan.slices import how_signed
from edgewright.publish.statement import statement
from edgewright.spec.fleet import Fleet
from edgewright.spec.workspace import Workspace
from edgewright.trust.instance import trusted_root_document
from edgewright.trust.keyless_bundle import KeylessVerifier
from edgewright_agent.contract import (
    ATTESTATIONS,
    MAX_BUNDLE_BYTES,
    PREDICATE_GATE_REPORT,
    PREDICATE_SIGN,
    SIGSTORE_BUNDLE,
)
from edgewright_agent.transport import open_source
from edgewright_agent.transport.document import only_layer, parse_manifest, read_layer
from edgewright_agent.trust.keyless import Verified, verify_bundles
from private_sigstore.instance import IDENTITY, WORKFLOW, PrivateSigstore
from real import Registry, Tool
from unit.publish.lane import LaneFiles, run_index

HTTP = "--allow-http-registry"


@pytest.fixture
def lane(
    tmp_path: Path, registry: Registry, private_sigstore: PrivateSigstore, monkeypatch: pytest.MonkeyPatch
) -> LaneFiles:
    """A lane of a fleet that signs keyless, as a workflow on its main branch."""
    monkeypatch.setenv("TEST_TOKEN", private_sigstore.tokens.token(WORKFLOW))
    lane = LaneFiles(tmp_path / "fleet", {"url": f"{registry.url}/acme"})
    (lane.root / "trust.json").write_text(json.dumps(private_sigstore.client_trust_config()))
    fleet = Fleet.model_validate(
        {
            "version": 1,
            "name": "edge",
            "registry": lane.registry,
            "signing": {
                "mode": "keyless",
                "trustConfig": "trust.json",
                "identityToken": "env:TEST_TOKEN",
                "issuer": private_sigstore.issuer,
                "identity": IDENTITY,
            },
        }
    )
    workspace = Workspace(root=lane.root, fleet=fleet, hardware={}, models={}, sources={})
    lane.signing = dict(how_signed(workspace)["signing"])
    return lane


@pytest.fixture
def trusted(cosign: Tool, private_sigstore: PrivateSigstore) -> list[str | Path]:
    """How cosign is told whom to believe: a trusted root, an identity and its issuer; nothing is asked online."""
    root = cosign.home / "trusted-root.json"
    root.write_text(json.dumps(private_sigstore.trusted_root()))
    return [
        *("--trusted-root", root),
        *("--certificate-identity", IDENTITY),
        *("--certificate-oidc-issuer", private_sigstore.issuer),
        HTTP,
    ]


@pytest.fixture
def instance(cosign: Tool, trusted: list[str | Path], private_sigstore: PrivateSigstore) -> list[str | Path]:
    """How cosign is told to sign with the private instance, as the workflow."""
    config = cosign.home / "signing.json"
    config.write_text(json.dumps(private_sigstore.signing_config()))
    token = private_sigstore.tokens.token(WORKFLOW)
    return ["-y", "--signing-config", config, *trusted[:2], "--identity-token", token, HTTP]


def reference(lane: LaneFiles, digest: str | None = None) -> str:
    return f"{lane.registry['url'].partition('//')[2]}/{lane.model}@{digest or lane.digest}"


def bundles_of(lane: LaneFiles, digest: str | None = None) -> list[bytes]:
    """Return the bundles a device finds beside an artifact, through its own transport."""
    source = open_source(lane.registry["url"])
    found = []
    for descriptor in source.referrers(lane.model, digest or lane.digest):
        manifest = source.manifest(lane.model, descriptor["digest"])
        assert manifest is not None
        layers = parse_manifest(manifest.body, "referrer")["layers"]
        if [layer["mediaType"] for layer in layers] == [SIGSTORE_BUNDLE]:
            layer = only_layer(manifest, "referrer")
            found.append(read_layer(source, lane.model, layer, limit=MAX_BUNDLE_BYTES))
    return found


def device_root(lane: LaneFiles) -> bytes:
    """Return what a device gets as `trust/trusted-root.json`."""
    return trusted_root_document((lane.root / "trust.json").read_text())


def predicate_types(found: list[Any]) -> list[str]:
    assert all(isinstance(one, Verified) for one in found), found
    return sorted(json.loads(one.payload)["predicateType"] for one in found)


# --- the pipeline signs -------------------------------------------------------------------------------------------
def test_a_keyless_lane_is_published_found_and_verified_by_cosign_and_by_a_device(
    lane: LaneFiles, cosign: Tool, trusted: list[str | Path], private_sigstore: PrivateSigstore
) -> None:
    lane.package()
    facts = lane.sign().facts
    lane.publish()
    index = run_index(lane).facts["digest"]
    assert (facts["identity"], facts["issuer"]) == (IDENTITY, private_sigstore.issuer)
    assert len(facts["log_index"]) == len(facts["statements"])

    for digest in (lane.digest, index):
        checked = cosign("verify", *trusted, reference(lane, digest))
        assert checked.returncode == 0, checked.stderr
    checked = cosign("verify-attestation", "--type", PREDICATE_GATE_REPORT, *trusted, reference(lane))
    assert checked.returncode == 0, checked.stderr

    found = verify_bundles(bundles_of(lane), trusted_root=device_root(lane))
    assert predicate_types(found) == sorted(ATTESTATIONS.values())
    assert {(one.issuer, one.identity) for one in found if isinstance(one, Verified)} == {
        (private_sigstore.issuer, IDENTITY)
    }


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--certificate-identity", IDENTITY.replace("main", "feature")),
        ("--certificate-oidc-issuer", "https://token.actions.githubusercontent.com"),
    ],
    ids=["wrong-identity", "wrong-issuer"],
)
def test_cosign_refuses_another_identity_and_another_issuer(
    lane: LaneFiles, cosign: Tool, trusted: list[str | Path], option: str, value: str
) -> None:
    lane.all()
    trusted[trusted.index(option) + 1] = value
    checked = cosign("verify", *trusted, reference(lane))
    assert checked.returncode != 0
    assert "no matching" in checked.stderr + checked.stdout


def test_cosign_and_the_device_agree_about_what_a_dishonest_instance_gives(
    cosign: Tool, trusted: list[str | Path], private_sigstore: PrivateSigstore, tmp_path: Path
) -> None:
    """Every fault is refused by both; the same bundle without a fault by neither, so it is the fault that counts."""
    blob = tmp_path / "blob"
    blob.write_bytes(b"artifact")
    from edgewright_agent.contract import digest_of

    payload = statement("blob", digest_of(b"artifact"), PREDICATE_SIGN, {})
    faults = (
        "none", "late", "foreign-ca", "no-sct", "forged-sct", "forged-checkpoint", "other-tree",
        "wrong-proof", "other-entry",
    )  # fmt: skip
    offered = []
    for fault in faults:
        with private_sigstore.misbehaving(fault):
            offered.append(json.dumps(private_sigstore.bundle(payload)).encode())
    root = json.dumps(private_sigstore.trusted_root()).encode()
    ours = [isinstance(one, Verified) for one in verify_bundles(offered, trusted_root=root)]
    theirs = []
    for bundle in offered:
        (tmp_path / "bundle.json").write_bytes(bundle)
        checked = cosign(
            *("verify-blob-attestation", "--bundle", tmp_path / "bundle.json", "--type", PREDICATE_SIGN),
            *(option for option in trusted if option != HTTP),
            blob,
        )
        theirs.append(checked.returncode == 0)
    assert ours == theirs == [True] + [False] * (len(faults) - 1)


# --- cosign signs ---------------------------------------------------------------------------------------------------
def cosign_signs(lane: LaneFiles, cosign: Tool, instance: list[str | Path]) -> None:
    signed = cosign("sign", *instance, reference(lane))
    assert signed.returncode == 0, signed.stderr


def cosign_attests(lane: LaneFiles, cosign: Tool, instance: list[str | Path]) -> None:
    predicate = cosign.home / "predicate.json"
    predicate.write_text('{"verdict": "pass"}')
    attested = cosign(
        *("attest", "--type", PREDICATE_GATE_REPORT, "--predicate", predicate), *instance, reference(lane)
    )
    assert attested.returncode == 0, attested.stderr


@pytest.mark.parametrize(
    ("act", "predicate_type"),
    [(cosign_signs, PREDICATE_SIGN), (cosign_attests, PREDICATE_GATE_REPORT)],
    ids=["sign", "attest"],
)
def test_what_cosign_signs_keyless_a_device_and_sigstore_python_verify(
    lane: LaneFiles,
    cosign: Tool,
    instance: list[str | Path],
    trusted: list[str | Path],
    private_sigstore: PrivateSigstore,
    act: Callable[[LaneFiles, Tool, list[str | Path]], None],
    predicate_type: str,
) -> None:
    lane.package()
    lane.sign()
    lane.publish()
    before = bundles_of(lane)
    act(lane, cosign, instance)
    (bundle,) = [one for one in bundles_of(lane) if one not in before]
    (found,) = verify_bundles([bundle], trusted_root=device_root(lane))
    assert predicate_types([found]) == [predicate_type]
    assert isinstance(found, Verified)
    assert (found.issuer, found.identity) == (private_sigstore.issuer, IDENTITY)
    assert json.loads(found.payload)["subject"][0]["digest"]["sha256"] == lane.digest.partition(":")[2]
    assert KeylessVerifier.of(device_root(lane)).verify(bundle).identity == IDENTITY


# --- modes do not mix -------------------------------------------------------------------------------------------------
def test_a_key_is_no_identity_and_an_identity_no_key(lane: LaneFiles) -> None:
    from edgewright_agent.errors import TrustError
    from edgewright_agent.trust.sigstore import load_key, verify_bundle

    lane.package()
    lane.sign()
    keyless = lane.inputs["signed/sign.sigstore.json"].read_bytes()
    lane.signing = {"privateKey": "file:keys/signing.key", "publicKey": "keys/signing.pub"}
    lane.sign()
    key_mode = lane.inputs["signed/sign.sigstore.json"].read_bytes()

    (answer,) = verify_bundles([key_mode], trusted_root=device_root(lane))
    assert isinstance(answer, TrustError)
    assert "signed with a bare key, not by an identity" in str(answer)
    key = load_key((lane.root / "keys/signing.pub").read_bytes())
    with pytest.raises(TrustError, match="signed with a certificate"):
        verify_bundle(keyless, [key], subject_digest=lane.digest)
