"""What a policy demands of an artifact, who may have signed it, and what a device's own pins take away from that."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from edgewright_agent.config import parse
from edgewright_agent.contract import (
    ANNOTATION_BUNDLE_PREDICATE,
    ATTESTATIONS,
    MAX_REFERRERS,
    PREDICATE_BOM,
    PREDICATE_GATE_REPORT,
    PREDICATE_PROVENANCE,
    PREDICATE_SIGN,
    canonical_json,
    digest_of,
)
from edgewright_agent.errors import ConfigError, TrustError
from edgewright_agent.trust import keyless
from edgewright_agent.trust.bundle import Statement
from edgewright_agent.trust.findings import Findings
from edgewright_agent.trust.policy import (
    ByIdentity,
    Demands,
    IdentitySigner,
    Signer,
    demands_of,
    parse_policy,
)
from edgewright_agent.trust.sigstore import key_signer
from edgewright_agent.trusted import DeviceTrust
from private_sigstore.instance import IDENTITY, PrivateSigstore
from unit.agent.transport.shelf import Shelf
from unit.agent.trust.published import (
    BUILDER,
    CLASS,
    MODEL,
    Published,
    bom,
    pem,
    provenance,
    report,
    sign,
    statement,
)

OTHER_CLASS = "jetson-vision-standard"


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def auditor() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def published(tmp_path: Path, key: ec.EllipticCurvePrivateKey) -> Published:
    return Published(Shelf(tmp_path / "release"), key)


def policy(signers: dict[str, Any], *demands: dict[str, Any]) -> bytes:
    return canonical_json({"version": 1, "signers": signers, "demands": list(demands)})


def demand(attestation: str, *signers: str, **more: Any) -> dict[str, Any]:
    return {"attestation": attestation, "signers": list(signers or ("release",)), **more}


def by_key(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    return {"publicKey": pem(key).decode()}


def demands(body: bytes, *pins: Signer) -> Demands:
    return demands_of(parse_policy(body), pins=pins, hardware_class=CLASS)


@pytest.fixture
def all_four(key: ec.EllipticCurvePrivateKey) -> Demands:
    return demands(policy({"release": by_key(key)}, *map(demand, ATTESTATIONS)))


# --- what must be there -------------------------------------------------------------------------------------------


def test_an_artifact_with_everything_that_is_demanded_is_accepted(
    published: Published, all_four: Demands
) -> None:
    published.everything()
    assert published.verify(demands=all_four) == report(published.digest)


@pytest.mark.parametrize(
    ("missing", "code"),
    [
        ("signature", "unsigned"),
        ("gate_report", "no-gate-report"),
        ("provenance", "no-provenance"),
        ("bom", "no-bom"),
    ],
)
def test_each_attestation_that_is_missing_has_its_own_reason(
    published: Published, all_four: Demands, missing: str, code: str
) -> None:
    for name in ("signature", "gate_report", "provenance", "bom"):
        if name != missing:
            getattr(published, name)()
    published.refuses(code, all_four)


def test_a_policy_without_demands_still_demands_signature_and_gate_report(
    published: Published, key: ec.EllipticCurvePrivateKey
) -> None:
    said = demands(policy({"release": by_key(key)}))
    assert set(said.signers) == {PREDICATE_SIGN, PREDICATE_GATE_REPORT}
    published.signature()
    published.refuses("no-gate-report", said)


def test_what_another_class_demands_is_not_demanded_here(
    published: Published, key: ec.EllipticCurvePrivateKey
) -> None:
    published.signature()
    published.gate_report()
    body = policy({"release": by_key(key)}, demand("bom", classes=[OTHER_CLASS]))
    assert published.verify(demands=demands(body))["verdict"] == "pass"
    published.refuses("no-bom", demands(policy({"release": by_key(key)}, demand("bom", classes=[CLASS]))))


def test_a_provenance_only_bundle_is_no_signature_whatever_else_is_there(
    published: Published, all_four: Demands
) -> None:
    published.provenance()
    published.gate_report()
    published.bom()
    published.refuses("unsigned", all_four)


def test_a_signature_over_another_digest_is_refused(published: Published, all_four: Demands) -> None:
    published.attach(statement(digest_of(b"another")))
    assert "another artifact" in published.refuses("bad-signature", all_four)


# --- what it must say ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attestation", ["provenance", "bom", "gate_report"])
def test_attestations_of_another_class_or_model_are_refused(
    published: Published, all_four: Demands, attestation: str
) -> None:
    for name in {"signature", "gate_report", "provenance", "bom"} - {attestation}:
        getattr(published, name)()
    key_word = {"gate_report": "hardwareClass"}.get(attestation, "hardware_class")
    getattr(published, attestation)(**{key_word: OTHER_CLASS})
    published.refuses("wrong-class", all_four)


def test_a_bill_of_another_model_is_refused(published: Published, all_four: Demands) -> None:
    published.signature()
    published.gate_report()
    published.provenance(model="vibration-monitor")
    published.refuses("wrong-model", all_four)


def test_provenance_of_another_builder_is_refused_when_the_policy_names_one(
    published: Published, key: ec.EllipticCurvePrivateKey
) -> None:
    said = demands(policy({"release": by_key(key)}, demand("provenance", builder=BUILDER)))
    published.signature()
    published.gate_report()
    published.provenance("https://edgewright.dev/builder/local")
    assert BUILDER in published.refuses("wrong-builder", said)
    published.provenance()
    assert published.verify(demands=said)["verdict"] == "pass"


def test_two_demands_of_different_builders_cannot_both_be_met(
    published: Published, key: ec.EllipticCurvePrivateKey
) -> None:
    said = [demand("provenance", builder=builder) for builder in (BUILDER, "https://other.example")]
    published.everything()
    published.refuses("wrong-builder", demands(policy({"release": by_key(key)}, *said)))


@pytest.mark.parametrize(
    ("kind", "predicate", "code"),
    [
        (PREDICATE_PROVENANCE, {}, "no-provenance"),
        (PREDICATE_PROVENANCE, {"buildDefinition": [], "runDetails": 7}, "no-provenance"),
        (PREDICATE_PROVENANCE, provenance(BUILDER) | {"buildDefinition": {"buildType": "https://x"}}, None),
        (PREDICATE_BOM, {"bomFormat": "SPDX"}, "no-bom"),
        (PREDICATE_BOM, {"bomFormat": "CycloneDX", "metadata": {"component": {"properties": "?"}}}, None),
        (PREDICATE_BOM, {"bomFormat": "CycloneDX", "metadata": []}, None),
    ],
)
def test_signed_statements_of_another_shape_are_refused_and_those_of_other_tools_are_not(
    published: Published, all_four: Demands, kind: str, predicate: Any, code: str | None
) -> None:
    published.signature()
    published.gate_report()
    for other, said in ((PREDICATE_PROVENANCE, provenance(BUILDER)), (PREDICATE_BOM, bom())):
        published.attach(statement(published.digest, other, predicate if other == kind else said))
    if code is None:
        assert published.verify(demands=all_four)["verdict"] == "pass"
    else:
        published.refuses(code, all_four)


# --- who may have signed it -----------------------------------------------------------------------------------------


def test_only_a_signer_of_the_demand_counts_not_just_any_of_the_policy(
    published: Published, key: ec.EllipticCurvePrivateKey, auditor: ec.EllipticCurvePrivateKey
) -> None:
    signers = {"release": by_key(key), "auditor": by_key(auditor)}
    said = demands(policy(signers, demand("bom", "auditor"), demand("signature"), demand("gate-report")))
    published.everything()
    assert "who may not make one" in published.refuses("no-bom", said)
    published.attach(statement(published.digest, PREDICATE_BOM, bom()), key=auditor)
    assert published.verify(demands=said)["verdict"] == "pass"


def test_several_demands_of_one_attestation_leave_only_who_meets_them_all(
    published: Published, key: ec.EllipticCurvePrivateKey, auditor: ec.EllipticCurvePrivateKey
) -> None:
    signers = {"release": by_key(key), "auditor": by_key(auditor)}
    published.everything()
    nobody = demands(policy(signers, demand("signature", "release"), demand("signature", "auditor")))
    assert "nobody" in published.refuses("bad-policy", nobody)


def test_a_pin_of_the_device_narrows_the_policy(
    published: Published, key: ec.EllipticCurvePrivateKey, auditor: ec.EllipticCurvePrivateKey
) -> None:
    body = policy({"release": by_key(key), "auditor": by_key(auditor)})
    published.everything()
    assert published.verify(demands=demands(body, key_signer("mine", pem(key))))["verdict"] == "pass"
    published.refuses("unsigned", demands(body, key_signer("mine", pem(auditor))))


def test_a_pin_that_the_policy_does_not_name_adds_nobody(
    published: Published, key: ec.EllipticCurvePrivateKey, auditor: ec.EllipticCurvePrivateKey
) -> None:
    published.everything()
    published.refuses("unsigned", demands(policy({"auditor": by_key(auditor)}), key_signer("mine", pem(key))))


def test_with_neither_policy_nor_pins_nothing_is_believed() -> None:
    with pytest.raises(TrustError) as caught:
        demands_of(None, pins=(), hardware_class=CLASS)
    assert caught.value.code == "no-policy"


@pytest.mark.parametrize(
    "signer", [{"publicKey": "no key"}, {"publicKey": pem(ec.generate_private_key(ec.SECP384R1())).decode()}]
)
def test_a_policy_with_a_key_that_is_none_is_refused_whole(signer: dict[str, str]) -> None:
    with pytest.raises(TrustError, match=r"signers\.release\.publicKey") as caught:
        parse_policy(policy({"release": signer}))
    assert caught.value.code == "bad-policy"


@pytest.mark.parametrize("attestation", [[], {}, None, 1, "sbom"])
def test_a_demand_of_nothing_known_is_refused_in_one_sentence(
    key: ec.EllipticCurvePrivateKey, attestation: Any
) -> None:
    with pytest.raises(TrustError, match=r"demands\[0\]\.attestation is not one of"):
        parse_policy(policy({"release": by_key(key)}, demand(attestation)))


def test_a_builder_is_named_by_provenance_only(key: ec.EllipticCurvePrivateKey) -> None:
    with pytest.raises(TrustError, match="builder"):
        parse_policy(policy({"release": by_key(key)}, demand("bom", builder=BUILDER)))


# --- with certificates ----------------------------------------------------------------------------------------------


def release_ci(sigstore: PrivateSigstore, **changes: str) -> dict[str, str]:
    return {"issuer": sigstore.issuer, "identity": IDENTITY, **changes}


def trusted_root(sigstore: PrivateSigstore) -> bytes:
    return canonical_json(sigstore.trusted_root())


def certify(published: Published, sigstore: PrivateSigstore, kind: str, predicate: Any = None) -> None:
    payload = canonical_json(statement(published.digest, kind, predicate))
    published.attach_bytes(canonical_json(sigstore.bundle(payload)))


@pytest.fixture
def certified(published: Published, private_sigstore: PrivateSigstore) -> Published:
    """Everything, signed by a workflow."""
    for kind, predicate in (
        (PREDICATE_SIGN, {}),
        (PREDICATE_GATE_REPORT, report(published.digest)),
        (PREDICATE_PROVENANCE, provenance(BUILDER)),
        (PREDICATE_BOM, bom()),
    ):
        certify(published, private_sigstore, kind, predicate)
    return published


def test_an_identity_of_the_policy_is_accepted_with_one_child_for_all_bundles(
    certified: Published, private_sigstore: PrivateSigstore, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    verify_bundles = keyless.verify_bundles

    def counted(bundles: Any, **options: Any) -> Any:
        calls.append(len(bundles))
        return verify_bundles(bundles, **options)

    monkeypatch.setattr(keyless, "verify_bundles", counted)
    said = demands(policy({"release": release_ci(private_sigstore)}, *map(demand, ATTESTATIONS)))
    found = certified.verify(demands=said, trusted_root=trusted_root(private_sigstore))
    assert (found["verdict"], calls) == ("pass", [4])


@pytest.mark.parametrize(
    "changes", [{"identity": IDENTITY + "x"}, {"issuer": "https://token.actions.example"}]
)
def test_another_identity_and_another_issuer_are_refused(
    certified: Published, private_sigstore: PrivateSigstore, changes: dict[str, str]
) -> None:
    said = demands(policy({"release": release_ci(private_sigstore, **changes)}))
    assert "who may not" in certified.refuses("unsigned", said, trusted_root(private_sigstore))


def test_a_pinned_identity_narrows_the_policy(
    certified: Published, private_sigstore: PrivateSigstore
) -> None:
    body = policy({"release": release_ci(private_sigstore)})
    pin = IdentitySigner("pin", private_sigstore.issuer, pattern="https://github.com/other/.*")
    certified.refuses("unsigned", demands(body, pin), trusted_root(private_sigstore))


def test_without_a_trusted_root_no_certificate_is_believed(
    certified: Published, private_sigstore: PrivateSigstore
) -> None:
    said = demands(policy({"release": release_ci(private_sigstore)}))
    assert "no trusted root" in certified.refuses("bad-signature", said)


def test_a_statement_about_another_artifact_under_a_good_certificate_is_refused(
    published: Published, private_sigstore: PrivateSigstore
) -> None:
    payload = canonical_json(statement(digest_of(b"another")))
    published.attach_bytes(canonical_json(private_sigstore.bundle(payload)))
    said = demands(policy({"release": release_ci(private_sigstore)}))
    assert "another artifact" in published.refuses("bad-signature", said, trusted_root(private_sigstore))


def test_keys_and_identities_can_share_the_work(
    published: Published, key: ec.EllipticCurvePrivateKey, private_sigstore: PrivateSigstore
) -> None:
    published.signature()
    published.gate_report()
    certify(published, private_sigstore, PREDICATE_PROVENANCE, provenance(BUILDER))
    signers = {"release": by_key(key), "ci": release_ci(private_sigstore)}
    said = demands(
        policy(
            signers, demand("signature"), demand("gate-report"), demand("provenance", "ci", builder=BUILDER)
        )
    )
    assert published.verify(demands=said, trusted_root=trusted_root(private_sigstore))["verdict"] == "pass"


def test_no_child_is_started_when_keys_meet_every_demand(
    published: Published,
    all_four: Demands,
    private_sigstore: PrivateSigstore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keyless, "verify_bundles", lambda *_, **__: pytest.fail("a child was started"))
    certify(published, private_sigstore, PREDICATE_SIGN)
    published.everything()
    assert published.verify(demands=all_four, trusted_root=b"{}")["verdict"] == "pass"


def test_a_device_without_sigstore_says_that_this_is_what_it_lacks(
    certified: Published, private_sigstore: PrivateSigstore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyless, "find_spec", lambda _name: None)
    said = demands(policy({"release": release_ci(private_sigstore)}))
    certified.refuses("keyless-missing", said, trusted_root(private_sigstore))


def test_an_identity_is_matched_whole() -> None:
    signer = IdentitySigner("x", "https://i", pattern="https://github.com/acme/.*@refs/heads/main")
    assert signer.made(ByIdentity("https://i", "https://github.com/acme/fleet@refs/heads/main"))
    assert not signer.made(ByIdentity("https://i", "https://github.com/acme/fleet@refs/heads/main-2"))
    assert not signer.made(ByIdentity("https://i", "https://evil/https://github.com/acme/x@refs/heads/main"))
    assert not signer.made(ByIdentity("https://j", "https://github.com/acme/fleet@refs/heads/main"))


@pytest.mark.parametrize("pattern", ["(a+)+b", "(.*a){24}", "(a|a)*b", "(?:a?){30}a{30}b"])
def test_a_name_that_a_pattern_would_work_on_for_ever_is_no_match_and_costs_a_moment(pattern: str) -> None:
    """Whoever gets a certificate chooses the name in it. Without the bound, this test does not end."""
    before = signal.getsignal(signal.SIGVTALRM)
    signer = IdentitySigner("x", "https://i", pattern=pattern)
    assert not signer.made(ByIdentity("https://i", "a" * 1000 + "!"))
    assert signal.getsignal(signal.SIGVTALRM) == before
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


def test_a_stranger_with_a_certificate_writes_nothing_raw_into_messages(all_four: Demands) -> None:
    findings = Findings(all_four, digest_of(b"it"), MODEL, CLASS)
    findings.add(Statement("evil \x1b[2J \ud800", {}, ByIdentity("https://i", "eve@example.org")))
    told = str(findings.failure())
    assert "evil" in told
    assert told.isprintable()


# --- a flood of referrers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", ["https://example.org/noise", None])
def test_junk_in_front_hides_nothing_that_an_honest_list_shows(
    published: Published, all_four: Demands, key: ec.EllipticCurvePrivateKey, noise: str | None
) -> None:
    notes = {"annotations": {ANNOTATION_BUNDLE_PREDICATE: noise}} if noise else {}
    for number in range(MAX_REFERRERS + 8):
        published.attach_bytes(b"junk %d" % number, **notes)
    for kind, predicate in (
        (PREDICATE_SIGN, {}),
        (PREDICATE_GATE_REPORT, report(published.digest)),
        (PREDICATE_PROVENANCE, provenance(BUILDER)),
        (PREDICATE_BOM, bom()),
    ):
        bundle = json.dumps(sign(key, statement(published.digest, kind, predicate))).encode()
        published.attach_bytes(bundle, annotations={ANNOTATION_BUNDLE_PREDICATE: kind})
    assert published.verify(published.source(annotated=True), all_four)["verdict"] == "pass"


def test_a_claim_makes_nothing_believed(published: Published, all_four: Demands) -> None:
    for kind in ATTESTATIONS.values():
        published.attach_bytes(b"{}", annotations={ANNOTATION_BUNDLE_PREDICATE: kind})
    published.source(annotated=True)
    published.refuses("bad-signature", all_four)


# --- the device -----------------------------------------------------------------------------------------------------


def device(published: Published, trust: dict[str, Any]) -> DeviceTrust:
    folder = published.shelf.root
    (folder / "root.json").write_text("{}")
    (folder / "signing.pub").write_bytes(pem(published.key))
    document = {
        "version": 1,
        "device": {"id": "pi-7", "class": CLASS},
        "source": {"url": "oci:registry"},
        "trust": {"root": "root.json", **trust},
    }
    return DeviceTrust(parse(document, base=folder))


def desired(body: bytes | None, root: bytes | None = None) -> Any:
    return SimpleNamespace(policy=body, trusted_root=root)


def test_a_device_follows_the_policy_that_targets_signed(
    published: Published, key: ec.EllipticCurvePrivateKey
) -> None:
    published.signature()
    published.gate_report()
    source = published.source()
    device(published, {}).verify(
        source, MODEL, published.digest, model=MODEL, desired=desired(policy({"release": by_key(key)}))
    )
    with pytest.raises(TrustError) as caught:
        demanding = desired(policy({"release": by_key(key)}, demand("provenance")))
        device(published, {}).verify(source, MODEL, published.digest, model=MODEL, desired=demanding)
    assert caught.value.code == "no-provenance"


def test_a_device_that_pins_a_key_needs_no_policy_and_one_that_pins_nothing_does(
    published: Published,
) -> None:
    published.signature()
    published.gate_report()
    source = published.source()
    pinning = device(published, {"keys": ["signing.pub"]})
    pinning.verify(source, MODEL, published.digest, model=MODEL, desired=desired(None))
    with pytest.raises(TrustError) as caught:
        device(published, {}).verify(source, MODEL, published.digest, model=MODEL, desired=desired(None))
    assert caught.value.code == "no-policy"


def test_a_device_that_pins_an_identity_refuses_the_key_that_the_policy_allows(
    published: Published, key: ec.EllipticCurvePrivateKey
) -> None:
    published.everything()
    pinning = device(published, {"identities": [{"issuer": "https://i.example", "identity": IDENTITY}]})
    with pytest.raises(TrustError) as caught:
        body = policy({"release": by_key(key)})
        pinning.verify(published.source(), MODEL, published.digest, model=MODEL, desired=desired(body))
    assert caught.value.code == "unsigned"


def test_an_unreadable_policy_stops_installation(published: Published) -> None:
    published.everything()
    with pytest.raises(TrustError) as caught:
        pinning = device(published, {"keys": ["signing.pub"]})
        pinning.verify(published.source(), MODEL, published.digest, model=MODEL, desired=desired(b"{}"))
    assert caught.value.code == "bad-policy"


@pytest.mark.parametrize(
    ("identity", "complaint"),
    [
        ({"identity": "a@b"}, r"identities\[0\]\.issuer is missing"),
        ({"issuer": "https://i"}, "exactly one of them"),
        ({"issuer": "https://i", "identity": "a", "identityPattern": "a"}, "exactly one of them"),
        ({"issuer": "https://i", "identityPattern": "("}, "no regular expression"),
        ({"issuer": "https://i", "identity": "a", "colour": "red"}, "colour is unknown"),
        ("a@b", "must be an object"),
    ],
)
def test_an_identity_in_the_configuration_is_read_strictly(
    published: Published, identity: Any, complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        device(published, {"identities": [identity]})
