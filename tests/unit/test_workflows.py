"""The workflows on GitHub give away no more than they need."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yaml"))

PINNED = re.compile(r"(\./.*|[\w-]+/[\w./-]+@[0-9a-f]{40})")


def _load(workflow: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(workflow.read_text())
    return loaded


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_every_action_is_pinned_by_its_full_commit(workflow: Path) -> None:
    uses = re.findall(r"uses:\s*(\S+)", workflow.read_text())
    assert uses
    assert [action for action in uses if not PINNED.fullmatch(action)] == []


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_permissions_start_from_nothing_but_reading(workflow: Path) -> None:
    assert _load(workflow)["permissions"] in ({}, {"contents": "read"})


def test_no_job_that_runs_a_pull_requests_code_can_write() -> None:
    jobs = _load(ROOT / ".github/workflows/plan.yaml")["jobs"]
    for job in jobs.values():
        checks_out = any("checkout" in step.get("uses", "") for step in job["steps"])
        writes = "write" in job["permissions"].values()
        assert not (checks_out and writes)


def test_releases_wait_for_each_other_and_for_the_tests() -> None:
    release = _load(ROOT / ".github/workflows/release.yaml")
    assert release["concurrency"] == {"group": "release", "cancel-in-progress": False}
    assert release["jobs"]["release"]["needs"] == "test"


def test_only_the_release_can_prove_which_workflow_it_is() -> None:
    """Keyless signing takes this token; a job that runs a pull request's code must not have one."""
    able = [
        (workflow.stem, name)
        for workflow in WORKFLOWS
        for name, job in _load(workflow)["jobs"].items()
        if "id-token" in (job.get("permissions") or {})
    ]
    assert able == [("release", "release")]


def test_secrets_reach_steps_through_the_environment_only() -> None:
    for workflow in WORKFLOWS:
        for job in _load(workflow)["jobs"].values():
            for step in job.get("steps", []):
                assert "${{ secrets." not in step.get("run", "")


def test_a_plan_knows_what_mains_results_were_made_of() -> None:
    """The cause of a step is its difference to the last run's; a cache is found only under equal paths."""
    kept = [
        step["with"]["path"].split()
        for workflow in WORKFLOWS
        for job in _load(workflow)["jobs"].values()
        for step in job.get("steps", [])
        if "actions/cache" in step.get("uses", "")
    ]
    assert len(kept) == 3
    assert all(paths == [".edgewright/cache", ".edgewright/state/steps.json"] for paths in kept)
