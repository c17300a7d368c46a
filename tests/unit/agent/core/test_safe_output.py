"""The safe output as a device reads it: strictly, when a model is installed and not when it is needed."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.build.manifest import runtime_manifest
from edgewright_agent import settings
from edgewright_agent.runtime.safe import constant
from edgewright_agent.safe_output import SafeOutput, parse
from unit.build.tiny import RUNTIME, SIGNATURE

TWO = {
    "outputs": [
        {"name": "box", "dtype": "int64", "shape": ["batch", 2, 2]},
        {"name": "score", "dtype": "float32", "shape": ["batch"]},
    ]
}


@pytest.mark.parametrize(
    ("declared", "read"),
    [
        (None, SafeOutput()),
        ({"kind": "no-decision"}, SafeOutput()),
        ({"kind": "hold-last", "maxAge": 2.5}, SafeOutput("hold-last", max_age_s=2.5)),
        (
            {"kind": "constant", "outputs": {"logits": [0, 1, 0.5]}},
            SafeOutput("constant", {"logits": [0, 1, 0.5]}, {"logits": "float32"}),
        ),
    ],
)
def test_the_agent_reads_what_the_pipeline_writes(declared: dict[str, Any] | None, read: SafeOutput) -> None:
    document = runtime_manifest(RUNTIME, SIGNATURE, "fp32", safe_output=declared)
    assert ("safeOutput" in document) == (declared is not None)
    assert settings.parse(document).safe_output == read


def test_a_constant_has_every_output_of_its_shape_for_one_sample() -> None:
    answer = {"box": [[0, 0], [1, 1]], "score": 0.0}
    assert parse({"kind": "constant", "outputs": answer}, TWO).outputs == answer


@pytest.mark.parametrize(
    "value",
    [
        "no-decision",
        [],
        {},
        {"kind": "guess"},
        {"kind": ["constant"]},
        {"kind": "no-decision", "maxAgeS": 1},
        {"kind": "hold-last"},
        {"kind": "hold-last", "maxAgeS": 0},
        {"kind": "hold-last", "maxAgeS": True},
        {"kind": "hold-last", "maxAgeS": "5"},
        {"kind": "hold-last", "maxAgeS": float("inf")},
        {"kind": "constant"},
        {"kind": "constant", "outputs": []},
        {"kind": "constant", "outputs": {"score": 1.0}},
        {"kind": "constant", "outputs": {"box": [[0, 0], [1, 1]], "score": [1.0]}},
        {"kind": "constant", "outputs": {"box": [[0, 0], [1, 1.5]], "score": 1.0}},
        {"kind": "constant", "outputs": {"box": [[0, 0], [1]], "score": 1.0}},
        {"kind": "constant", "outputs": {"box": [[0, 0], [1, 1]], "score": float("nan")}},
        {"kind": "constant", "outputs": {"box": [[0, 0], [1, 1]], "score": 10**400}},
        {"kind": "constant", "outputs": {"box": [[0, 0], [1, 1]], "score": None}},
    ],
)
def test_anything_else_is_refused_in_words(value: Any) -> None:
    with pytest.raises(ValueError, match="safeOutput"):
        parse(value, TWO)


@pytest.mark.parametrize(
    ("dtype", "good", "bad"),
    [
        ("uint8", (0, 255), (-1, 256, 0.5)),
        ("int8", (-128, 127), (-129, 128)),
        ("int64", (-(2**63), 2**63 - 1), (2**63, 1.0)),
        ("uint64", (0, 2**64 - 1), (-1, 2**64)),
        ("float16", (65504.0, 0.1, 1), (65520.0, float("inf"))),
        ("float32", (3.4028235e38, -3.4028235e38, 0.1, 1), (1e39, 10**39, float("nan"))),
        ("float64", (1e308, 0.1, 10**300), (10**309, float("inf"))),
        ("bool", (0, 1, 1.0), (2, 0.5)),
        ("bfloat16", (), (1.0,)),
        (None, (), (1.0,)),
    ],
)
def test_a_constant_is_within_the_range_of_its_type(
    dtype: str | None, good: tuple[float, ...], bad: tuple[float, ...]
) -> None:
    """What passes when the model is installed is what an application gets when it is needed."""
    signature = {"outputs": [{"name": "y", "dtype": dtype, "shape": ["batch", 1]}]}
    for number in good:
        safe = parse({"kind": "constant", "outputs": {"y": [number]}}, signature)
        (answer,) = constant(safe, 1)["y"].tolist()
        assert answer == [pytest.approx(number, rel=1e-3)]
    for number in (*bad, True, "1"):
        with pytest.raises(ValueError, match=f"outputs.y must be {dtype} of shape"):
            parse({"kind": "constant", "outputs": {"y": [number]}}, signature)


def test_a_constant_without_a_signature_to_hold_it_to_is_refused() -> None:
    for signature in (None, {}, {"outputs": [{}]}, {"outputs": 5}):
        with pytest.raises(ValueError, match="signature"):
            parse({"kind": "constant", "outputs": {}}, signature)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


@given(_JSON)
def test_no_document_makes_more_of_it_than_a_refusal(value: Any) -> None:
    for document in (value, {"kind": "constant", "outputs": {"box": value, "score": value}}):
        with contextlib.suppress(ValueError):
            parse(document, TWO)
