"""`signing`: a mode has its own fields, and keyless says whom devices believe."""

from __future__ import annotations

import pytest

from edgewright.errors import TrustError
from edgewright.plan.lane import StepId
from edgewright.plan.slices import signed
from edgewright.spec.load import load_fleet

from .conftest import Repository, only, problems_of

KEYLESS = """\
signing:
  mode: keyless
  trustConfig: trust.json
  issuer: https://token.actions.githubusercontent.com
  identity: https://github.com/acme/fleet/.github/workflows/release.yml@refs/heads/main
"""


def line(text: str) -> int:
    """Return the line in fleet.yaml of a line of `KEYLESS`; the fleet before it has nine."""
    return 10 + KEYLESS.splitlines().index(text)


def test_keyless_with_an_instance_an_issuer_and_an_identity_is_valid(repository: Repository) -> None:
    repository.append("fleet.yaml", KEYLESS)
    signing = load_fleet(repository.root).fleet.signing
    assert (signing.mode, signing.trust_config) == ("keyless", "trust.json")


def test_keyless_alone_says_everything_it_lacks(repository: Repository) -> None:
    repository.append("fleet.yaml", "signing: {mode: keyless}\n")
    said = problems_of(repository)
    assert len(said) == 3
    for word in ("needs trustConfig", "needs issuer", "needs identity or identityPattern"):
        assert any(word in problem for problem in said)


@pytest.mark.parametrize("field", ["privateKey: env:KEY", "publicKey: keys/signing.pub", "passphrase: env:P"])
def test_a_field_of_mode_key_beside_keyless_is_an_error_at_its_line(
    repository: Repository, field: str
) -> None:
    repository.append("fleet.yaml", KEYLESS + f"  {field}\n")
    name = field.partition(":")[0]
    assert f"fleet.yaml:15:3: {name} belongs to mode key; this is mode keyless" in only(repository)


@pytest.mark.parametrize(
    "field",
    [
        "trustConfig: trust.json",
        "identityToken: env:T",
        "issuer: https://x",
        "identity: a@b",
        "identityPattern: a",
    ],
)
def test_a_field_of_keyless_beside_a_key_is_an_error_and_says_both_ways_out(
    repository: Repository, field: str
) -> None:
    repository.append("fleet.yaml", f"signing:\n  {field}\n")
    name = field.partition(":")[0]
    said = only(repository)
    assert f"{name} belongs to mode keyless; this is mode key" in said
    assert f"write mode: keyless, or remove {name}" in said


def test_an_identity_and_a_pattern_are_one_too_many(repository: Repository) -> None:
    repository.append("fleet.yaml", KEYLESS + "  identityPattern: .*\n")
    assert "fleet.yaml:15:3: there is an identity already" in only(repository)


def test_a_pattern_that_is_no_regular_expression_is_pointed_at(repository: Repository) -> None:
    identity = next(text for text in KEYLESS.splitlines() if "identity:" in text)
    repository.append("fleet.yaml", KEYLESS.replace(identity, "  identityPattern: 'a('"))
    assert f"fleet.yaml:{line(identity)}:20: not a regular expression" in only(repository)


def test_a_token_itself_is_never_taken_and_never_shown(repository: Repository) -> None:
    repository.append("fleet.yaml", KEYLESS + "  identityToken: eyJhbGciOiJSUzI1NiJ9.eyJhIjoxfQ.c2ln\n")
    assert "a reference to a secret, never the secret itself" in only(repository)
    assert "eyJ" not in only(repository)


def test_an_issuer_with_a_password_in_it_is_refused(repository: Repository) -> None:
    repository.append("fleet.yaml", KEYLESS.replace("https://token", "https://u:p@token"))
    assert "must be the address of an OpenID Connect issuer" in only(repository)


# --- what the step reads ----------------------------------------------------------------------------------------
STEP = StepId("signed", "reader", "board")


def test_the_action_key_holds_the_instance_and_who_signs_and_no_token(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "hunter2")
    repository.append("fleet.yaml", KEYLESS + "  identityToken: env:TOKEN\n")
    repository.write("trust.json", "{}")
    reads = signed(load_fleet(repository.root), STEP)
    assert set(reads) - {"model", "hardware"} == {"signing", "trustConfigSha256"}
    assert set(reads["signing"]) == {"mode", "trustConfig", "issuer", "identity", "identityToken"}
    assert "hunter2" not in str(reads)


def test_another_trusted_root_signs_anew(repository: Repository) -> None:
    repository.append("fleet.yaml", KEYLESS)
    repository.write("trust.json", "{}")
    first = signed(load_fleet(repository.root), STEP)
    repository.write("trust.json", '{"other": 1}')
    assert signed(load_fleet(repository.root), STEP) != first


def test_a_missing_trust_configuration_says_who_has_it(repository: Repository) -> None:
    repository.append("fleet.yaml", KEYLESS)
    with pytest.raises(TrustError, match=r"cannot read trust\.json") as caught:
        signed(load_fleet(repository.root), STEP)
    assert "operator" in str(caught.value.hint)


def test_what_devices_verify_with_is_one_file_or_none(repository: Repository) -> None:
    """A run with nothing to do looks at that file before it says so."""
    assert load_fleet(repository.root).fleet.signing.verified_with == ".edgewright/keys/signing.pub"
    repository.append("fleet.yaml", KEYLESS)
    assert load_fleet(repository.root).fleet.signing.verified_with == "trust.json"
    repository.edit("fleet.yaml", "trust.json", "public-good")
    assert load_fleet(repository.root).fleet.signing.verified_with is None


def test_a_plan_for_the_public_instance_asks_no_network(repository: Repository) -> None:
    repository.append("fleet.yaml", KEYLESS.replace("trust.json", "public-good"))
    assert set(signed(load_fleet(repository.root), STEP)) - {"model", "hardware"} == {"signing"}
