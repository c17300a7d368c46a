from __future__ import annotations

import dataclasses

import pytest

from edgewright.build.passes.facts import ClassFacts, GraphFacts
from edgewright.build.search.candidate import TRAINED
from edgewright.build.search.proposals import propose, within_budget
from edgewright.spec.model import RECIPES

CONV = GraphFacts({"Conv": 3, "Relu": 2}, ("a", "b", "c"), {"Conv": 4000}, {"Conv": 1_000_000}, 1000)
TRANSFORMER = GraphFacts(
    {"MatMul": 8, "Gather": 1, "Softmax": 2},
    ("q", "k"),
    {"MatMul": 90_000, "Gather": 9000},
    {"MatMul": 10**7},
    9000,
)
VNNI = ClassFacts("amd64", ("avx2", "vnni"), ("int8", "fp32"), versions=">=1.22,<2")


def names(graph: GraphFacts, facts: ClassFacts, recipes: tuple[str, ...] = RECIPES) -> list[str]:
    return [one.name for one in propose({TRAINED: graph}, facts, recipes, rows=100).proposals]


def skipped(graph: GraphFacts, facts: ClassFacts) -> dict[str, str]:
    return dict(propose({TRAINED: graph}, facts, RECIPES, rows=100).skipped)


def test_x86_with_vnni_gets_unsigned_activations_and_full_signed_weights() -> None:
    assert names(CONV, VNNI) == ["fp32", "static-int8 U8S8", "static-int8 U8S8, compute only"]


def test_x86_without_vnni_gets_narrow_or_unsigned_weights_and_nothing_that_saturates() -> None:
    found = names(CONV, dataclasses.replace(VNNI, isa=("avx2",)))
    assert "static-int8 U8S8 7-bit" in found
    assert "static-int8 U8U8" in found
    assert "static-int8 U8S8" not in found


def test_arm_also_gets_signed_activations() -> None:
    arm = dataclasses.replace(VNNI, arch="arm64", isa=("neon",))
    assert {"static-int8 U8S8", "static-int8 S8S8"} <= set(names(CONV, arm))


def test_tensorrt_gets_symmetric_qdq_and_nothing_it_cannot_parse() -> None:
    facts = dataclasses.replace(VNNI, providers=("TensorrtExecutionProvider", "CPUExecutionProvider"))
    assert names(TRANSFORMER, facts) == ["fp32", "static-int8 S8S8 symmetric, compute only"]
    assert "TensorRT takes symmetric QDQ alone" in skipped(TRANSFORMER, facts)["dynamic-int8"]


def test_a_transformer_gets_dynamic_and_weight_only_recipes() -> None:
    found = names(TRANSFORMER, VNNI)
    assert {"dynamic-int8", "weight-int8 blocks of 32"} <= set(found)


@pytest.mark.parametrize(
    ("graph", "facts", "recipe", "why"),
    [
        (CONV, VNNI, "fp16", "the hardware class lists no fp16"),
        (CONV, VNNI, "dynamic-int8", "no MatMul, Gemm or Gather with constant weights"),
        (CONV, VNNI, "weight-int4", "the hardware class lists no int4"),
        (
            TRANSFORMER,
            dataclasses.replace(VNNI, versions=">=1.20,<2"),
            "weight-int8",
            "runtime.versions allows engines before 1.22, which lack 8-bit MatMulNBits",
        ),
        (
            GraphFacts({"Relu": 1}, (), {}, {}, 10),
            VNNI,
            "static-int8",
            "no convolution or matrix product with constant weights",
        ),
    ],
)
def test_a_recipe_that_does_not_apply_says_why(
    graph: GraphFacts, facts: ClassFacts, recipe: str, why: str
) -> None:
    assert skipped(graph, facts)[recipe] == why


def test_only_recipes_that_the_model_allows_are_proposed() -> None:
    assert names(CONV, VNNI, ()) == ["fp32"]


def test_every_variant_meets_every_recipe() -> None:
    graphs = {TRAINED: CONV, "pruned-50": dataclasses.replace(CONV, macs={"Conv": 250_000})}
    found = propose(graphs, VNNI, RECIPES, rows=100).proposals
    assert {"pruned-50 + fp32", "pruned-50 + static-int8 U8S8"} <= {one.name for one in found}
    rough = {one.name: one.speed for one in found}
    assert rough["pruned-50 + fp32"] < rough["fp32"] == 1.0
    assert found[0].name == "fp32"


def test_a_time_budget_leaves_out_the_later_proposals_and_never_fp32() -> None:
    proposals = propose({TRAINED: CONV}, VNNI, RECIPES, rows=100).proposals
    kept, left = within_budget(proposals, {TRAINED: 10.0}, 0.5, finalists=6)
    assert [one.name for one in kept] == ["fp32"]
    assert [*kept, *left] == list(proposals)
    kept, left = within_budget(proposals, {TRAINED: 10.0}, 1000.0, finalists=6)
    assert left == ()


def test_more_time_never_leaves_out_what_less_time_kept() -> None:
    proposals = propose({TRAINED: TRANSFORMER}, VNNI, RECIPES, rows=100).proposals
    counts = [len(within_budget(proposals, {TRAINED: 5.0}, budget, 6)[0]) for budget in (1, 10, 20, 40, 80)]
    assert counts == sorted(counts)
