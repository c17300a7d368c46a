"""What a device does with the signed list of who should run what."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from edgewright_agent.config import Budget
from edgewright_agent.errors import TrustError
from edgewright_agent.model_state import Terms
from edgewright_agent.trust.assignment import Assigned, Experiment, assigned, parse_assignment
from unit.agent.trust.tuf_fleet import DIGEST, assignment

CLASS = "raspberry-pi-4"


def artifact(version: str = "1.0.0", **more: Any) -> dict[str, Any]:
    return {"digest": DIGEST, "size": 1000, "modelVersion": version, **more}


def model(version: str = "1.0.0", **artifacts: dict[str, Any]) -> dict[str, Any]:
    return {"repository": "models/reader", "modelVersion": version, "artifacts": artifacts}


def group(name: str, labels: dict[str, str], **models: dict[str, Any]) -> dict[str, Any]:
    named = {key.replace("_", "-"): value for key, value in models.items()}
    return {"name": name, "selector": {"matchLabels": labels}, "models": named}


def chosen(groups: list[dict[str, Any]], **labels: str) -> dict[str, Assigned]:
    parsed = parse_assignment(json.dumps({**assignment(), "groups": groups}).encode())
    return assigned(parsed, hardware_class=CLASS, labels=labels)


def for_class(version: str) -> dict[str, Any]:
    return model(version, **{CLASS: artifact(version)})


def test_an_assignment_says_everything_an_update_needs() -> None:
    made = model(
        "1.1.0",
        **{CLASS: artifact(updatePolicy={"poll": {}}, rollbackPolicy={"attempts": 2, "healthTimeoutS": 90})},
    )
    assert chosen([group("all", {}, digit_reader=made)]) == {
        "digit-reader": Assigned(
            model="digit-reader",
            group="all",
            repository="models/reader",
            model_version="1.0.0",
            digest=DIGEST,
            size=1000,
            attempts=2,
            health_timeout_s=90.0,
            update_policy={"poll": {}},
        )
    }


def test_without_a_rollback_policy_a_trial_has_three_attempts_of_a_minute() -> None:
    found = chosen([group("all", {}, reader=for_class("1.0.0"))])["reader"]
    assert (found.attempts, found.health_timeout_s) == (3, 60.0)


def test_a_rollback_policy_says_what_else_a_model_goes_through() -> None:
    policy = {
        "budget": {"loadMs": 900, "peakMemoryBytes": 1e6},
        "trialSoakS": 20,
        "soakS": 3600,
        "inferenceTimeoutS": 2.5,
        "fromTheFuture": [],
    }
    made = model("1.1.0", **{CLASS: artifact(rollbackPolicy=policy)})
    assert chosen([group("all", {}, digit_reader=made)])["digit-reader"].terms == Terms(
        Budget(load_ms=900, peak_memory_bytes=1_000_000),
        trial_soak_s=20,
        soak_s=3600,
        inference_timeout_s=2.5,
    )


def test_the_first_group_that_matches_and_names_the_model_decides() -> None:
    groups = [
        group("berlin", {"site": "berlin"}, reader=for_class("3.0.0")),
        group("canaries", {"ring": "canary"}, reader=for_class("2.0.0")),
        group("all", {}, reader=for_class("1.0.0"), monitor=for_class("1.5.0")),
    ]
    found = chosen(groups, ring="canary")
    assert {name: (one.group, one.model_version) for name, one in found.items()} == {
        "reader": ("canaries", "2.0.0"),
        "monitor": ("all", "1.5.0"),
    }


def test_every_label_of_a_selector_has_to_match() -> None:
    groups = [group("both", {"ring": "canary", "site": "berlin"}, reader=for_class("2.0.0"))]
    assert chosen(groups, ring="canary") == {}
    assert chosen(groups, ring="canary", site="berlin", line="4")["reader"].model_version == "2.0.0"


def test_a_deciding_group_without_an_artifact_for_the_class_is_not_overruled_by_a_later_one() -> None:
    groups = [
        group("canaries", {"ring": "canary"}, reader=model(**{"jetson-vision-standard": artifact()})),
        group("all", {}, reader=for_class("1.0.0")),
    ]
    assert chosen(groups, ring="canary") == {}


def test_a_device_that_no_group_wants_runs_nothing() -> None:
    assert chosen([]) == {}
    assert chosen([group("canaries", {"ring": "canary"}, reader=for_class("1.0.0"))]) == {}


def test_words_of_a_newer_fleet_are_left_alone() -> None:
    made = {**for_class("1.0.0"), "waves": [{"limit": 5}]}
    assert set(chosen([group("all", {}, reader=made) | {"rollout": {}}])) == {"reader"}


def _set(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def bend(document: dict[str, Any]) -> None:
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to

    return bend


MODEL = ("groups", 0, "models", "digit-reader")
ARTIFACT = (*MODEL, "artifacts", CLASS)


@pytest.mark.parametrize(
    ("bend", "where"),
    [
        (_set("version", to=2), "version 2"),
        (_set("version", to="1"), "version '1'"),
        (_set("fleet", to="No Name"), "fleet"),
        (_set("sequence", to=0), "sequence"),
        (_set("sequence", to=True), "sequence"),
        (_set("sequence", to=2**53), "sequence"),
        (_set("release", to="r1\n"), "release"),
        (_set("groups", to={}), "groups"),
        (_set("groups", 0, to=None), "groups[0]"),
        (_set("groups", 0, "name", to="../x"), "groups[0].name"),
        (_set("groups", 0, "selector", to={}), "selector.matchLabels"),
        (_set("groups", 0, "selector", "matchLabels", to={"ring": 1}), "matchLabels.ring"),
        (_set("groups", 0, "models", to=[]), "groups[0].models"),
        (_set("groups", 0, "models", to={"A": {}}), "groups[0].models"),
        (_set(*MODEL, to="x"), "digit-reader"),
        (_set(*MODEL, "repository", to="../../etc"), "repository"),
        (_set(*MODEL, "repository", to="http://evil/x"), "repository"),
        (_set(*MODEL, "modelVersion", to=1), "modelVersion"),
        (_set(*MODEL, "artifacts", to={"../x": {}}), "artifacts"),
        (_set(*ARTIFACT, "digest", to="sha256:" + "A" * 64), "digest"),
        (_set(*ARTIFACT, "digest", to="sha256:" + "a" * 64 + "\n"), "digest"),
        (_set(*ARTIFACT, "size", to=0), "size"),
        (_set(*ARTIFACT, "size", to=10**9), "size"),
        (_set(*ARTIFACT, "size", to=1000.0), "size"),
        (_set(*ARTIFACT, "modelVersion", to="x" * 300), "modelVersion"),
        (_set(*ARTIFACT, "updatePolicy", to="now"), "updatePolicy"),
        (_set(*ARTIFACT, "rollbackPolicy", to={"attempts": 0}), "attempts"),
        (_set(*ARTIFACT, "rollbackPolicy", to={"attempts": 10**6}), "attempts"),
        (_set(*ARTIFACT, "rollbackPolicy", to={"healthTimeoutS": 0}), "healthTimeoutS"),
        (_set(*ARTIFACT, "rollbackPolicy", to={"healthTimeoutS": 1e400}), "more than a number can be"),
        (_set(*ARTIFACT, "rollbackPolicy", to={"healthTimeoutS": False}), "healthTimeoutS"),
        (_set(*ARTIFACT, "rollbackPolicy", to={"soakS": 31 * 86400}), "rollbackPolicy.soakS"),
        (_set(*ARTIFACT, "rollbackPolicy", to={"soakS": -1}), "soakS"),
        (_set(*ARTIFACT, "rollbackPolicy", to={"soakS": True}), "soakS"),
        (_set(*ARTIFACT, "rollbackPolicy", to={"trialSoakS": 3601}), "trialSoakS"),
        (_set(*ARTIFACT, "rollbackPolicy", to={"inferenceTimeoutS": "10"}), "inferenceTimeoutS"),
        (_set(*ARTIFACT, "rollbackPolicy", to={"budget": []}), "rollbackPolicy.budget"),
        (_set(*ARTIFACT, "rollbackPolicy", to={"budget": {"loadMs": 0}}), "budget.loadMs"),
        (_set(*ARTIFACT, "rollbackPolicy", to={"budget": {"latencyMs": None}}), "budget.latencyMs"),
        (_set(*ARTIFACT, "rollbackPolicy", to={"budget": {"peakMemoryBytes": 1e300}}), "peakMemoryBytes"),
    ],
)
def test_a_wrong_shape_is_refused_by_place(bend: Callable[[dict[str, Any]], None], where: str) -> None:
    document = assignment()
    bend(document)
    body = json.dumps(document).replace("Infinity", "1e999").encode()
    with pytest.raises(TrustError) as caught:
        parse_assignment(body)
    assert caught.value.code == "bad-metadata"
    assert where in str(caught.value)


def beside(**more: Any) -> dict[str, Any]:
    told = {"name": "wider", "kind": "shadow", "share": 0.25, "digest": "sha256:" + "b" * 64, "size": 900}
    return {**told, "modelVersion": "1.1.0", **more}


def test_an_experiment_is_a_second_artifact_to_obtain_and_to_try() -> None:
    made = model("1.0.0", **{CLASS: artifact(experiment=beside(), rollbackPolicy={"attempts": 2})})
    target = chosen([group("all", {}, digit_reader=made)])["digit-reader"]
    assert target.experiment == Experiment("wider", "shadow", 0.25, "sha256:" + "b" * 64, 900, "1.1.0")
    candidate = target.candidate()
    assert candidate is not None
    assert (candidate.digest, candidate.model_version, candidate.size) == ("sha256:" + "b" * 64, "1.1.0", 900)
    assert candidate.attempts == 2 and candidate.experiment is None
    assert chosen([group("all", {}, digit_reader=for_class("1.0.0"))])["digit-reader"].candidate() is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "Wider One"),
        ("kind", "canary"),
        ("share", 0),
        ("share", 1.5),
        ("share", True),
        ("digest", "sha256:ab"),
        ("size", 0),
        ("modelVersion", 7),
    ],
)
def test_an_experiment_of_a_wrong_shape_is_refused_by_place(key: str, value: object) -> None:
    made = model("1.0.0", **{CLASS: artifact(experiment=beside(**{key: value}))})
    with pytest.raises(TrustError, match=rf"experiment\.{key}"):
        chosen([group("all", {}, digit_reader=made)])


def test_two_groups_of_one_name_are_refused() -> None:
    document = assignment()
    document["groups"] *= 2
    with pytest.raises(TrustError):
        parse_assignment(json.dumps(document).encode())


def test_a_key_that_appears_twice_is_refused_because_readers_differ_on_it() -> None:
    body = json.dumps(assignment()).replace('"sequence": 1', '"sequence": 1, "sequence": 2')
    with pytest.raises(TrustError):
        parse_assignment(body.encode())
