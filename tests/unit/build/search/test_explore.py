"""The search itself: real models, real passes, real scores; only the target is stood in for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edgewright.build.canonical import to_bytes
from edgewright.build.metric import metric
from edgewright.build.passes.facts import ClassFacts
from edgewright.build.samples import Network, Samples
from edgewright.build.search import explore as exploring
from edgewright.build.search.candidate import Candidate, Cost
from edgewright.build.search.explore import Found, Stopped, document, explore
from edgewright.build.search.planned import FINALISTS, plan
from edgewright.build.search.sensitivity import grouped, harm, kept_counts, signal_to_noise_db
from edgewright.build.search.shelf import Shelf
from edgewright.build.search.workshop import Workshop
from edgewright.errors import BuildError
from edgewright.spec.model import RECIPES
from unit.build.passes.networks import exported, samples

VNNI = ClassFacts("amd64", ("avx2", "vnni"), ("fp16", "int8", "int4", "fp32"), versions=">=1.22,<2")


class Scale:
    """Says that time and memory go by size, and counts what it was asked."""

    workers = 2

    def __init__(self, refuses: Callable[[bytes], bool] = lambda _model: False) -> None:
        self.asked: list[int] = []
        self.refuses = refuses

    def measure(self, model: bytes, precision: str) -> Cost:
        self.asked.append(len(model))
        if self.refuses(model):
            raise BuildError("the target lacks an operator")
        return Cost(
            {"value": len(model) / 1e3, "low": 0.0, "high": 1.0}, 1.0, 2.0, len(model), len(model), len(model)
        )


@functools.cache
def base(kind: str) -> bytes:
    return to_bytes(exported(kind))


def shop(kind: str = "attention", shelf: Shelf | None = None, count: int = 60) -> Workshop:
    """A workshop whose selection targets are what fp32 answers, so that fp32 is always right."""
    model = base(kind)
    calibration, selection = samples(kind, 40), samples(kind, count)
    answers = Network(model).run(selection.inputs)["logits"].argmax(1)
    chosen = Samples("selection", selection.inputs, answers.astype(np.int64))
    return Workshop({"trained": model}, calibration, chosen, metric("accuracy"), shelf or Shelf())


def search(of: Workshop, meter: Scale | None = None, **asked: object) -> Found:
    options = {"budget_s": 600.0, **asked}
    return explore(of, VNNI, RECIPES, meter or Scale(), **options)  # type: ignore[arg-type]


def test_fp32_leads_and_is_measured_and_every_other_candidate_is_measured_or_says_why_not() -> None:
    found = search(shop())
    assert found.complete
    assert (found.candidates[0].name, found.candidates[0].rung) == ("fp32", "target")
    assert all(bool(one.cost) != bool(one.stopped) for one in found.candidates)
    assert set(found.models) == {one.digest for one in found.candidates if one.cost}


def test_no_more_than_the_finalists_reach_the_target() -> None:
    meter = Scale()
    search(shop(), meter)
    assert 2 <= len(meter.asked) <= FINALISTS


def test_the_same_search_gives_the_same_document() -> None:
    assert document(search(shop())) == document(search(shop()))


def test_a_second_search_builds_and_scores_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf(tmp_path)
    first = search(shop(shelf=shelf))

    def fail(*_arguments: object) -> bytes:
        raise AssertionError("made again")

    monkeypatch.setattr("edgewright.build.search.workshop.activation_ranges", fail)
    monkeypatch.setattr("edgewright.build.search.workshop.clean", fail)
    monkeypatch.setattr(Workshop, "_figures", fail)
    assert document(search(shop(shelf=shelf))) == document(first)


def test_a_candidate_that_the_target_cannot_run_is_out_and_the_rest_goes_on() -> None:
    found = search(shop(), Scale(refuses=lambda model: b"MatMulNBits" in model))
    stopped = {one.name: one.stopped for one in found.candidates if one.stopped}
    assert any(why == "the target lacks an operator" for why in stopped.values())
    assert found.candidates[0].cost is not None


def test_a_search_that_is_stopped_keeps_the_best_so_far() -> None:
    measured: list[str] = []

    def watch(one: Candidate) -> None:
        if one.cost:
            measured.append(one.name)
        if len(measured) == 2:
            raise Stopped

    found = search(shop(), watch=watch)
    assert not found.complete
    assert [one.name for one in found.candidates if one.cost] == measured
    assert measured[0] == "fp32"


def test_a_small_budget_leaves_proposals_out_by_name() -> None:
    found = search(shop(), budget_s=4.0)
    assert found.candidates[0].cost is not None
    assert found.left
    assert not set(found.left) & {one.name for one in found.candidates}


def test_a_plan_lists_what_a_search_then_tries() -> None:
    planned = plan(shop(), VNNI, RECIPES, 600.0)
    assert planned.estimate_s > 0
    tried = {one.name for one in search(shop()).candidates}
    assert {one.name for one in planned.proposals} <= tried


def test_the_worse_half_is_dropped_after_a_few_samples_where_scoring_is_dear(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exploring, "QUICK_FROM_MACS", 0.0)
    monkeypatch.setattr(exploring, "QUICK_ROWS", 12)
    found = search(shop())
    rungs = {one.name: one.rung for one in found.candidates}
    assert rungs["fp32"] == "target"
    assert "quick" in rungs.values()
    assert all("worse half" in one.stopped for one in found.candidates if one.rung == "quick")


class Fragile(Workshop):
    """Int8 of one node ruins the answers: what happens to a network with one layer of extreme range."""

    def outputs(self, model: bytes, rows: np.ndarray | None = None) -> np.ndarray:
        found = super().outputs(model, rows)
        if self.ruined(model):
            return np.asarray(-found)
        return found

    def ruined(self, model: bytes) -> bool:
        import onnx

        graph = onnx.load_model_from_string(model).graph
        made_by = {output: node.op_type for node in graph.node for output in node.output}
        worst = self.facts("trained").compute[1]
        node = next((one for one in graph.node if one.name.startswith(worst)), None)
        return node is not None and made_by.get(node.input[1]) == "DequantizeLinear"


@pytest.fixture
def fragile() -> Iterator[Fragile]:
    whole = shop("residual")
    yield Fragile(whole.bases, whole.calibration, whole.selection, whole.metric)


def test_a_network_that_all_int8_ruins_is_saved_by_keeping_the_node_that_did_it(fragile: Fragile) -> None:
    found = search(fragile)
    by_name = {one.name: one for one in found.candidates}
    naive = by_name["static-int8 U8S8"]
    assert naive.drop is not None
    assert naive.drop.value > 0.5
    mixed = [one for name, one in by_name.items() if name.startswith("mixed-int8") and one.drop]
    assert min(one.drop.value for one in mixed if one.drop) <= 0.05
    saved = min(mixed, key=lambda one: one.drop.value if one.drop else 1)
    assert saved.proposal.settings["keep"] == [fragile.facts("trained").compute[1]]
    assert "1 of 3 nodes fp32" in saved.name
    assert {"static-int8 U8S8 percentile", "static-int8 U8S8 entropy"} & set(by_name) or any(
        "percentile" in name for name in by_name
    )


def test_mending_spends_the_time_budget_too_and_what_it_leaves_out_is_named(fragile: Fragile) -> None:
    whole = search(fragile)
    mending = [one.name for one in whole.candidates if one.proposal.recipe == "mixed-int8"]
    budget_s = plan(fragile, VNNI, RECIPES, 600.0).estimate_s
    found = search(fragile, budget_s=budget_s)
    assert mending
    assert found.left == ("static-int8 U8S8 percentile", "static-int8 U8S8 entropy", "mixed-int8")
    assert not {*mending, *found.left} & {one.name for one in found.candidates}


def test_a_condition_that_tests_nothing_ends_the_search_before_anything_is_measured() -> None:
    whole = shop("residual")
    idle = [{"name": "fine-converter", "adcBits": 8, "fullScale": [0.0, 1.0]}]
    inputs = {name: np.zeros_like(array) for name, array in whole.selection.inputs.items()}
    selection = Samples("selection", inputs, whole.selection.targets)
    dark = Workshop(whole.bases, whole.calibration, selection, whole.metric, conditions=idle)
    meter = Scale()
    with pytest.raises(BuildError, match="condition fine-converter changes no value of the 60 samples"):
        search(dark, meter)
    assert meter.asked == []


def test_the_most_harmful_node_is_ranked_first(fragile: Fragile) -> None:
    nodes = fragile.facts("trained").compute
    order = harm(fragile, "trained", {"activations": "u8", "weights": "s8"}, grouped(nodes))
    assert order[0] == (nodes[1],)


def test_what_lost_a_tenth_reaches_the_target_only_where_there_is_room(fragile: Fragile) -> None:
    found = search(fragile)
    measured = [one for one in found.candidates if one.cost]
    assert any(one.name.startswith("mixed-int8") for one in measured)
    ruined = [one for one in found.candidates if one.stopped and one.drop and one.drop.value >= 0.1]
    assert ruined
    said = ("lost ", "the same model as ")
    assert all(one.stopped.startswith(said) for one in ruined), [one.stopped for one in ruined]


def test_fp32_that_contradicts_its_labels_stops_the_search() -> None:
    whole = shop()
    wrong = Samples("selection", whole.selection.inputs, np.full(60, 7))
    with pytest.raises(BuildError, match="selection has targets 7 to 7; the model's classes are 0 to 2"):
        search(Workshop(whole.bases, whole.calibration, wrong, whole.metric))


@pytest.mark.parametrize(("groups", "counts"), [(1, (1,)), (4, (1, 2)), (21, (1, 2, 3, 4, 6, 9)), (0, (1,))])
def test_more_and_more_nodes_are_kept_but_no_more_than_half(groups: int, counts: tuple[int, ...]) -> None:
    assert kept_counts(groups) == counts


def test_many_nodes_are_tried_in_runs_of_neighbours() -> None:
    groups = grouped([str(number) for number in range(100)])
    assert len(groups) <= 32
    assert [node for group in groups for node in group] == [str(number) for number in range(100)]


def test_noise_is_measured_in_decibels() -> None:
    signal = np.array([3.0, 4.0])
    assert signal_to_noise_db(signal, signal) == float("inf")
    assert signal_to_noise_db(signal, signal * 1.1) == 20.0


def test_fp32_that_the_target_cannot_run_ends_the_search_with_the_reason() -> None:
    fp32 = base("attention")
    with pytest.raises(BuildError, match="fp32 does not run on the target: the target lacks an operator"):
        search(shop(), Scale(refuses=lambda model: model == fp32))
