"""`edgewright verify`: what a reviewer is told of an artifact, and that it is what a device would decide."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edgewright.cli import cli
from edgewright.errors import NetworkError, SpecError, TrustError
from edgewright.publish import oci
from edgewright.publish.referrer import attach
from edgewright.publish.registry import open_registry
from edgewright.publish.statement import sign_statement, statement
from edgewright.trust.signing_key import load_signing_key
from edgewright.verify.reference import Reference, parse_reference
from edgewright.verify.statement import said
from edgewright_agent.contract import (
    ATTESTATIONS,
    OCI_INDEX,
    PREDICATE_BOM,
    PREDICATE_GATE_REPORT,
    canonical_json,
    digest_of,
)
from private_sigstore.instance import IDENTITY, PrivateSigstore
from real import Registry
from unit.publish.lane import CLASS, MODEL, LaneFiles, run_index, write_key

ZEROS = "sha256:" + "0" * 64
Verify = Callable[..., Result]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two published lanes and their index, made once."""
    root = tmp_path_factory.mktemp("fleet")
    lanes = [LaneFiles(root, hardware_class=name) for name in (CLASS, "medical-cart-cpu")]
    for lane in lanes:
        lane.all()
    run_index(*lanes)
    return root


@pytest.fixture
def lane(made: Path, tmp_path: Path) -> LaneFiles:
    """A copy that a test may spoil."""
    root = tmp_path / "fleet"
    shutil.copytree(made, root)
    lane = LaneFiles(root)
    for path in (root / "work" / MODEL / CLASS).glob("*/*"):
        lane.inputs[f"{path.parent.name}/{path.name}"] = path
    return lane


@pytest.fixture
def verify(lane: LaneFiles, monkeypatch: pytest.MonkeyPatch) -> Verify:
    """Run the command where no fleet is; a reviewer holds a public key and nothing else."""
    monkeypatch.chdir(lane.root)

    def run(*options: str, reference: str = "") -> Result:
        chosen = reference or f"oci:registry/{MODEL}@{lane.digest}"
        given = options if "--policy" in options else ("--key", "keys/signing.pub", *options)
        return CliRunner().invoke(cli, ["verify", chosen, *given])

    return run


def rows(result: Result, hardware_class: str = CLASS) -> dict[str, dict[str, Any]]:
    report = json.loads(result.stdout)
    found = next(each for each in report["classes"] if each["hardwareClass"] == hardware_class)
    return {row["attestation"]: row for row in found["attestations"]}


def policy(lane: LaneFiles, *names: str, **more: Any) -> str:
    """Write a policy that demands these attestations of the fleet's own key."""
    path = lane.root / "policy.json"
    demands = [{"attestation": name, "signers": ["release"], **more} for name in names]
    signers = {"release": {"publicKey": (lane.root / "keys/signing.pub").read_text()}}
    path.write_text(json.dumps({"version": 1, "signers": signers, "demands": demands}))
    return str(path)


def sign(lane: LaneFiles, kind: str, predicate: Any, *, digest: str = "", keys: str = "keys") -> None:
    """Attach one more statement to the lane's artifact."""
    signing = {"privateKey": f"file:{keys}/signing.key", "publicKey": f"{keys}/signing.pub"}
    key = load_signing_key(signing, lane.root)
    bundle = sign_statement(statement(MODEL, digest or lane.digest, kind, predicate), key)
    registry = open_registry(lane.registry, lane.root)(MODEL)
    attach(registry, subject=oci.manifest_descriptor(lane.manifest), bundle=bundle)


# --- what is told ---------------------------------------------------------------------------------------------------


def test_every_attestation_is_shown_with_its_signer_and_what_it_says(verify: Verify) -> None:
    result = verify()
    assert result.exit_code == 0, result.output
    for words in (
        "digit-reader 1.0.0 for raspberry-pi-4",
        "accepted",
        "pass, 1 check; tightest: latency-p95, 38 % left",
        "no commit, not from a Git repository; built by a machine of no platform",
        "CycloneDX 1.6; Apache-2.0; data: optdigits (CC-BY-4.0)",
        "signing: key ",
        "1 of 1 class would be accepted",
    ):
        assert words in result.output


def test_an_index_is_checked_for_all_its_classes(verify: Verify, lane: LaneFiles) -> None:
    result = verify("--json", reference=f"oci:registry/{MODEL}:1.0.0")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["accepted"], report["index"]["accepted"]) == (0, True, True)
    assert [each["hardwareClass"] for each in report["classes"]] == ["medical-cart-cpu", CLASS]
    assert set(rows(result)) == set(ATTESTATIONS)


def test_one_class_of_an_index_can_be_asked_for(verify: Verify) -> None:
    result = verify("--json", "--class", CLASS, reference=f"oci:registry/{MODEL}:1.0.0")
    assert [each["hardwareClass"] for each in json.loads(result.stdout)["classes"]] == [CLASS]


def test_a_class_that_is_not_there_is_told_with_those_that_are(verify: Verify) -> None:
    for reference in ("", f"oci:registry/{MODEL}:1.0.0"):
        result = verify("--class", "toaster", reference=reference)
        assert isinstance(result.exception, SpecError)
        assert CLASS in f"{result.exception} {result.exception.hint}"


def test_a_policy_that_demands_everything_is_met_by_what_is_published(
    verify: Verify, lane: LaneFiles
) -> None:
    result = verify("--json", "--policy", policy(lane, *ATTESTATIONS))
    assert result.exit_code == 0, result.output
    assert {row["result"] for row in rows(result).values()} == {"ok"}


def test_what_nobody_demands_is_valid_and_says_so(verify: Verify) -> None:
    found = rows(verify("--json"))
    assert {name: row["result"] for name, row in found.items()} == {
        "signature": "ok", "gate-report": "ok", "provenance": "extra", "bom": "extra",
    }  # fmt: skip


# --- what is refused ------------------------------------------------------------------------------------------------


def test_another_key_is_refused_with_exit_code_2(verify: Verify, lane: LaneFiles) -> None:
    write_key(lane.root / "other")
    result = CliRunner().invoke(
        cli, ["verify", f"oci:registry/{MODEL}@{lane.digest}", "--key", "other/signing.pub"]
    )
    assert result.exit_code == 2
    assert "refused, bad-signature" in result.output
    assert "nobody known" in result.output
    told = next(line for line in result.output.splitlines() if line.startswith("refused, bad-signature"))
    assert told.count("none of the trusted keys made its signature") == 1  # four referrers, one reason


def test_a_foreign_signature_beside_ours_is_shown_and_changes_nothing(
    verify: Verify, lane: LaneFiles
) -> None:
    write_key(lane.root / "foreign")
    sign(lane, PREDICATE_GATE_REPORT, {"verdict": "pass"}, keys="foreign")
    result = verify()
    assert result.exit_code == 0
    assert "refused: bad-signature" in result.output


def test_a_manifest_that_was_changed_in_the_layout_is_an_error_of_the_source(
    verify: Verify, lane: LaneFiles
) -> None:
    blob = lane.root / "registry" / MODEL / "blobs/sha256" / lane.digest[7:]
    blob.write_bytes(blob.read_bytes().replace(b"1.0.0", b"9.9.9"))
    result = verify()
    assert isinstance(result.exception, NetworkError)
    assert "digest-mismatch" in str(result.exception)


def test_a_bundle_that_was_changed_in_the_layout_is_refused(verify: Verify, lane: LaneFiles) -> None:
    bundle = lane.inputs["signed/gate.sigstore.json"].read_bytes()
    blob = lane.root / "registry" / MODEL / "blobs/sha256" / digest_of(bundle)[7:]
    blob.write_bytes(bundle.replace(b'"payload":"e', b'"payload":"f'))
    result = verify()
    assert result.exit_code == 2
    assert "no-gate-report" in result.output
    assert "digest-mismatch" in result.output


def test_a_signature_over_another_digest_is_refused(verify: Verify, lane: LaneFiles) -> None:
    sign(lane, ATTESTATIONS["signature"], {}, digest=ZEROS)
    assert "another artifact" in verify("--json").stdout


@pytest.mark.parametrize(
    ("attestation", "predicate", "code"),
    [
        ("gate-report", {"version": 1, "artifact": ZEROS}, "no-gate-report"),
        ("provenance", {"buildDefinition": {}}, "no-provenance"),
        ("bom", {"bomFormat": "SPDX"}, "no-bom"),
    ],
)
def test_a_signed_statement_that_says_the_wrong_thing_is_named(
    verify: Verify, lane: LaneFiles, attestation: str, predicate: Any, code: str
) -> None:
    sign(lane, ATTESTATIONS[attestation], predicate)
    report = json.loads(verify("--json").stdout)
    results = [
        row["result"] for row in report["classes"][0]["attestations"] if row["attestation"] == attestation
    ]
    assert code in results


def test_a_demand_that_nothing_meets_is_the_reason(verify: Verify, lane: LaneFiles) -> None:
    result = verify("--policy", policy(lane, "provenance", builder="https://builder.example/x"))
    assert result.exit_code == 2
    assert "refused, wrong-builder" in result.output


def test_demands_of_another_class_do_not_count(verify: Verify, lane: LaneFiles) -> None:
    path = policy(lane, "provenance", builder="https://builder.example/x", classes=["medical-cart-cpu"])
    assert verify("--policy", path).exit_code == 0


def test_a_signer_who_may_sign_something_else_is_told_apart(verify: Verify, lane: LaneFiles) -> None:
    write_key(lane.root / "auditor")
    sign(lane, PREDICATE_BOM, {"bomFormat": "CycloneDX"}, keys="auditor")
    path = Path(policy(lane, "bom"))
    document = json.loads(path.read_text())
    document["signers"]["auditor"] = {"publicKey": (lane.root / "auditor/signing.pub").read_text()}
    path.write_text(json.dumps(document))
    result = verify("--json", "--policy", str(path))
    found = json.loads(result.stdout)["classes"][0]["attestations"]
    assert {(row["signer"].partition(":")[0], row["result"]) for row in found if row["attestation"] == "bom"} == {
        ("release", "ok"), ("auditor", "not-allowed"),
    }  # fmt: skip


def test_an_index_that_lists_an_artifact_for_another_class_is_refused(
    verify: Verify, lane: LaneFiles
) -> None:
    registry = open_registry(lane.registry, lane.root)(MODEL)
    body = oci.index([oci.lane_descriptor(lane.manifest, "jetson-vision-standard", "arm64")])
    registry.put_manifest("9.9.9", body, OCI_INDEX)
    result = verify("--json", reference=f"oci:registry/{MODEL}:9.9.9")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["classes"][0]["code"]) == (2, "wrong-class")
    assert report["index"]["code"] == "unsigned"


def test_a_genuine_artifact_of_another_model_is_not_what_was_asked_for(
    verify: Verify, lane: LaneFiles
) -> None:
    shutil.copytree(lane.root / "registry" / MODEL, lane.root / "registry/sleep-guard")
    for reference in (f"@{lane.digest}", ":1.0.0"):
        result = verify("--json", reference=f"oci:registry/sleep-guard{reference}")
        report = json.loads(result.stdout)
        assert (result.exit_code, report["accepted"]) == (2, False)
        assert {each["code"] for each in report["classes"]} == {"wrong-model"}


def test_an_old_version_under_a_new_tag_is_not_what_was_asked_for(verify: Verify, lane: LaneFiles) -> None:
    registry = open_registry(lane.registry, lane.root)(MODEL)
    body = registry.get_manifest("1.0.0")
    assert body is not None
    for tag, code in (("2.0.0", 2), ("2.0.0-0123456789ab", 2), ("latest", 0)):
        registry.put_manifest(tag, body, OCI_INDEX)
        result = verify("--json", reference=f"oci:registry/{MODEL}:{tag}")
        assert result.exit_code == code, result.output
        if code:
            assert json.loads(result.stdout)["index"]["code"] == "wrong-version"


def test_identities_are_checked_by_the_trusted_root_that_is_given(
    verify: Verify, lane: LaneFiles, private_sigstore: PrivateSigstore
) -> None:
    payload = statement(MODEL, lane.digest, ATTESTATIONS["bom"], {"bomFormat": "CycloneDX"})
    registry = open_registry(lane.registry, lane.root)(MODEL)
    bundle = canonical_json(private_sigstore.bundle(payload))
    attach(registry, subject=oci.manifest_descriptor(lane.manifest), bundle=bundle)
    path = Path(policy(lane, "signature"))
    document = json.loads(path.read_text())
    document["signers"]["ci"] = {"issuer": private_sigstore.issuer, "identity": IDENTITY}
    document["demands"].append({"attestation": "bom", "signers": ["ci"]})
    path.write_text(json.dumps(document))
    (lane.root / "trusted-root.json").write_bytes(canonical_json(private_sigstore.trusted_root()))
    without = verify("--policy", str(path))
    assert (without.exit_code, "no trusted root" in without.output) == (2, True)
    result = verify("--policy", str(path), "--trusted-root", "trusted-root.json")
    assert result.exit_code == 0, result.output
    assert f"ci: {IDENTITY}" in result.output


# --- what cannot be read --------------------------------------------------------------------------------------------


def test_without_policy_key_or_fleet_it_asks_for_one(
    lane: LaneFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lane.root)
    result = CliRunner().invoke(cli, ["verify", f"oci:registry/{MODEL}@{lane.digest}"])
    assert isinstance(result.exception, SpecError)
    assert "--policy" in str(result.exception.hint)


def test_a_policy_that_is_none_is_told(verify: Verify, lane: LaneFiles) -> None:
    (lane.root / "broken.json").write_text("{}")
    result = verify("--policy", "broken.json")
    assert isinstance(result.exception, TrustError)
    assert "bad-policy" in str(result.exception)


def test_what_is_not_there_is_an_error_of_the_source(verify: Verify) -> None:
    result = verify(reference=f"oci:registry/{MODEL}@{ZEROS}")
    assert isinstance(result.exception, NetworkError)
    assert "not-found" in str(result.exception)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"localhost:5000/acme/x@{ZEROS}", Reference("https://localhost:5000", "acme/x", ZEROS)),
        (f"registry.example/x:1.0@{ZEROS}", Reference("https://registry.example", "x", ZEROS)),
        ("http://localhost:5000/a/b/x:1.0.0", Reference("http://localhost:5000", "a/b/x", "1.0.0")),
        ("oci:/srv/registry/x:1.0.0", Reference("oci:/srv/registry", "x", "1.0.0")),
    ],
)
def test_references_are_taken_apart_as_other_tools_do(text: str, expected: Reference) -> None:
    assert parse_reference(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "x", "localhost:5000", "localhost:5000/x", "h/x@sha256:12", "h/../x:1", "oci:x", "h/X:1", "h/x:a b"],
)
def test_what_is_no_reference_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_reference(text)
    assert "oci:DIR" in str(caught.value.hint)


def test_nothing_that_a_statement_says_steers_a_terminal() -> None:
    text = said("gate-report", {"verdict": "\x1b[2Jpass\n", "checks": [{"name": "\x9b", "headroom": 0.5}]})
    assert text.isprintable()


@pytest.mark.parametrize("attestation", ATTESTATIONS)
@pytest.mark.parametrize(
    "predicate", [{}, {"checks": 7}, {"buildDefinition": []}, {"metadata": {"component": "x"}}]
)
def test_a_statement_of_another_shape_is_told_not_raised(attestation: str, predicate: dict[str, Any]) -> None:
    assert said(attestation, predicate)


# --- in a fleet, from a registry ------------------------------------------------------------------------------------


def test_the_fleets_own_registry_is_asked_as_the_fleet_asks_and_the_commands_can_be_pasted(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = LaneFiles(tmp_path / "fleet", registry={"url": registry.url})
    lane.all()
    (lane.root / "fleet.yaml").write_text(
        f"version: 1\nname: small\nregistry: {{url: '{registry.url}'}}\n"
        "signing: {privateKey: 'file:keys/signing.key', publicKey: keys/signing.pub}\n"
    )
    monkeypatch.chdir(lane.root)
    result = CliRunner().invoke(cli, ["verify", f"{registry.host}/{MODEL}@{lane.digest}"])
    assert result.exit_code == 0, f"{result.output} {result.exception!r}"
    (command,) = (line for line in result.output.splitlines() if line.startswith("  cosign verify --key "))
    words = shlex.split(command)
    assert Path(words[3]).read_bytes() == (lane.root / "keys/signing.pub").read_bytes()
    assert "--allow-http-registry" in words
    monkeypatch.chdir(tmp_path)
    elsewhere = ["verify", f"{registry.host}/{MODEL}@{lane.digest}", "--key", "fleet/keys/signing.pub"]
    refused = CliRunner().invoke(cli, elsewhere).exception
    assert isinstance(refused, NetworkError) and "--plain-http" in str(refused.hint)
    assert "--key fleet/keys/signing.pub" in CliRunner().invoke(cli, [*elsewhere, "--plain-http"]).output
