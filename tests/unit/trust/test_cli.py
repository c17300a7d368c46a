"""`edgewright keys` and `edgewright release` as people and scripts meet them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgewright.cli import keys
from edgewright.cli.release import render
from edgewright.errors import EdgewrightError
from edgewright.spec.fleet import Fleet
from unit.trust.fleet import SmallFleet

FLEET = """\
version: 1
name: small
registry:
  url: oci:registry
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "fleet.yaml").write_text(FLEET)
    return tmp_path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(keys.command, [str(argument) for argument in arguments])


def test_keys_init_says_what_each_key_is_for_and_what_comes_next(root: Path) -> None:
    result = run("init", "--root", root)
    assert result.exit_code == 0, result.output
    assert "says which artifacts exist" in result.output
    assert "next: edgewright run" in result.output
    assert (root / ".edgewright/keys/signing.key").exists()


def test_keys_init_twice_fails_and_changes_nothing(root: Path) -> None:
    run("init", "--root", root)
    before = (root / ".edgewright/keys/root.key").read_bytes()
    result = run("init", "--root", root)
    assert isinstance(result.exception, EdgewrightError) and result.exception.exit_code == 3
    assert (root / ".edgewright/keys/root.key").read_bytes() == before


def test_keys_show_prints_the_fingerprints_init_printed(root: Path) -> None:
    made = json.loads(run("init", "--root", root, "--json").output)["keys"]
    assert json.loads(run("show", "--root", root, "--json").output)["keys"] == made


def test_keys_are_encrypted_when_the_fleet_names_passphrases(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = "signing:\n  passphrase: env:SIGN_PW\ntrust:\n  passphrase: env:ROLE_PW\n"
    (root / "fleet.yaml").write_text(FLEET + secrets)
    monkeypatch.setenv("SIGN_PW", "one")
    monkeypatch.setenv("ROLE_PW", "two")
    made = json.loads(run("init", "--root", root, "--json").output)["keys"]
    assert {key["private"] for key in made} == {"encrypted"}


def test_a_passphrase_that_is_not_set_makes_no_keys(root: Path) -> None:
    (root / "fleet.yaml").write_text(FLEET + "signing:\n  passphrase: env:EDGEWRIGHT_TEST_UNSET\n")
    result = run("init", "--root", root)
    assert "EDGEWRIGHT_TEST_UNSET" in str(result.exception)
    assert not (root / ".edgewright").exists()


def test_a_signing_key_kept_elsewhere_is_mentioned() -> None:
    fleet = Fleet.model_validate(
        {
            "version": 1,
            "name": "small",
            "registry": {"url": "oci:registry"},
            "signing": {"privateKey": "env:SIGNING_KEY"},
        }
    )
    assert any("env:SIGNING_KEY" in line for line in keys.next_steps(fleet))


def test_a_keyless_fleet_is_told_that_the_signing_key_is_of_no_use() -> None:
    fleet = Fleet.model_validate(
        {
            "version": 1,
            "name": "small",
            "registry": {"url": "oci:registry"},
            "signing": {
                "mode": "keyless",
                "trustConfig": "public-good",
                "issuer": "https://x",
                "identity": "a@b",
            },
        }
    )
    assert any("signing.key is of no use" in line for line in keys.next_steps(fleet))


def test_a_release_reads_as_old_to_new(tmp_path: Path) -> None:
    fleet = SmallFleet(tmp_path)
    fleet.publish_all("1.0.0")
    text = render(fleet.release())
    assert "Release r1 is published" in text
    assert "nothing → 1.0.0" in text
    fleet.lanes["digit-reader"].pop("raspberry-pi-4")
    fleet.publish("digit-reader", "medical-cart-cpu", "1.1.0")
    text = render(fleet.release())
    assert "1.0.0 (" in text and "→ 1.1.0 (" in text
    assert "Held back:" in text and "keeps 1.0.0" in text
    assert "Nothing changed: release r2 stands" in render(fleet.release())
