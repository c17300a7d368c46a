"""Who signed an artifact and with which verdict: what is accepted, and every way to be refused."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright_agent.contract import (
    MAX_BUNDLE_BYTES,
    MAX_REFERRERS,
    OCI_MANIFEST,
    PREDICATE_GATE_REPORT,
    PREDICATE_SIGN,
    SIGSTORE_BUNDLE,
    digest_of,
    fallback_tag,
)
from edgewright_agent.errors import ConfigError, TransportError, TrustError
from edgewright_agent.transport import open_source
from edgewright_agent.trust.sigstore import Statement, load_key, verify_artifact, verify_bundle
from real import Registry, Tool
from unit.agent.transport.shelf import Shelf, descriptor
from unit.agent.trust.published import (
    CLASS,
    MODEL,
    PROVENANCE,
    Published,
    pem,
    pinned,
    report,
    sign,
    statement,
)

DIGEST = digest_of(b"the artifact")


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def stranger() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def verify(bundle: dict[str, Any] | bytes, *keys: ec.EllipticCurvePrivateKey) -> Statement:
    data = bundle if isinstance(bundle, bytes) else json.dumps(bundle).encode()
    return verify_bundle(data, [load_key(pem(key)) for key in keys], subject_digest=DIGEST)


def refused(bundle: dict[str, Any] | bytes, *keys: ec.EllipticCurvePrivateKey) -> str:
    with pytest.raises(TrustError) as caught:
        verify(bundle, *keys)
    assert caught.value.code == "bad-signature"
    return str(caught.value)


# --- one bundle --------------------------------------------------------------------------------------------


def test_a_bundle_of_a_trusted_key_gives_its_statement(key: ec.EllipticCurvePrivateKey) -> None:
    made = sign(key, statement(DIGEST, PREDICATE_GATE_REPORT, {"verdict": "pass"}))
    assert verify(made, key) == Statement(PREDICATE_GATE_REPORT, {"verdict": "pass"})


def test_any_of_several_trusted_keys_may_have_signed(
    key: ec.EllipticCurvePrivateKey, stranger: ec.EllipticCurvePrivateKey
) -> None:
    assert verify(sign(key, statement(DIGEST)), stranger, key).predicate_type == PREDICATE_SIGN


def test_another_key_is_refused_even_with_the_hint_of_a_trusted_one(
    key: ec.EllipticCurvePrivateKey, stranger: ec.EllipticCurvePrivateKey
) -> None:
    made = sign(stranger, statement(DIGEST))
    made["verificationMaterial"] = sign(key, statement(DIGEST))["verificationMaterial"]
    assert "none of the trusted keys" in refused(made, key)


def test_a_wrong_hint_does_not_matter(
    key: ec.EllipticCurvePrivateKey, stranger: ec.EllipticCurvePrivateKey
) -> None:
    made = sign(key, statement(DIGEST))
    made["verificationMaterial"] = sign(stranger, statement(DIGEST))["verificationMaterial"]
    assert verify(made, key).predicate_type == PREDICATE_SIGN


def test_without_trusted_keys_nothing_is_accepted(key: ec.EllipticCurvePrivateKey) -> None:
    refused(sign(key, statement(DIGEST)))


def test_an_entry_of_a_transparency_log_beside_the_signature_is_accepted(
    key: ec.EllipticCurvePrivateKey,
) -> None:
    made = sign(key, statement(DIGEST))
    made["verificationMaterial"] |= {"tlogEntries": [{"logIndex": "1"}], "timestampVerificationData": {}}
    assert verify(made, key).predicate_type == PREDICATE_SIGN


def test_a_changed_payload_is_refused(key: ec.EllipticCurvePrivateKey) -> None:
    made = sign(key, statement(DIGEST, PREDICATE_GATE_REPORT, {"verdict": "fail"}))
    payload = base64.b64decode(made["dsseEnvelope"]["payload"]).replace(b"fail", b"pass")
    made["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    refused(made, key)


def test_a_signature_without_pre_authentication_encoding_is_refused(key: ec.EllipticCurvePrivateKey) -> None:
    made = sign(key, statement(DIGEST))
    bare = key.sign(base64.b64decode(made["dsseEnvelope"]["payload"]), ec.ECDSA(hashes.SHA256()))
    made["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(bare).decode()
    refused(made, key)


SUBJECTS: dict[str, Any] = {
    "another artifact": [{"digest": {"sha256": "0" * 64}}],
    "two artifacts": [{"digest": {"sha256": DIGEST[7:]}}, {"digest": {"sha256": "0" * 64}}],
    "the same twice": [{"digest": {"sha256": DIGEST[7:]}}] * 2,
    "no artifact": [],
    "no digest": [{"name": MODEL}],
    "a prefixed digest": [{"digest": {"sha256": DIGEST}}],
    "a second algorithm": [{"digest": {"sha256": DIGEST[7:], "md5": "0" * 32}}],
    "text": DIGEST,
    "numbers": [1, None],
    "nothing": None,
}


@pytest.mark.parametrize("what", SUBJECTS)
def test_a_statement_has_to_be_about_exactly_this_artifact(
    key: ec.EllipticCurvePrivateKey, what: str
) -> None:
    assert "another artifact" in refused(sign(key, statement(DIGEST, subject=SUBJECTS[what])), key)


@pytest.mark.parametrize(
    "more",
    [
        {"_type": "https://in-toto.io/Statement/v0.1"},
        {"predicateType": None},
        {"predicateType": ["x"]},
        {"predicate": "pass"},
        {"predicate": [1]},
    ],
)
def test_a_statement_of_another_shape_is_refused(
    key: ec.EllipticCurvePrivateKey, more: dict[str, Any]
) -> None:
    refused(sign(key, statement(DIGEST, **more)), key)


def test_another_payload_type_is_refused_although_its_signature_is_valid(
    key: ec.EllipticCurvePrivateKey,
) -> None:
    assert "in-toto" in refused(sign(key, statement(DIGEST), payload_type="text/plain"), key)


@pytest.mark.parametrize(
    "material", [{"certificate": {"rawBytes": ""}}, {"x509CertificateChain": {}, "publicKey": {"hint": ""}}]
)
def test_a_certificate_is_refused_in_key_mode(
    key: ec.EllipticCurvePrivateKey, material: dict[str, Any]
) -> None:
    assert "keyless" in refused(sign(key, statement(DIGEST)) | {"verificationMaterial": material}, key)


def _two_signatures(bundle: dict[str, Any]) -> None:
    bundle["dsseEnvelope"]["signatures"] *= 2


def _no_signature(bundle: dict[str, Any]) -> None:
    bundle["dsseEnvelope"]["signatures"] = []


def _not_base64(bundle: dict[str, Any]) -> None:
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = "****"


def _non_ascii(bundle: dict[str, Any]) -> None:
    bundle["dsseEnvelope"]["payload"] = "ü"


def _older_media_type(bundle: dict[str, Any]) -> None:
    bundle["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.2"


def _message_signature(bundle: dict[str, Any]) -> None:
    bundle["messageSignature"] = bundle.pop("dsseEnvelope")


def _no_material(bundle: dict[str, Any]) -> None:
    del bundle["verificationMaterial"]


@pytest.mark.parametrize(
    "bend",
    [
        _two_signatures,
        _no_signature,
        _not_base64,
        _non_ascii,
        _older_media_type,
        _message_signature,
        _no_material,
    ],
)
def test_a_bundle_of_another_shape_is_refused(
    key: ec.EllipticCurvePrivateKey, bend: Callable[[dict[str, Any]], None]
) -> None:
    made = sign(key, statement(DIGEST))
    bend(made)
    refused(made, key)


def test_a_key_that_appears_twice_is_refused_because_readers_differ_on_it(
    key: ec.EllipticCurvePrivateKey,
) -> None:
    made = json.dumps(sign(key, statement(DIGEST)))
    assert "twice" in refused(made.replace("{", '{"mediaType": "x", ', 1).encode(), key)


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"\xff\xfe", b"[" * 100_000, b"{}", b'{"a": NaN}'])
def test_what_is_no_bundle_at_all_is_refused(key: ec.EllipticCurvePrivateKey, body: bytes) -> None:
    refused(body, key)


def test_a_bundle_that_is_too_long_is_refused(key: ec.EllipticCurvePrivateKey) -> None:
    refused(json.dumps(sign(key, statement(DIGEST))).encode() + b" " * MAX_BUNDLE_BYTES, key)


@pytest.fixture(scope="module")
def body(key: ec.EllipticCurvePrivateKey) -> bytes:
    """One bundle for all examples: an ECDSA signature has another length every time it is made."""
    return json.dumps(sign(key, statement(DIGEST))).encode()


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_bundles_are_refused(
    key: ec.EllipticCurvePrivateKey, body: bytes, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(start, min(len(body), start + 30)))
    made = body[:start] + data.draw(st.binary(max_size=20)) + body[end:]
    try:
        # Harmless changes exist (the hint, spaces), but none that changes what is said.
        assert verify(made, key) == Statement(PREDICATE_SIGN, {})
    except TrustError as refusal:
        assert refusal.code == "bad-signature"


@pytest.mark.parametrize(
    "body", [b"", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", b"\0"]
)
def test_a_key_file_that_is_none_is_a_configuration_error(body: bytes) -> None:
    with pytest.raises(ConfigError) as caught:
        load_key(body)
    assert caught.value.code == "bad-key"


def test_a_key_on_another_curve_is_a_configuration_error() -> None:
    for other in (ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()):
        with pytest.raises(ConfigError):
            load_key(pem(other))


# --- one artifact and what refers to it --------------------------------------------------------------------


@pytest.fixture
def published(tmp_path: Path, key: ec.EllipticCurvePrivateKey) -> Published:
    return Published(Shelf(tmp_path / "release"), key)


def test_a_signed_artifact_with_a_passing_report_is_accepted(published: Published) -> None:
    published.signature()
    published.gate_report()
    assert published.verify() == report(published.digest)


def test_the_order_of_referrers_does_not_matter(published: Published) -> None:
    published.gate_report()
    published.attach(statement(published.digest, PROVENANCE))
    published.signature()
    assert published.verify()["verdict"] == "pass"


def test_without_referrers_it_is_unsigned(published: Published) -> None:
    published.refuses("unsigned")


def test_a_signature_alone_is_not_enough(published: Published) -> None:
    published.signature()
    published.refuses("no-gate-report")


def test_a_gate_report_alone_is_not_enough(published: Published) -> None:
    published.gate_report()
    published.refuses("unsigned")


def test_a_provenance_statement_is_no_signature(published: Published) -> None:
    published.attach(statement(published.digest, PROVENANCE))
    published.gate_report()
    assert PROVENANCE in published.refuses("unsigned")


def test_bundles_of_a_stranger_are_a_bad_signature(
    published: Published, stranger: ec.EllipticCurvePrivateKey
) -> None:
    published.attach(statement(published.digest), key=stranger)
    published.attach(
        statement(published.digest, PREDICATE_GATE_REPORT, report(published.digest)), key=stranger
    )
    assert "none of the trusted keys" in published.refuses("bad-signature")


@pytest.mark.parametrize(
    ("bend", "code"),
    [
        ({"hardwareClass": "jetson-vision-standard"}, "wrong-class"),
        ({"model": "vibration-monitor"}, "wrong-model"),
        ({"verdict": "fail"}, "gate-failed"),
        ({"verdict": True}, "gate-failed"),
        ({"checks": [{"name": "latency-p95", "verdict": "fail"}]}, "gate-failed"),
        ({"checks": []}, "gate-failed"),
        ({"checks": "all good"}, "gate-failed"),
        ({"artifact": "sha256:" + "0" * 64}, "no-gate-report"),
        ({"version": 2}, "no-gate-report"),
    ],
)
def test_a_gate_report_has_to_pass_for_this_artifact_model_and_class(
    published: Published, bend: dict[str, Any], code: str
) -> None:
    published.signature()
    published.gate_report(**bend)
    published.refuses(code)


def test_a_report_of_another_artifact_cannot_be_attached_to_this_one(published: Published) -> None:
    other = digest_of(b"another artifact")
    published.signature()
    published.attach(statement(other, PREDICATE_GATE_REPORT, report(published.digest)))
    assert "another artifact" in published.refuses("no-gate-report")


def test_a_failing_report_does_not_hide_a_passing_one_made_later(published: Published) -> None:
    published.gate_report(verdict="fail")
    published.signature()
    published.gate_report()
    assert published.verify()["verdict"] == "pass"


def test_hostile_referrers_do_not_hide_the_good_ones(
    published: Published, stranger: ec.EllipticCurvePrivateKey
) -> None:
    shelf, digest = published.shelf, published.digest
    published.attach(statement(digest), key=stranger)
    published.attach_bytes(b"not a bundle")
    published.attach_bytes(b"x" * (MAX_BUNDLE_BYTES + 1))
    subject = descriptor(OCI_MANIFEST, shelf.body(MODEL, digest))
    published.referrers += [
        shelf.artifact(MODEL, [b"an SBOM"], subject=subject),
        shelf.artifact(MODEL, [b"a", b"b"], subject=subject, layer_type=SIGSTORE_BUNDLE),
        shelf.manifest(MODEL, {"mediaType": OCI_MANIFEST, "layers": "?", "subject": subject}),
        shelf.manifest(MODEL, {"mediaType": OCI_MANIFEST, "layers": [{}], "subject": subject}),
        shelf.artifact(MODEL, [json.dumps(sign(published.key, statement(digest))).encode()]),
    ]
    gone = shelf.refer(MODEL, digest, b"gone")
    published.referrers.append(gone)
    corrupt = shelf.refer(MODEL, digest, b"corrupted later")
    published.referrers.append(corrupt)
    shelf.blob_path(MODEL, digest_of(b"corrupted later")).write_bytes(b"corrupted LATER")
    published.signature()
    published.gate_report()
    source = published.source()
    shelf.blob_path(MODEL, gone).unlink()
    assert published.verify(source)["verdict"] == "pass"


def test_a_referrer_listed_for_another_subject_is_stepped_over(published: Published) -> None:
    other = published.shelf.artifact(MODEL, [b"other weights"])
    bundle = json.dumps(sign(published.key, statement(published.digest))).encode()
    published.referrers.append(published.shelf.refer(MODEL, other, bundle))
    published.gate_report()
    published.refuses("unsigned")


def test_a_flood_of_referrers_is_looked_at_up_to_the_bound(published: Published) -> None:
    for number in range(MAX_REFERRERS):
        published.attach(statement(published.digest, f"https://example.org/noise/{number}"))
    published.signature()
    published.gate_report()
    published.refuses("unsigned")


def test_a_source_that_goes_away_is_not_mistaken_for_a_missing_signature(
    published: Published, registry: Registry
) -> None:
    published.source()
    published.shelf.push(registry.url)
    source = open_source(registry.url)
    registry.stop()
    with pytest.raises(TransportError) as caught:
        published.verify(source)
    assert caught.value.code == "network"


def test_a_real_registry_gives_the_same_verdict(published: Published, registry: Registry) -> None:
    published.signature()
    published.gate_report()
    published.source()
    published.shelf.push(f"{registry.url}/acme")
    assert published.verify(open_source(f"{registry.url}/acme"))["verdict"] == "pass"


def test_without_a_fallback_tag_a_layout_is_searched(published: Published) -> None:
    published.signature()
    published.gate_report()
    assert published.verify(open_source(f"oci:{published.shelf.root}"))["verdict"] == "pass"
    assert not [
        e for e in published.shelf.index(MODEL)["manifests"] if fallback_tag(published.digest) in str(e)
    ]


# --- the ecosystem's own tool ------------------------------------------------------------------------------


@pytest.fixture
def cosign_key(cosign: Tool) -> Path:
    made = cosign("generate-key-pair")
    assert made.returncode == 0, made.stderr
    return cosign.home / "cosign.key"


def test_what_real_cosign_signs_is_accepted(
    published: Published, registry: Registry, cosign: Tool, cosign_key: Path, cosign_offline: list[str | Path]
) -> None:
    published.gate_report()
    published.source()
    published.shelf.push(registry.url)
    reference = f"{registry.host}/{MODEL}@{published.digest}"
    ran = cosign("sign", "-y", *cosign_offline, "--key", cosign_key, reference)
    assert ran.returncode == 0, ran.stderr
    with pytest.raises(TrustError) as caught:
        published.verify(open_source(registry.url))
    assert caught.value.code == "unsigned"
    trusted = pinned(cosign_key.with_suffix(".pub").read_bytes(), pem(published.key))
    found = verify_artifact(
        open_source(registry.url), MODEL, published.digest, trusted, model=MODEL, hardware_class=CLASS
    )
    assert found == report(published.digest)
