"""Provenance says what Git says, names its materials by digest, and gives nothing of this machine away."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from edgewright.plan import slices
from edgewright.plan.job import Job
from edgewright.plan.lane import StepId
from edgewright.publish.provenance import builder_id, dir_hash, provenance
from edgewright.publish.statement import read_statement
from edgewright.publish.worktree import Worktree, look, public_address
from edgewright.spec.load import load_fleet
from edgewright_agent.contract import BUILD_TYPE, BUILDER_LOCAL, PREDICATE_PROVENANCE, digest_of
from unit.publish.lane import CLASS, MODEL, LaneFiles, write_key
from unit.spec.conftest import Repository

ACTIONS = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "acme/fleet",
    "GITHUB_WORKFLOW_REF": "acme/fleet/.github/workflows/release.yml@refs/heads/main",
    "GITHUB_RUN_ID": "77",
    "GITHUB_RUN_ATTEMPT": "2",
}


@pytest.fixture(autouse=True)
def outside_of_actions(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests say themselves where they run."""
    for name in ACTIONS:
        monkeypatch.delenv(name, raising=False)


def git(root: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "commit.gpgSign=false")
    ran = subprocess.run(
        ["git", "-C", str(root), *identity, *arguments], capture_output=True, text=True, check=True
    )
    return ran.stdout.strip()


@pytest.fixture
def lane(tmp_path: Path) -> LaneFiles:
    root = tmp_path / "fleet"
    for name, text in (
        ("fleet.yaml", "version: 1\n"),
        (f"hardware/{CLASS}.yaml", "version: 1\n"),
        (f"models/{MODEL}/model.yaml", "version: 1\n"),
        (f"models/{MODEL}/data.py", "def test(): ...\n"),
        (f"models/{MODEL}/weights.safetensors", "weights"),
        (".gitignore", "keys/\nwork/\nregistry/\n"),
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return LaneFiles(root)


def committed(lane: LaneFiles) -> str:
    git(lane.root, "init", "-q")
    git(lane.root, "add", ".")
    git(lane.root, "commit", "-qm", "A fleet")
    return git(lane.root, "rev-parse", "HEAD")


def signed(lane: LaneFiles) -> dict[str, Any]:
    """Sign the lane; return its provenance."""
    lane.package()
    lane.sign()
    document = read_statement(lane.inputs["signed/provenance.sigstore.json"].read_bytes())
    assert document["predicateType"] == PREDICATE_PROVENANCE
    found: dict[str, Any] = document["predicate"]
    return found


def parameters(predicate: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = predicate["buildDefinition"]["externalParameters"]
    return found


def materials(predicate: dict[str, Any]) -> dict[str, Any]:
    return {entry["name"]: entry for entry in predicate["buildDefinition"]["resolvedDependencies"]}


def test_a_clean_commit_is_named_with_where_it_comes_from(lane: LaneFiles) -> None:
    commit = committed(lane)
    git(lane.root, "remote", "add", "origin", "https://bot:secret@git.example/acme/fleet.git")
    predicate = signed(lane)
    assert predicate["buildDefinition"]["buildType"] == BUILD_TYPE
    assert parameters(predicate) == {
        "repository": "https://git.example/acme/fleet",
        "commit": commit,
        "worktree": "clean",
        "model": MODEL,
        "hardwareClass": CLASS,
        "modelVersion": "1.0.0",
    }
    assert materials(predicate)["source"] == {
        "name": "source", "uri": "git+https://git.example/acme/fleet", "digest": {"gitCommit": commit},
    }  # fmt: skip


def test_changes_that_are_not_committed_are_said(lane: LaneFiles) -> None:
    committed(lane)
    (lane.root / "models" / MODEL / "data.py").write_text("def test(): return 1\n")
    (lane.root / "hardware" / "new.yaml").write_text("version: 1\n")
    predicate = signed(lane)
    assert parameters(predicate)["worktree"] == "modified"
    assert materials(predicate)["source"]["annotations"]["modified"] == [
        f"models/{MODEL}/data.py", "hardware/new.yaml",
    ]  # fmt: skip


def test_code_that_git_is_told_to_ignore_is_said(lane: LaneFiles) -> None:
    (lane.root / ".gitignore").write_text("*.bin\n__pycache__/\nlocal.py\n")
    committed(lane)
    folder = lane.root / "models" / MODEL
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__/data.cpython-311.pyc").write_bytes(b"")
    (folder / "weights.bin").write_bytes(b"pinned by its sha256")
    apart = [f"models/{MODEL}/weights.bin"]
    assert look(lane.root, pinned=apart).state == "clean"
    (folder / "local.py").write_text("nobody has seen it\n")
    found = look(lane.root, pinned=apart)
    assert (found.state, found.changed) == ("modified", (f"models/{MODEL}/local.py",))


def test_what_decides_no_artifact_does_not_count_as_a_change(lane: LaneFiles) -> None:
    committed(lane)
    (lane.root / "README.md").write_text("new\n")
    assert look(lane.root).state == "clean"


def test_outside_a_git_repository_it_works_and_says_so(
    lane: LaneFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(lane.root.parent))
    predicate = signed(lane)
    assert parameters(predicate)["worktree"] == "unversioned"
    assert "source" not in materials(predicate)


def test_without_git_it_works_and_says_so(lane: LaneFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    committed(lane)
    monkeypatch.setenv("PATH", str(lane.root))
    assert look(lane.root) == Worktree("unversioned")


def test_inside_a_hook_of_another_repository_it_still_looks_at_its_own(
    lane: LaneFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = committed(lane)
    git(tmp_path, "init", "-q", "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    assert look(lane.root).commit == commit


def test_a_fleet_in_a_folder_of_a_repository_says_which(lane: LaneFiles) -> None:
    git(lane.root.parent, "init", "-q")
    git(lane.root.parent, "add", "fleet")
    git(lane.root.parent, "commit", "-qm", "A fleet")
    assert (look(lane.root).folder, look(lane.root).state) == ("fleet", "clean")


def test_specs_code_and_weights_are_named_by_digest(lane: LaneFiles) -> None:
    named = materials(signed(lane))
    for name in (
        "fleet.yaml",
        f"hardware/{CLASS}.yaml",
        f"models/{MODEL}/model.yaml",
        f"models/{MODEL}/data.py",
    ):
        assert named[name]["digest"]["sha256"] == digest_of((lane.root / name).read_bytes())[7:]
    assert named[f"models/{MODEL}/weights.safetensors"]["digest"] == {"sha256": "5" * 64}
    assert named["torch"]["uri"].startswith("pkg:pypi/torch@2")


def test_the_digest_of_a_folder_is_what_the_shell_computes(tmp_path: Path) -> None:
    files = {"b.py": b"1", "a/c.py": b"2", "a.py": b"3"}
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    command = "find . -type f | cut -c3- | LC_ALL=C sort | xargs -r sha256sum | sha256sum | cut -f1 -d' '"
    shell = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert dir_hash({name: digest_of(data)[7:] for name, data in files.items()}) == shell.stdout.strip()


def test_equal_builds_give_equal_bytes_and_nothing_of_this_machine(lane: LaneFiles) -> None:
    committed(lane)
    first = signed(lane)
    bundle = lane.inputs["signed/provenance.sigstore.json"].read_bytes()
    assert signed(lane) == first
    assert lane.inputs["signed/provenance.sigstore.json"].read_bytes() == bundle
    assert str(lane.root) not in json.dumps(first)
    assert first["runDetails"]["builder"]["id"] == BUILDER_LOCAL


def test_a_new_commit_changes_no_action_key(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "repository")
    write_key(repository.root / ".edgewright/keys")

    def seen() -> Any:
        return slices.signed(load_fleet(repository.root), StepId("signed", "reader", "board"))

    before = seen()
    git(repository.root, "init", "-q")
    git(repository.root, "add", ".")
    git(repository.root, "commit", "-qm", "A fleet")
    assert (seen(), look(repository.root).state) == (before, "clean")


def test_in_github_actions_the_workflow_is_the_builder() -> None:
    assert (
        builder_id(ACTIONS) == "https://github.com/acme/fleet/.github/workflows/release.yml@refs/heads/main"
    )


@pytest.mark.parametrize(("mode", "named"), [("key", False), ("keyless", True)])
def test_the_run_is_named_where_a_log_tells_the_time_anyway(lane: LaneFiles, mode: str, named: bool) -> None:
    spec = {**lane.signing_spec, "signing": {"mode": mode}}
    job = Job(lane.root, MODEL, CLASS, spec, {}, lane.root)
    made = provenance(job, worktree=Worktree("unversioned"), report_digest="sha256:ab", environment=ACTIONS)
    run = {"invocationId": "https://github.com/acme/fleet/actions/runs/77/attempts/2"}
    assert made["runDetails"].get("metadata") == (run if named else None)


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("git@github.com:acme/fleet.git", "https://github.com/acme/fleet"),
        ("ssh://git@git.example:2222/acme/fleet.git", "https://git.example/acme/fleet"),
        ("https://user:token@git.example:8443/acme/fleet", "https://git.example:8443/acme/fleet"),
        ("/home/ada/fleet", ""),
        ("file:///home/ada/fleet", ""),
        ("../fleet", ""),
        ("https://[broken", ""),
        ("", ""),
    ],
)
def test_remotes_lose_credentials_and_local_ones_are_left_out(remote: str, address: str) -> None:
    assert public_address(remote) == address


def test_weights_from_a_file_address_do_not_show_where_it_is(lane: LaneFiles) -> None:
    spec = lane.signing_spec
    spec["model"]["checkpoint"] = {"uri": "file:///home/ada/digits.safetensors", "sha256": "6" * 64}
    job = Job(lane.root, MODEL, CLASS, spec, {}, lane.root)
    made = provenance(job, worktree=Worktree("unversioned"), report_digest="sha256:ab", environment={})
    assert materials(made)["digits.safetensors"] == {
        "name": "digits.safetensors",
        "digest": {"sha256": "6" * 64},
    }
