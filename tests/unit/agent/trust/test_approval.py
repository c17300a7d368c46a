"""What a class role says about an artifact: sequence, engine and agent, and values that make no sense."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright_agent.errors import TrustError
from edgewright_agent.trust import approval
from edgewright_agent.trust.approval import Approval, Runtime, engine_version, parse_approval

GOOD = {"sequence": 3, "minAgent": "0.1.0", "runtime": {"engine": "onnxruntime", "version": ">=1.20,<2"}}

DELTA = {"base": "sha256:" + "ab" * 32, "digest": "sha256:" + "cd" * 32, "size": 700, "bytes": 41_280}


def refused(code: str, check: Any, *words: Any, **more: Any) -> str:
    with pytest.raises(TrustError) as caught:
        check(*words, what="digit-reader 1.0.0", **more)
    assert caught.value.code == code
    return str(caught.value)


def test_a_whole_approval_is_read() -> None:
    assert parse_approval(1834, GOOD, what="it") == Approval(
        1834, 3, Runtime("onnxruntime", ">=1.20,<2"), "0.1.0"
    )


def test_the_deltas_that_are_legal_are_read() -> None:
    (found,) = parse_approval(1834, {**GOOD, "deltas": [DELTA]}, what="it").deltas
    assert (found.base, found.digest, found.size, found.bytes) == tuple(DELTA.values())
    assert parse_approval(1834, {**GOOD, "deltas": []}, what="it").deltas == ()


def test_what_is_not_said_is_not_demanded() -> None:
    bare = parse_approval(1834, {"sequence": 1}, what="it")
    bare.require_fit(what="it", agent="0.0.1")
    assert (bare.runtime, bare.min_agent) == (None, None)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"sequence": value} for value in (None, 0, -1, True, 1.5, "3", 2**53)),
        *({"minAgent": value} for value in (1, "new", "", "1,<", "1" * 300)),
        *({"runtime": value} for value in ("onnxruntime", [], {}, {"engine": "onnxruntime", "version": 1})),
        {"runtime": {"engine": "onnxruntime", "version": ">=99,nonsense"}},
        *({"deltas": value} for value in ("none", {}, [1], [DELTA] * 2, [None], None)),
        *({"deltas": [{**DELTA, "base": f"sha256:{n:064x}"} for n in range(4)]} for _ in "1"),
        *({"deltas": [{**DELTA, "base": value}]} for value in ("sha256:no", None, 1)),
        *({"deltas": [{**DELTA, "digest": value}]} for value in ("", None)),
        *({"deltas": [{**DELTA, "size": value}]} for value in (0, -1, True, 1.5, 10**9, "5", None)),
        *({"deltas": [{**DELTA, "bytes": value}]} for value in (0, -1, True, 10**12, None)),
    ],
)
def test_values_that_make_no_sense_are_refused_by_name(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    assert f"a {name} that makes no sense" in refused("bad-metadata", parse_approval, 1834, {**GOOD, **wrong})


@pytest.mark.parametrize("length", [0, -1, 10**9, True, "5", None])
def test_a_length_that_makes_no_sense_is_refused(length: Any) -> None:
    assert "a length that makes no sense" in refused("bad-metadata", parse_approval, length, GOOD)


@given(
    custom=st.dictionaries(
        st.sampled_from(["sequence", "minAgent", "runtime", "deltas"]),
        st.none()
        | st.lists(st.dictionaries(st.sampled_from(list(DELTA)), st.integers() | st.text()))
        | st.integers()
        | st.text()
        | st.dictionaries(st.sampled_from(["engine", "version"]), st.text() | st.none()),
    )
)
def test_any_custom_data_is_understood_or_refused(custom: dict[str, Any]) -> None:
    try:
        approved = parse_approval(1834, custom, what="it")
        approved.require_fit(what="it")
    except TrustError as refusal:
        assert refusal.code in ("bad-metadata", "wrong-runtime", "agent-too-old")


def test_a_lower_sequence_than_the_accepted_one_is_a_rollback() -> None:
    approved = Approval(1834, 7)
    approved.require_sequence(7, what="it")
    message = refused("artifact-rollback", approved.require_sequence, 8)
    assert "digit-reader 1.0.0 has sequence 7, and this device has accepted 8" in message


def test_an_agent_that_is_too_old_is_told_to_be_updated() -> None:
    needs = Approval(1834, 1, min_agent="0.2.0")
    for agent in ("0.2.0", "0.10.0", "1.0"):
        needs.require_fit(what="it", agent=agent)
    assert "update the agent" in refused("agent-too-old", needs.require_fit, agent="0.1.9")
    refused("agent-too-old", needs.require_fit, agent="0.2.0rc1")


def test_the_engine_that_is_installed_must_be_in_the_range(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = engine_version()
    assert installed is not None, "the tests' environment has onnxruntime"
    Approval(1834, 1, Runtime("onnxruntime", f"=={installed}")).require_fit(what="it")
    other = Approval(1834, 1, Runtime("onnxruntime", f">{installed}"))
    assert f"this is {installed}" in refused("wrong-runtime", other.require_fit)
    monkeypatch.setattr(approval, "DISTRIBUTIONS", ("no-such-engine", "onnxruntime"))
    assert engine_version() == installed, "a build under another name is the same engine"
    monkeypatch.setattr(approval, "DISTRIBUTIONS", ("no-such-engine",))
    other.require_fit(what="it")  # verified and stored, and waits for its engine


def test_another_engine_is_not_for_this_agent() -> None:
    other = Approval(1834, 1, Runtime("tensorflow-lite", ">=2"))
    assert "made for tensorflow-lite" in refused("wrong-runtime", other.require_fit)
