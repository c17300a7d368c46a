"""Signing: only what passed its gates, exactly that, and only with the key devices pin."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgewright.errors import GateError, TrustError
from edgewright.publish.statement import read_statement, subject_digest, verify_bundle
from edgewright.trust.signing_key import load_public_key
from edgewright_agent.contract import PREDICATE_GATE_REPORT, PREDICATE_SIGN
from unit.publish.lane import LaneFiles, write_key


@pytest.fixture
def lane(tmp_path: Path) -> LaneFiles:
    lane = LaneFiles(tmp_path)
    lane.package()
    return lane


def failing(name: str = "latency-p95") -> dict[str, object]:
    return {
        "name": name, "measured": 31.2, "limit": 20, "unit": "ms", "direction": "max", "verdict": "fail",
        "source": "hardware/raspberry-pi-4.yaml#limits.latency.p95",
    }  # fmt: skip


def signed_nothing(lane: LaneFiles) -> bool:
    return list(lane.folder("signed").iterdir()) == []


def test_both_statements_verify_and_are_about_the_manifest(lane: LaneFiles) -> None:
    lane.sign()
    public = load_public_key(lane.root / "keys/signing.pub")
    for name, predicate_type in (("sign", PREDICATE_SIGN), ("gate", PREDICATE_GATE_REPORT)):
        document = verify_bundle(lane.inputs[f"signed/{name}.sigstore.json"].read_bytes(), public)
        assert (subject_digest(document), document["predicateType"]) == (lane.digest, predicate_type)


def test_the_gate_report_travels_inside_its_statement(lane: LaneFiles) -> None:
    lane.sign()
    predicate = read_statement(lane.inputs["signed/gate.sigstore.json"].read_bytes())["predicate"]
    assert predicate["checks"][0]["name"] == "latency-p95"


def test_signing_twice_gives_the_same_bytes(lane: LaneFiles) -> None:
    lane.sign()
    first = lane.inputs["signed/sign.sigstore.json"].read_bytes()
    lane.sign()
    assert lane.inputs["signed/sign.sigstore.json"].read_bytes() == first


def test_a_failing_gate_is_not_signed_and_says_why(lane: LaneFiles) -> None:
    lane.gate(verdict="fail", checks=[failing()])
    with pytest.raises(GateError, match=r"latency-p95 31\.2 ms, limit 20 ms") as caught:
        lane.sign()
    assert "gate-report.json" in str(caught.value.hint)
    assert signed_nothing(lane)


def test_a_report_that_says_pass_over_a_failed_check_is_not_believed(lane: LaneFiles) -> None:
    lane.gate(checks=[failing()])
    with pytest.raises(GateError, match="latency-p95"):
        lane.sign()


def test_a_report_without_checks_is_not_believed(lane: LaneFiles) -> None:
    lane.gate(checks=[])
    with pytest.raises(GateError, match="no passing verdict"):
        lane.sign()


def test_a_report_about_another_digest_is_refused(lane: LaneFiles) -> None:
    lane.gate(artifact="sha256:" + "0" * 64)
    with pytest.raises(GateError, match="is about sha256:0000"):
        lane.sign()


@pytest.mark.parametrize(
    ("word", "value"),
    [("model", "other"), ("hardwareClass", "medical-cart-cpu"), ("modelVersion", "9.9.9")],
)
def test_a_report_about_something_else_is_refused(lane: LaneFiles, word: str, value: str) -> None:
    lane.gate(**{word: value})
    with pytest.raises(GateError, match=word):
        lane.sign()


def test_no_report_no_signature(lane: LaneFiles) -> None:
    del lane.inputs["gated/gate-report.json"]
    with pytest.raises(GateError, match="has no gate report"):
        lane.sign()


def test_the_gate_is_asked_before_the_key(lane: LaneFiles) -> None:
    (lane.root / "keys/signing.key").unlink()
    lane.gate(verdict="fail", checks=[failing()])
    with pytest.raises(GateError):
        lane.sign()


def test_a_missing_key_says_how_to_make_one(lane: LaneFiles) -> None:
    (lane.root / "keys/signing.key").unlink()
    with pytest.raises(TrustError, match="signing key cannot be read") as caught:
        lane.sign()
    assert caught.value.hint == "edgewright keys init"
    assert signed_nothing(lane)


def test_a_key_that_devices_do_not_pin_is_refused(lane: LaneFiles, tmp_path: Path) -> None:
    write_key(tmp_path / "other")
    lane.signing["publicKey"] = str(tmp_path / "other/signing.pub")
    with pytest.raises(TrustError, match="does not belong"):
        lane.sign()


def test_a_tampered_bundle_does_not_verify(lane: LaneFiles) -> None:
    lane.sign()
    bundle = lane.inputs["signed/sign.sigstore.json"].read_bytes()
    other = lane.inputs["signed/gate.sigstore.json"].read_bytes()
    payload = bundle.partition(b'"payload":"')[2].partition(b'"')[0]
    swapped = other.replace(other.partition(b'"payload":"')[2].partition(b'"')[0], payload)
    with pytest.raises(TrustError, match="not signed by this key"):
        verify_bundle(swapped, load_public_key(lane.root / "keys/signing.pub"))
