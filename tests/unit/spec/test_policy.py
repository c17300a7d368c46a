"""The policy in fleet.yaml: it names what exists, and demands nothing that could never be met."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgewright.errors import TrustError
from edgewright.spec.load import load_fleet
from edgewright.trust.documents import policy_document
from edgewright_agent.trust.policy import IdentitySigner, demands_of, parse_policy
from unit.publish.lane import write_key
from unit.spec.conftest import Repository, only, problems_of

ISSUER = "https://token.actions.githubusercontent.com"
IDENTITY = "https://github.com/acme/fleet/.github/workflows/release.yml@refs/heads/main"
OWN = "    - {name: release, publicKey: .edgewright/keys/signing.pub}\n"
POLICY = "policy:\n  signers:\n" + OWN


@pytest.fixture
def fleet(repository: Repository) -> Repository:
    write_key(repository.root / ".edgewright/keys")
    return repository


def with_policy(repository: Repository, text: str) -> Repository:
    repository.append("fleet.yaml", text)
    return repository


def test_a_policy_becomes_the_document_that_devices_read(fleet: Repository) -> None:
    with_policy(
        fleet,
        "signing: {trustConfig: trust.json}\n"
        + POLICY
        + f"    - {{name: ci, issuer: {ISSUER}, identity: '{IDENTITY}'}}\n"
        + "  demands:\n"
        + "    - {attestation: provenance, signers: [release], classes: [board], builder: https://b.example}\n"
        + "    - {attestation: bom}\n",
    )
    policy = parse_policy(policy_document(load_fleet(fleet.root)))
    assert policy.signers["ci"] == IdentitySigner("ci", ISSUER, identity=IDENTITY)
    provenance, bom = policy.demands
    assert (provenance.signers, provenance.classes, provenance.builder) == (
        ("release",), ("board",), "https://b.example",
    )  # fmt: skip
    assert (bom.signers, bom.classes) == (("release", "ci"), None)
    assert len(demands_of(policy, pins=(), hardware_class="board").signers) == 4
    assert len(demands_of(policy, pins=(), hardware_class="other").signers) == 3


def test_without_a_policy_the_fleets_own_key_must_have_signed(fleet: Repository) -> None:
    policy = parse_policy(policy_document(load_fleet(fleet.root)))
    assert list(policy.signers) == ["release"]
    assert [demand.attestation for demand in policy.demands] == ["signature", "gate-report"]


def test_equal_keys_in_other_files_give_the_same_document(fleet: Repository) -> None:
    before = policy_document(load_fleet(fleet.root))
    path = fleet.root / ".edgewright/keys/signing.pub"
    path.write_bytes(b"# the key of the release job\n" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert policy_document(load_fleet(fleet.root)) == before


def test_a_key_that_devices_do_not_accept_is_refused_when_the_policy_is_signed(fleet: Repository) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec

    write_key(fleet.root / "auditor", curve=ec.SECP384R1())
    with_policy(fleet, POLICY + "    - {name: auditor, publicKey: auditor/signing.pub}\n")
    with pytest.raises(TrustError, match="not an ECDSA P-256 key"):
        policy_document(load_fleet(fleet.root))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (POLICY + OWN, "signer 'release' is already on line 12"),
        (POLICY + "  demands:\n    - {attestation: bom, signers: [relaese]}\n", "did you mean 'release'?"),
        (POLICY + "  demands:\n    - {attestation: bom, classes: [bord]}\n", "did you mean 'board'?"),
        (POLICY + "  demands:\n    - {attestation: sbom}\n", "did you mean 'bom'?"),
        (POLICY + "  demands:\n    - {attestation: bom, builder: x}\n", "only 'provenance' names a builder"),
        (POLICY + "    - {name: ci, issuer: https://i.example}\n", "one of 'identity' and 'identityPattern'"),
        (POLICY + "    - {name: ci}\n", "a signer needs 'publicKey'"),
        (
            POLICY + "    - {name: ci, issuer: https://i.example, identity: a}\n",
            "could not check its certificates: no Sigstore instance",
        ),
        (POLICY + "    - {name: ci, publicKey: a.pub, issuer: https://i.example, identity: a}\n", "not both"),
        (
            POLICY + "    - {name: ci, issuer: https://i.example, identityPattern: '('}\n",
            "no regular expression",
        ),
        (POLICY + "    - {name: auditor, publicKey: nobody.pub}\n", "the public key cannot be read"),
        (POLICY + "    - {name: auditor, publicKey: fleet.yaml}\n", "not a public key in PEM"),
        ("policy:\n  signers: []\n", "at least 1 item"),
    ],
)
def test_what_is_wrong_with_a_policy_is_told_at_its_place(
    fleet: Repository, text: str, complaint: str
) -> None:
    found = [problem for problem in problems_of(with_policy(fleet, text)) if complaint in problem]
    assert found and found[0].startswith("fleet.yaml:")


def test_a_policy_without_the_fleets_own_signer_could_never_be_met(fleet: Repository) -> None:
    write_key(fleet.root / "auditor")
    with_policy(fleet, "policy:\n  signers:\n    - {name: auditor, publicKey: auditor/signing.pub}\n")
    assert "none of the signers is the fleet's own" in only(fleet)


def test_a_demand_that_excludes_the_fleets_own_signer_could_never_be_met(fleet: Repository) -> None:
    write_key(fleet.root / "auditor")
    with_policy(
        fleet,
        POLICY
        + "    - {name: auditor, publicKey: auditor/signing.pub}\n"
        + "  demands:\n    - {attestation: bom, signers: [auditor]}\n",
    )
    problem = only(fleet)
    assert "may not sign the bom" in problem and "add release" in problem


def test_the_fleets_key_may_be_named_by_the_copy_that_is_in_git(fleet: Repository) -> None:
    (fleet.root / "signing.pub").write_bytes((fleet.root / ".edgewright/keys/signing.pub").read_bytes())
    with_policy(fleet, "policy:\n  signers:\n    - {name: release, publicKey: signing.pub}\n")
    load_fleet(fleet.root)


def test_a_policy_can_be_checked_where_the_keys_are_not(repository: Repository) -> None:
    load_fleet(with_policy(repository, POLICY).root)


KEYLESS = f"""\
signing:
  mode: keyless
  trustConfig: trust.json
  issuer: {ISSUER}
  identity: {IDENTITY}
policy:
  signers:
    - name: ci
      issuer: {ISSUER}
"""


@pytest.mark.parametrize(
    ("subject", "fits"),
    [
        (f"identity: {IDENTITY}", True),
        ("identityPattern: https://github.com/acme/.*", True),
        (f"identity: {IDENTITY}x", False),
        ("identityPattern: https://github.com/other/.*", False),
    ],
)
def test_a_keyless_fleet_must_be_among_its_own_signers(
    repository: Repository, subject: str, fits: bool
) -> None:
    repository.write("trust.json", "{}")
    with_policy(repository, KEYLESS + f"      {subject}\n")
    if fits:
        load_fleet(repository.root)
    else:
        assert "none of the signers is the fleet's own" in only(repository)


def test_data_sets_have_their_own_names_and_are_in_no_slice_that_builds(repository: Repository) -> None:
    from edgewright.plan import slices
    from edgewright.plan.lane import StepId

    step = StepId("evaluated", "reader", "board")
    building = (slices.checkpoint, slices.exported, slices.searched, slices.evaluated, slices.packaged)
    before = [slice_of(load_fleet(repository.root), step) for slice_of in building]
    entry = "  - {name: optdigits, source: https://archive.example/80, license: CC-BY-4.0, use: [test]}\n"
    repository.append("models/reader/model.yaml", "task: image-classification\ndatasets:\n" + entry)
    assert [slice_of(load_fleet(repository.root), step) for slice_of in building] == before
    repository.append("models/reader/model.yaml", entry)
    assert "data set 'optdigits' is already on line" in only(repository)


def test_the_rules_know_a_path_outside_of_the_repository(fleet: Repository, tmp_path: Path) -> None:
    write_key(tmp_path / "elsewhere")
    with_policy(fleet, POLICY + f"    - {{name: auditor, publicKey: {tmp_path}/elsewhere/signing.pub}}\n")
    load_fleet(fleet.root)
