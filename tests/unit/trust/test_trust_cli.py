"""`edgewright trust` as people and scripts meet it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edgewright.cli import keys as keys_verb
from edgewright.cli import trust as trust_verb
from edgewright.errors import EdgewrightError
from edgewright.spec.fleet import Fleet
from edgewright.trust.ceremony import initialise
from edgewright.trust.release import release
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
YAML_OF_TWO = {"version": 1, "name": "small", "registry": {"url": "oci:registry"}, "trust": TWO}
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


def keys_run(fleet: SmallFleet, *words: str) -> Result:
    return CliRunner().invoke(keys_verb.command, [*words, "--root", str(fleet.root)])


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
    said = f"fleet.yaml names other keys for class-{PI}: edgewright trust rotate artifacts"
    assert any(line.startswith(said) and "git pull" in line for line in state(fleet).next)


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


def test_keys_show_tells_the_keys_that_sign_now_from_those_that_were_replaced(fleet: SmallFleet) -> None:
    ok(fleet, "rotate", "timestamp")
    ok(fleet, "refresh")
    shown = keys_run(fleet, "show").output
    line = {words[0]: words[1] for words in (row.split(maxsplit=1) for row in shown.splitlines() if row)}
    assert line["timestamp-2"].endswith("says how fresh that is; used most often")
    assert line["timestamp"].endswith("nothing signs with it now")


def test_keys_show_names_the_public_halves_that_are_elsewhere(fleet: SmallFleet) -> None:
    (fleet.keys / "root-b.pub").unlink()
    result = keys_run(fleet, "show")
    assert result.exit_code == 0 and "→ not here: root-b.pub; get the public halves from" in result.output
    assert json.loads(keys_run(fleet, "show", "--json").output)["missing"] == ["root-b"]


def test_a_holder_who_lacks_a_public_half_is_not_told_to_make_another_key(tmp_path: Path) -> None:
    fleet = SmallFleet(tmp_path / "fleet", trust=TWO)
    (fleet.root / "fleet.yaml").write_text(TWO_YAML)
    (fleet.keys / "signing.pub").unlink()
    refused = run(fleet, "init").exception
    assert isinstance(refused, EdgewrightError) and "keys init" not in str(refused.hint)
    assert str(refused.hint).startswith("get signing.pub from whoever has its private half")


def test_a_key_in_place_of_the_signing_key_is_of_the_kind_devices_accept(fleet: SmallFleet) -> None:
    assert "signing-2  ecdsa-p256" in keys_run(fleet, "new", "signing-2").output
    moved = "signing:\n  privateKey: file:.edgewright/keys/signing-2.key\n  publicKey: .edgewright/keys/signing-2.pub\n"
    (fleet.root / "fleet.yaml").write_text(TWO_YAML + moved)
    shown = {row.split()[0]: row for row in keys_run(fleet, "show").output.splitlines() if row}
    assert "signs artifacts and gate reports" in shown["signing-2"]
    assert "nothing signs with it now" in shown["signing"]


def test_before_the_first_release_every_role_is_shown_once(tmp_path: Path) -> None:
    fleet = SmallFleet(tmp_path / "fleet", trust=TWO)
    (fleet.root / "fleet.yaml").write_text(TWO_YAML)
    (fleet.keys / "root-b.key").unlink()
    initialise(fleet.workspace, now=fleet.now)
    roles = [role.role for role in state(fleet).roles]
    classes = [f"class-{name}" for name in fleet.classes]
    assert roles == ["root", "targets", "snapshot", "timestamp", *classes, "rollout"]
    assert all(role.keys for role in state(fleet).roles)


def test_what_was_carried_here_is_what_the_next_command_is_about(fleet: SmallFleet, tmp_path: Path) -> None:
    (fleet.keys / "root-b.key").rename(tmp_path / "root-b.key")
    ok(fleet, "rotate", "timestamp")
    stick = tmp_path / "stick"
    (fleet.metadata / "staged").rename(stick)
    (tmp_path / "root-b.key").rename(fleet.keys / "root-b.key")
    declined = CliRunner().invoke(
        trust_verb.command, ["sign", "--staged", str(stick), "--root", str(fleet.root)], input="n\n"
    )
    assert f"root-b: here, edgewright trust sign --staged {stick}\n" in declined.output
    signed = ok(fleet, "sign", "--staged", str(stick), "--yes")
    assert f"put {stick} back where it was staged; there, edgewright trust refresh" in signed
    assert "nothing to do" not in signed and "trust init" not in signed


def test_only_roles_that_were_signed_are_said_to_be(fleet: SmallFleet, tmp_path: Path) -> None:
    for name in ("root-b", "targets"):
        (fleet.keys / f"{name}.key").rename(tmp_path / f"{name}.key")
    ok(fleet, "renew", "root")
    ok(fleet, "renew", "targets")
    (tmp_path / "root-b.key").rename(fleet.keys / "root-b.key")
    assert "Signed root with root-b.\n" in ok(fleet, "sign", "--yes")


def test_tables_of_the_status_fit_a_hundred_columns(fleet: SmallFleet, tmp_path: Path) -> None:
    (fleet.keys / "root-b.key").rename(tmp_path / "root-b.key")
    assert max(len(line) for line in ok(fleet, "status").splitlines()) <= 100


def test_signers_see_the_keys_of_a_policy_as_keys_show_calls_them(fleet: SmallFleet, tmp_path: Path) -> None:
    (fleet.keys / "targets.key").rename(tmp_path / "targets.key")
    keys_run(fleet, "new", "signing-2")
    policy = {
        "signers": [{"name": "ci", "publicKey": ".edgewright/keys/signing-2.pub"}],
        "demands": [{"attestation": "provenance", "builder": "https://ci.example", "classes": [PI]}],
    }
    workspace = replace(
        fleet.workspace, fleet=Fleet.model_validate({**YAML_OF_TWO, "policy": policy}, strict=False)
    )
    with pytest.raises(EdgewrightError, match="targets 2 needs"):
        release(workspace, fleet.lanes, now=fleet.now)
    (tmp_path / "targets.key").rename(fleet.keys / "targets.key")
    seen = ok(fleet, "sign", "--yes")
    new = json.loads(keys_run(fleet, "show", "--json").output)["keys"]
    print_ = next(key["fingerprint"] for key in new if key["name"] == "signing-2")
    assert f"policy.json signers.ci.publicKey: nothing → key {print_[:16]}\n" in seen
    assert 'policy.json demands[0].builder: nothing → "https://ci.example"\n' in seen
    assert "policy.json signers.release.publicKey: key " in seen and "BEGIN" not in seen
