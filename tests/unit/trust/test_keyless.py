"""Signing keyless: who signs, what is checked before anybody gets the bundle, and every way to fail."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from edgewright.errors import NetworkError, TrustError
from edgewright.publish.statement import read_statement, statement
from edgewright.trust import identity
from edgewright.trust.keyless import KeylessSigner
from edgewright.trust.keyless_bundle import KeylessVerifier
from edgewright.trust.signer import open_signer
from edgewright_agent.contract import MAX_BUNDLE_BYTES, PREDICATE_SIGN
from private_sigstore.instance import IDENTITY, WORKFLOW, PrivateSigstore
from real import closed_port

DIGEST = "sha256:" + "ab" * 32
PAYLOAD = statement("digit-reader", DIGEST, PREDICATE_SIGN, {})

# What CI systems tell their jobs; tests run in some of them.
CI_VARIABLES = (
    "GITHUB_ACTIONS", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_URL", "GITLAB_CI",
    "BUILDKITE", "CIRCLECI", "GOOGLE_SERVICE_ACCOUNT_NAME",
)  # fmt: skip


@pytest.fixture(autouse=True)
def outside_of_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CI_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(identity, "_logged_in", {})


@pytest.fixture
def signing(
    private_sigstore: PrivateSigstore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """The section of fleet.yaml, complete; the token is in the environment."""
    (tmp_path / "trust.json").write_text(json.dumps(private_sigstore.client_trust_config()))
    monkeypatch.setenv("TEST_TOKEN", private_sigstore.tokens.token(WORKFLOW))
    return {
        "mode": "keyless",
        "trustConfig": "trust.json",
        "issuer": private_sigstore.issuer,
        "identity": IDENTITY,
        "identityToken": "env:TEST_TOKEN",
    }


def refused(signing: dict[str, Any], root: Path) -> TrustError:
    with pytest.raises(TrustError) as caught:
        open_signer(signing, root).sign(PAYLOAD)
    assert "eyJ" not in str(caught.value) + str(caught.value.hint)  # how every token begins
    return caught.value


def test_a_bundle_holds_exactly_the_statement_and_verifies_offline(
    signing: dict[str, Any], tmp_path: Path, private_sigstore: PrivateSigstore
) -> None:
    bundle = open_signer(signing, tmp_path).sign(PAYLOAD)
    assert read_statement(bundle)["subject"][0]["digest"]["sha256"] == "ab" * 32
    verifier = KeylessVerifier.of(json.dumps(private_sigstore.trusted_root()).encode())
    asked = len(private_sigstore.requests)
    found = verifier.verify(bundle)
    assert (found.payload, found.issuer, found.identity) == (PAYLOAD, private_sigstore.issuer, IDENTITY)
    assert len(private_sigstore.requests) == asked


def test_one_certificate_signs_everything_and_the_facts_say_who_and_where(
    signing: dict[str, Any], tmp_path: Path, private_sigstore: PrivateSigstore
) -> None:
    before = private_sigstore.requests.count("/api/v2/signingCert")
    signer = open_signer(signing, tmp_path)
    bundles = [json.loads(signer.sign(PAYLOAD)) for _ in range(4)]
    assert private_sigstore.requests.count("/api/v2/signingCert") == before + 1
    assert len({bundle["verificationMaterial"]["certificate"]["rawBytes"] for bundle in bundles}) == 1
    facts = signer.facts()
    assert (facts["issuer"], facts["identity"]) == (private_sigstore.issuer, IDENTITY)
    logged = [int(bundle["verificationMaterial"]["tlogEntries"][0]["logIndex"]) for bundle in bundles]
    assert facts["log_index"] == logged == sorted(set(logged))


def test_a_pattern_must_match_the_whole_identity(signing: dict[str, Any], tmp_path: Path) -> None:
    del signing["identity"]
    signing["identityPattern"] = r"https://github\.com/acme/fleet/.*@refs/heads/main"
    open_signer(signing, tmp_path).sign(PAYLOAD)
    signing["identityPattern"] = r"https://github\.com/acme/fleet/"
    assert "does not match as a whole" in str(refused(signing, tmp_path))


def test_a_wrong_identity_is_noticed_here_and_not_on_a_thousand_devices(
    signing: dict[str, Any], tmp_path: Path
) -> None:
    signing["identity"] = IDENTITY.replace("main", "feature")
    assert f"signed as {IDENTITY}, but devices expect {signing['identity']}" in str(
        refused(signing, tmp_path)
    )


def test_a_wrong_issuer_is_noticed_before_anything_stands_in_a_public_log(
    signing: dict[str, Any], tmp_path: Path, private_sigstore: PrivateSigstore
) -> None:
    signing["issuer"] = "https://token.actions.githubusercontent.com"
    before = list(private_sigstore.requests)
    assert "the identity token is by" in str(refused(signing, tmp_path))
    assert private_sigstore.requests == before


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("no-sct", "asking for a certificate"),
        ("forged-sct", "asking for a certificate"),
        ("forged-checkpoint", "does not verify with its own trusted root"),
        ("wrong-proof", "does not verify with its own trusted root"),
        ("foreign-ca", "asking for a certificate"),  # the log's timestamp names the authority
        ("late", "does not verify with its own trusted root"),
        ("no-timestamp", "while signing: bundle must contain an inclusion promise or signed timestamp"),
    ],
)
def test_what_a_broken_instance_gives_is_not_handed_on(
    signing: dict[str, Any], tmp_path: Path, private_sigstore: PrivateSigstore, fault: str, said: str
) -> None:
    with private_sigstore.misbehaving(fault):
        assert said in str(refused(signing, tmp_path))


def test_a_statement_larger_than_devices_read_is_not_signed(signing: dict[str, Any], tmp_path: Path) -> None:
    large = statement("x", DIGEST, "https://example/large", {"text": "x" * MAX_BUNDLE_BYTES})
    with pytest.raises(TrustError, match="more than devices read"):
        open_signer(signing, tmp_path).sign(large)


# --- where the identity comes from -------------------------------------------------------------------------------
def test_a_token_may_be_a_file(
    signing: dict[str, Any], tmp_path: Path, private_sigstore: PrivateSigstore
) -> None:
    (tmp_path / "token").write_text(private_sigstore.tokens.token(WORKFLOW) + "\n")
    signing["identityToken"] = "file:token"
    assert open_signer(signing, tmp_path).sign(PAYLOAD)


def test_a_ci_job_is_its_own_identity(
    signing: dict[str, Any],
    tmp_path: Path,
    private_sigstore: PrivateSigstore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What GitHub Actions gives a job with `id-token: write`."""
    del signing["identityToken"]
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "request")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"{private_sigstore.url}/actions/token?")
    assert open_signer(signing, tmp_path).sign(PAYLOAD)


def test_a_ci_job_without_the_permission_says_which_it_needs(
    signing: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del signing["identityToken"]
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert "id-token: write" in str(refused(signing, tmp_path).hint)


BROWSER = """\
import sys, urllib.request
urllib.request.urlopen(sys.argv[1]).read()  # follows the redirects, as a person's browser does after the log-in
"""


def test_on_a_terminal_a_person_logs_in_with_a_browser_once_for_all_lanes(
    signing: dict[str, Any],
    tmp_path: Path,
    private_sigstore: PrivateSigstore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    del signing["identityToken"]
    signing["identity"] = private_sigstore.tokens.person
    (tmp_path / "browser.py").write_text(BROWSER)
    opened = f"{sys.executable} {tmp_path / 'browser.py'} %s &"
    monkeypatch.setenv("BROWSER", opened)
    monkeypatch.setattr("webbrowser._tryorder", None)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    for _ in range(2):
        assert open_signer(signing, tmp_path).sign(PAYLOAD)
    assert private_sigstore.requests.count("/oidc/token") == 1


def test_nobody_to_sign_as_is_one_sentence_with_what_to_do(signing: dict[str, Any], tmp_path: Path) -> None:
    del signing["identityToken"]
    error = refused(signing, tmp_path)
    assert str(error).startswith("keyless signing has nobody to sign as")
    assert "signing.identityToken" in str(error.hint)


@pytest.mark.parametrize("token", ["not.a.token", "eyJhbGciOiJub25lIn0.e30."])
def test_a_malformed_token_is_not_shown(
    signing: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("TEST_TOKEN", token)
    error = refused(signing, tmp_path)
    assert "no usable identity" in str(error)
    assert error.__cause__ is None


def test_an_expired_token_says_so(
    signing: dict[str, Any],
    tmp_path: Path,
    private_sigstore: PrivateSigstore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TEST_TOKEN", private_sigstore.tokens.token(WORKFLOW, lifetime_s=-60))
    assert "no usable identity" in str(refused(signing, tmp_path))


def test_a_token_the_instance_does_not_believe_brings_its_answer(
    signing: dict[str, Any],
    tmp_path: Path,
    private_sigstore: PrivateSigstore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from private_sigstore.oidc import TokenIssuer

    monkeypatch.setenv("TEST_TOKEN", TokenIssuer(private_sigstore.issuer).token(WORKFLOW))
    said = str(refused(signing, tmp_path))
    assert "/api/v2/signingCert answered 400: the identity token is refused" in said


# --- the instance ------------------------------------------------------------------------------------------------
def test_an_instance_that_does_not_answer_is_a_network_error(
    signing: dict[str, Any], tmp_path: Path, private_sigstore: PrivateSigstore
) -> None:
    with closed_port() as port:
        moved = json.dumps(private_sigstore.client_trust_config()["signingConfig"]).replace(
            private_sigstore.url, f"http://127.0.0.1:{port}"
        )
        config = private_sigstore.client_trust_config() | {"signingConfig": json.loads(moved)}
        (tmp_path / "trust.json").write_text(json.dumps(config))
        with pytest.raises(NetworkError, match="does not answer") as caught:
            open_signer(signing, tmp_path)
    assert "nothing was signed" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        ("{", "is not JSON"),
        ("[]", "no trustedRoot"),
        ('{"trustedRoot": {}}', "no signingConfig"),
    ],
)
def test_a_trust_configuration_that_is_none_is_one_sentence(
    signing: dict[str, Any], tmp_path: Path, content: str | None, said: str
) -> None:
    (tmp_path / "trust.json").unlink()
    if content is not None:
        (tmp_path / "trust.json").write_text(content)
    assert said in str(refused(signing, tmp_path))


def test_a_trust_configuration_with_empty_parts_is_one_sentence(
    signing: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "trust.json").write_text('{"trustedRoot": {}, "signingConfig": {}}')
    assert "reading signing.trustConfig" in str(refused(signing, tmp_path))


def test_a_root_that_is_not_the_instances_own_is_noticed(
    signing: dict[str, Any], tmp_path: Path, private_sigstore: PrivateSigstore
) -> None:
    with PrivateSigstore() as other:
        config = private_sigstore.client_trust_config() | {"trustedRoot": other.trusted_root()}
    (tmp_path / "trust.json").write_text(json.dumps(config))
    assert "keyless signing failed while asking for a certificate" in str(refused(signing, tmp_path))


def test_both_modes_are_signers(signing: dict[str, Any], tmp_path: Path) -> None:
    assert isinstance(open_signer(signing, tmp_path), KeylessSigner)
