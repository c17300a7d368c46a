"""`edgewright trust` as people and scripts meet it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edgewright.cli import keys as keys_verb
from edgewright.cli import trust as trust_verb
from edgewright.errors import EdgewrightError
from edgewright.trust.rotation import rotate
from edgewright.trust.status import TrustStatus, inspect
from unit.trust.fleet import SmallFleet

PI = "raspberry-pi-4"
TWO = {"roles": {"root": {"threshold": 2, "keys": ("root-a", "root-b")}}}
FLEET = """\
version: 1
name: small
registry:
  url: oci:registry
"""
TWO_YAML = FLEET + "trust:\n  roles:\n    root: {threshold: 2, keys: [root-a, root-b]}\n"


@pytest.fixture
def fleet(tmp_path: Path) -> SmallFleet:
    """A released fleet that takes two for a new root; the commands read its fleet.yaml."""
    fleet = SmallFleet(tmp_path / "fleet", trust=TWO, now=datetime.now(UTC).replace(microsecond=0))
    (fleet.root / "fleet.yaml").write_text(TWO_YAML)
    fleet.publish_all("1.0.0")
    fleet.release()
    return fleet


def run(fleet: SmallFleet, *words: str) -> Result:
    return CliRunner().invoke(trust_verb.command, [*words, "--root", str(fleet.root)])


def ok(fleet: SmallFleet, *words: str) -> str:
    result = run(fleet, *words)
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.output


def state(fleet: SmallFleet, **options: Any) -> TrustStatus:
    return inspect(fleet.workspace, now=fleet.now, **options)


def test_status_says_version_expiry_keys_and_that_nothing_is_to_be_done(fleet: SmallFleet) -> None:
    output = ok(fleet, "status")
    (root,) = (line for line in output.splitlines() if line.startswith("root  "))
    assert "1 " in root and "(365 d)" in root and "2 of root-a, root-b" in root
    fingerprints = CliRunner().invoke(keys_verb.command, ["show", "--root", str(fleet.root), "--json"]).output
    for key in json.loads(fingerprints)["keys"]:
        assert key["name"] == "signing" or key["fingerprint"] in output
    assert "→ nothing to do; the first role expires on" in output


def test_status_says_who_has_to_sign_next_and_the_command(fleet: SmallFleet, tmp_path: Path) -> None:
    (fleet.keys / "root-b.key").rename(tmp_path / "root-b.key")
    output = ok(fleet, "rotate", "timestamp")
    assert "Made timestamp-2" in output
    assert "root 2 is staged in" in output
    wanted = "root 2 needs 1 more signature of root-b: where that key is, edgewright trust sign"
    assert f"→ {wanted}" in output and wanted in ok(fleet, "status")
    status = json.loads(ok(fleet, "status", "--json"))
    (root,) = (role for role in status["roles"] if role["role"] == "root")
    assert root["staged"] == {"version": 2, "signed": ["root-a"], "missing": 1, "waiting": ["root-b"]}
    assert [key["absence"] for key in root["keys"]] == [None, "root-b.key is not in keys"]
    (tmp_path / "root-b.key").rename(fleet.keys / "root-b.key")
    assert state(fleet).next == ("root 2 needs 1 more signature of root-b: here, edgewright trust sign",)
    output = ok(fleet, "sign", "--yes")
    assert "timestamp: 1 of timestamp (" in output and "Signed root with root-b." in output
    assert "→ everything staged has its signatures: edgewright trust refresh" in output
    assert "root 2" in ok(fleet, "refresh")
    assert "nothing to do" in ok(fleet, "status")


def test_what_is_signed_is_shown_beside_json_too(fleet: SmallFleet, tmp_path: Path) -> None:
    (fleet.keys / "root-b.key").rename(tmp_path / "root-b.key")
    rotate(fleet.workspace, ["timestamp"], now=fleet.now)
    (tmp_path / "root-b.key").rename(fleet.keys / "root-b.key")
    result = CliRunner().invoke(
        trust_verb.command, ["sign", "--json", "--root", str(fleet.root)], input="n\n"
    )
    assert "timestamp: 1 of timestamp (" in result.stderr and json.loads(result.stdout)["roles"]


def test_whoever_says_no_signs_nothing(fleet: SmallFleet, tmp_path: Path) -> None:
    (fleet.keys / "root-b.key").rename(tmp_path / "root-b.key")
    ok(fleet, "rotate", "timestamp")
    (tmp_path / "root-b.key").rename(fleet.keys / "root-b.key")
    result = CliRunner().invoke(trust_verb.command, ["sign", "--root", str(fleet.root)], input="n\n")
    assert "Signed nothing." in result.output
    assert state(fleet).roles[0].staged is not None


def test_before_anything_status_says_how_to_begin(tmp_path: Path) -> None:
    fleet = SmallFleet(tmp_path / "fleet", trust=TWO)
    (fleet.root / "fleet.yaml").write_text(TWO_YAML)
    assert "edgewright trust init" in ok(fleet, "status")
    assert "everything staged has its signatures: edgewright release" in ok(fleet, "init")
    assert "wait" not in str(state(fleet).next)
    assert json.loads(ok(fleet, "status", "--json"))["roles"][0]["version"] is None


@pytest.mark.parametrize(
    ("days", "said"),
    [
        (4, "timestamp expires on {}: edgewright trust refresh"),
        (8, "timestamp has expired: edgewright trust refresh"),
        (200, "root expires on {}: edgewright trust refresh"),
    ],
)
def test_status_says_what_expires(fleet: SmallFleet, days: int, said: str) -> None:
    later = inspect(fleet.workspace, now=fleet.now + timedelta(days=days))
    expires = {role.role: role.expires for role in later.roles}
    assert said.format(expires[said.partition(" ")[0]]) in later.next


def test_an_offline_role_is_renewed_where_its_keys_are(fleet: SmallFleet) -> None:
    (fleet.keys / "root-a.key").unlink()
    later = inspect(fleet.workspace, now=fleet.now + timedelta(days=200))
    assert any(
        line.startswith("root expires on") and line.endswith("trust renew root") for line in later.next
    )
    assert "root 2 is staged" in ok(fleet, "renew", "root")


def test_status_notices_that_fleet_yaml_names_other_keys(fleet: SmallFleet) -> None:
    fleet.trust = {"roles": {**TWO["roles"], "artifacts": {"keys": ("line",)}}}
    assert (
        f"fleet.yaml names other keys for class-{PI}: edgewright trust rotate artifacts" in state(fleet).next
    )


def test_refresh_tells_what_it_published(fleet: SmallFleet) -> None:
    facts = json.loads(ok(fleet, "refresh", "--json"))
    assert facts["written"] == ["2.snapshot.json", "timestamp.json"]
    assert facts["pushed"] == ["2.snapshot.json", "timestamp.json"]


def test_recovery_is_asked_for_by_name(fleet: SmallFleet) -> None:
    from unit.trust.thief import Thief

    Thief(fleet, "timestamp", "snapshot").fast_forward()
    rotate(fleet.workspace, ["timestamp", "snapshot"])
    assert isinstance(run(fleet, "refresh").exception, EdgewrightError)
    assert "Published at" in ok(fleet, "refresh", "--recover")


def test_export_root_writes_the_newest_and_shows_its_keys(fleet: SmallFleet, tmp_path: Path) -> None:
    ok(fleet, "rotate", "timestamp")
    ok(fleet, "refresh")
    out = tmp_path / "given.json"
    output = ok(fleet, "export-root", "--out", str(out))
    assert out.read_bytes() == (fleet.metadata / "2.root.json").read_bytes()
    assert "root 2, signed by 2 of:" in output and "root-a" in output
    ok(fleet, "export-root", "--out", str(out), "--version", "1")
    assert out.read_bytes() == (fleet.metadata / "1.root.json").read_bytes()
    assert "there is no root 7; the newest is 2" in str(run(fleet, "export-root", "--version", "7").exception)


def test_single_keys_are_made_for_the_next_holder(fleet: SmallFleet) -> None:
    result = CliRunner().invoke(keys_verb.command, ["new", "root-c", "--root", str(fleet.root)])
    assert result.exit_code == 0 and "root-c.pub, no more" in result.output
    again = CliRunner().invoke(keys_verb.command, ["new", "root-c", "--root", str(fleet.root)])
    assert "never overwritten" in str(again.exception)
    bad = CliRunner().invoke(keys_verb.command, ["new", "../evil", "--root", str(fleet.root)])
    assert "not a name for a key" in str(bad.exception)


def test_keys_init_makes_every_key_that_fleet_yaml_names(tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text(
        FLEET + "trust:\n  roles:\n    root: {threshold: 2, keys: [root-a, root-b]}\n"
        "    snapshot: {keys: [online]}\n    timestamp: {keys: [online]}\n"
        "    targets: {keys: [{name: vault, uri: 'hsm:3?label=release'}]}\n"
    )
    result = CliRunner().invoke(keys_verb.command, ["init", "--root", str(tmp_path)])
    assert result.exit_code == 0, result.output
    made = {path.stem for path in (tmp_path / ".edgewright/keys").glob("*.key")}
    assert made == {"signing", "root-a", "root-b", "artifacts", "rollout", "online"}
    assert "vault is at hsm:3?label=release: edgewright keys import vault" in result.output
