"""Rules of encrypted weights: usable public keys, no private ones, and nobody is left without a recipient."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from edgewright.plan.lane import StepId
from edgewright.plan.slices import packaged
from edgewright.spec.limits import recipients_of
from edgewright.spec.load import load_fleet
from edgewright.spec.recipient import read_recipient
from edgewright_agent.contract import MAX_RECIPIENTS
from unit.spec.conftest import Repository, only, problems_of

SHEET = "hardware/board.yaml"
READER = "models/reader/model.yaml"
KEY = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public(key: object) -> str:
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    return str(key.public_key().public_bytes(serialization.Encoding.PEM, spki).decode())  # type: ignore[attr-defined]


def private(key: ec.EllipticCurvePrivateKey, form: serialization.PrivateFormat) -> str:
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


@pytest.fixture
def keyed(repository: Repository) -> Repository:
    """A repository whose only class names two recipients."""
    repository.write("keys/board.pub", public(KEY))
    repository.write("keys/rsa.pub", public(RSA))
    repository.append(SHEET, "encryption:\n  recipients:\n    - keys/board.pub\n    - keys/rsa.pub\n")
    return repository


def chosen(repository: Repository) -> tuple[str, ...]:
    workspace = load_fleet(repository.root)
    return recipients_of(workspace.hardware["board"], workspace.models["reader"])


def test_nothing_is_encrypted_unless_somebody_says_so(keyed: Repository) -> None:
    assert chosen(keyed) == ()


def test_a_class_encrypts_by_default_and_a_model_may_say_no(keyed: Repository) -> None:
    keyed.append(SHEET, "  default: true\n")
    assert chosen(keyed) == ("keys/board.pub", "keys/rsa.pub")
    keyed.append(READER, "encrypt: false\n")
    assert chosen(keyed) == ()


def test_a_model_may_say_yes(keyed: Repository) -> None:
    keyed.append(READER, "encrypt: true\n")
    assert chosen(keyed) == ("keys/board.pub", "keys/rsa.pub")


def test_encrypting_for_a_class_without_recipients_is_an_error_at_the_wish(repository: Repository) -> None:
    repository.append(READER, "encrypt: true\n")
    line = len((repository.root / READER).read_text().splitlines())
    wish = f"models/reader/model.yaml:{line}:10: nobody could open the weights: hardware/board.yaml names no"
    assert only(repository).startswith(wish)


def test_a_class_the_model_is_not_built_for_needs_no_recipients(keyed: Repository) -> None:
    keyed.write("hardware/other.yaml", (keyed.root / SHEET).read_text().partition("encryption:")[0])
    keyed.append(READER, "encrypt: true\n")
    assert "hardware/other.yaml names no recipients" in only(keyed)
    keyed.append(READER, "classes: [board]\n")
    assert chosen(keyed)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read: No such file or directory"),
        ("hello\n", "is not one public key"),
        (public(KEY) * 2, "is not one public key"),
        (public(KEY).replace("M", "?", 1), "is not a public key in PEM form"),
        (public(ec.generate_private_key(ec.SECP384R1())), "curve secp384r1; P-256"),
        (public(rsa.generate_private_key(public_exponent=65537, key_size=1024)), "RSA key of 1024 bits"),
        (public(ed25519.Ed25519PrivateKey.generate()), "neither an EC P-256 nor an RSA key"),
        ("x" * 20_000, "more than 16384 bytes"),
    ],
    ids=["absent", "text", "two", "damaged", "p384", "rsa1024", "ed25519", "large"],
)
def test_what_is_no_usable_public_key_is_an_error_at_its_line(
    keyed: Repository, content: str | None, says: str
) -> None:
    if content is None:
        (keyed.root / "keys/rsa.pub").unlink()
    else:
        keyed.write("keys/rsa.pub", content)
    line = len((keyed.root / SHEET).read_text().splitlines())
    problem = only(keyed)
    assert problem.startswith(f"hardware/board.yaml:{line}:7: keys/rsa.pub ")
    assert says in problem


@pytest.mark.parametrize(
    "form", [serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL]
)
def test_a_private_key_is_refused_and_nothing_of_it_is_shown(
    keyed: Repository, form: serialization.PrivateFormat
) -> None:
    text = private(KEY, form)
    keyed.write("keys/board.pub", text)
    problem = only(keyed)
    assert "keys/board.pub is a private key" in problem
    assert "openssl pkey" in problem
    assert not [line for line in text.splitlines()[1:-1] if line in problem]


def test_the_same_key_in_two_files_is_named_once(keyed: Repository) -> None:
    keyed.write("keys/rsa.pub", "\n" + public(KEY))
    assert "keys/rsa.pub holds the same key as keys/board.pub" in only(keyed)


def test_recipients_are_some_and_not_too_many(keyed: Repository) -> None:
    text = (keyed.root / SHEET).read_text().partition("encryption:")[0]
    keyed.write(SHEET, text + "encryption: {recipients: []}\n")
    assert "board.yaml" in only(keyed)
    many = ", ".join(["keys/board.pub"] * (MAX_RECIPIENTS + 1))
    keyed.write(SHEET, text + f"encryption: {{recipients: [{many}]}}\n")
    assert str(MAX_RECIPIENTS) in problems_of(keyed)[0]


def test_packaging_knows_recipients_by_their_keys(keyed: Repository) -> None:
    step = StepId("packaged", "reader", "board")
    plain = packaged(load_fleet(keyed.root), step)
    assert "encryption" not in plain, "what is not encrypted has the action key it always had"
    keyed.append(READER, "encrypt: true\n")
    before = packaged(load_fleet(keyed.root), step)["encryption"]["recipients"]
    assert [entry["name"] for entry in before] == ["keys/board.pub", "keys/rsa.pub"]
    assert before[0]["sha256"] == read_recipient(keyed.root / "keys/board.pub").sha256
    keyed.write("keys/board.pub", public(ec.generate_private_key(ec.SECP256R1())))
    after = packaged(load_fleet(keyed.root), step)["encryption"]["recipients"]
    assert before[0] != after[0]
    assert before[1] == after[1]


def test_the_form_of_a_file_makes_no_other_recipient(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(public(KEY))
    (tmp_path / "b").write_text("the class's key\n" + public(KEY).replace("\n", "\r\n"))
    assert read_recipient(tmp_path / "a").sha256 == read_recipient(tmp_path / "b").sha256
