"""`rollbackPolicy` of a hardware sheet: what it says, what is refused, and what devices get of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edgewright.spec.load import load_fleet
from edgewright.trust.assignment import policies_of
from edgewright_agent.contract import OCI_EMPTY_BYTES, digest_of
from edgewright_agent.trust.assignment import assigned, parse_assignment

from .conftest import Repository, only

BOARD = "hardware/board.yaml"


def said(repository: Repository, policy: str) -> dict[str, Any]:
    repository.append(BOARD, f"rollbackPolicy: {policy}\n")
    found: dict[str, Any] = policies_of(load_fleet(repository.root).hardware["board"])["rollbackPolicy"]
    return found


def test_a_sheet_that_asks_for_nothing_signs_nothing_new(repository: Repository) -> None:
    assert said(repository, "{attempts: 2}") == {"attempts": 2, "healthTimeoutS": 60}


def test_limits_that_devices_enforce_are_those_of_the_gates(repository: Repository) -> None:
    assert said(repository, "{enforceLimits: true}")["budget"] == {
        "loadMs": 2000,
        "latencyMs": 40,
        "peakMemoryBytes": 256 * 2**20,
    }


def test_a_budget_counts_instead_of_the_limit_it_names(repository: Repository) -> None:
    assert said(repository, "{enforceLimits: true, budget: {latency: 90ms}}")["budget"]["latencyMs"] == 90


def test_a_budget_without_the_limits_checks_what_it_names_alone(repository: Repository) -> None:
    assert said(repository, "{budget: {peakMemory: 300MiB}}")["budget"] == {"peakMemoryBytes": 300 * 2**20}


def test_what_a_sheet_says_of_soaks_is_what_a_device_understands(repository: Repository) -> None:
    policy = said(
        repository, "{trialSoak: 30s, soak: 2h, inferenceTimeout: 5s, budget: {loadTime: 3s}, attempts: 2}"
    )
    artifact = {
        "digest": digest_of(OCI_EMPTY_BYTES),
        "modelVersion": "1.0.0",
        "size": 2,
        "rollbackPolicy": policy,
    }
    release = {"repository": "reader", "modelVersion": "1.0.0", "artifacts": {"board": artifact}}
    group = {"name": "all", "selector": {"matchLabels": {}}, "models": {"reader": release}}
    document = {"version": 1, "fleet": "edge", "sequence": 1, "release": "r1", "groups": [group]}
    parsed = parse_assignment(json.dumps(document).encode())
    terms = assigned(parsed, hardware_class="board", labels={})["reader"].terms
    assert (terms.trial_soak_s, terms.soak_s, terms.inference_timeout_s) == (30, 7200, 5)
    assert (terms.budget.load_ms, terms.budget.latency_ms) == (3000, None)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("healthTimeout: 2h", "devices take at most 1h; write 1h or less"),
        ("trialSoak: 2h", "devices take at most 1h; write 1h or less"),
        ("inferenceTimeout: 61m", "devices take at most 1h; write 1h or less"),
        ("soak: 31d", "devices take at most 30d; write 30d or less"),
        (
            "trialSoak: 5s",
            "over before a hang is noticed (inferenceTimeout: 10s); write at least 10s",
        ),
        (
            "budget: {latency: 39ms}",
            "less than the gates allow (40ms): devices would refuse what they pass; write at least 40ms",
        ),
        (
            "budget: {loadTime: 1s}",
            "less than the gates allow (2s): devices would refuse what they pass; write at least 2s",
        ),
        (
            "budget: {peakMemory: 255MiB}",
            "less than the gates allow (256MiB): devices would refuse what they pass; write at least 256MiB",
        ),
        ("budget: {peakMemory: 5GiB}", "more than the whole memory (memory.total: 4GiB)"),
        ("budget: {memory: 1GiB}", "unknown key 'memory'"),
        ("enforceLimits: 5", "must be true or false"),
    ],
)
def test_what_no_device_would_follow_is_refused_by_place(
    repository: Repository, policy: str, message: str
) -> None:
    repository.append(BOARD, f"rollbackPolicy:\n  {policy}\n")
    problem = only(repository)
    assert problem.startswith(f"{BOARD}:26:")
    assert message in problem
