from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgewright.build.drift import drift_reference
from edgewright.build.evaluate import evaluation
from edgewright.build.golden import choose_rows, on_grid
from edgewright.build.leakage import UNPROVEN
from edgewright.build.metric import metric
from edgewright.build.samples import Network, Samples
from edgewright.errors import BuildError
from edgewright_agent.contract import digest_of
from unit.build.tiny import SIGNATURE, SPEC, Repository


def decoded(value: dict[str, Any]) -> np.ndarray:
    flat = np.frombuffer(base64.b64decode(value["data"]), np.dtype(value["dtype"]).newbyteorder("<"))
    return flat.reshape(value["shape"])


def document(made: dict[str, Any], name: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(made[name].read_bytes())
    return result


def data_module(exported: Repository, held_out: str) -> None:
    text = (exported.folder / "data.py").read_text()
    (exported.folder / "data.py").write_text(f"{text}\ndef test():\n    {held_out}\n")


def test_the_evaluation_is_about_the_optimized_model_and_counts_every_sample(exported: Repository) -> None:
    found = document(exported.run("evaluated"), "evaluation.json")
    assert found["model"] == digest_of(exported.files["optimized/model.onnx"].read_bytes())
    assert (found["version"], found["metric"], found["samples"]) == (2, "accuracy", 90)
    assert 0.9 < found["value"] <= 1
    assert found["drop"]["value"] == pytest.approx(found["fp32"]["value"] - found["value"])
    for figure in (found, found["fp32"], found["drop"]):
        assert figure["low"] <= figure["value"] <= figure["high"]
        assert figure["low"] < figure["high"]
    assert {name: entry["samples"] for name, entry in found["perLabel"].items()} == {
        "red": 30,
        "green": 30,
        "blue": 30,
    }


def test_accuracy_drop_and_recall_are_shares_of_whole_samples() -> None:
    targets = np.array([0, 0, 1, 1])
    good = np.eye(3)[targets]
    bad = np.eye(3)[[0, 1, 1, 0]]
    samples = Samples("data:test", {}, targets)
    report = evaluation(metric("accuracy"), bad, good, samples, ["a", "b", "c"])
    assert (report["value"], report["fp32"]["value"], report["drop"]["value"]) == (0.5, 1.0, 0.5)
    assert report["perLabel"]["a"] == {"samples": 2, "recall": 0.5, "fp32": 1.0, "drop": 0.5}
    assert report["perLabel"]["c"] == {"samples": 0, "recall": None, "fp32": None, "drop": None}


def test_the_label_that_loses_most_is_named_and_the_first_of_several() -> None:
    targets = np.arange(3).repeat(4)
    good, bad = np.eye(3)[targets], np.eye(3)[[0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 0, 0]]
    samples = Samples("data:test", {}, targets)
    report = evaluation(metric("accuracy"), bad, good, samples, ["a", "b", "c"])
    assert report["worstLabel"] == {"label": "b", "drop": 0.5}
    assert evaluation(metric("accuracy"), good, bad, samples, [])["worstLabel"] == {
        "label": "0",
        "drop": -0.25,
    }


def test_a_person_sees_the_figure_its_interval_and_every_label(exported: Repository) -> None:
    exported.run("evaluated")
    facts = exported.result.facts
    assert facts["low"] < facts["value"] <= facts["high"]
    assert [row["label"] for row in facts["per_label"]] == ["red", "green", "blue"]
    assert facts["duplicates"] == {"calibration": 0, "selection": 0, "test": 0}
    assert facts["notes"] == [UNPROVEN]


def test_training_data_that_are_named_are_proven_apart(exported: Repository) -> None:
    data = {**SPEC["data"], "training": "data:training"}
    found = document(exported.run("evaluated", data=data), "evaluation.json")
    assert (found["duplicates"]["training"], found["notes"]) == (0, [])
    leaking = {**SPEC["data"], "training": "data:test"}
    with pytest.raises(BuildError, match="90 of 90 samples of data:test are also in data:test"):
        exported.run("evaluated", data=leaking)


def test_labels_are_shipped_when_the_model_names_them(exported: Repository) -> None:
    assert document(exported.run("evaluated"), "labels.json")["labels"] == ["red", "green", "blue"]
    assert "labels.json" not in exported.run("evaluated", labels=[])


def test_golden_outputs_are_what_this_artifact_gives_within_their_tolerance(exported: Repository) -> None:
    golden = document(exported.run("evaluated"), "golden.json")
    inputs = {name: decoded(value) for name, value in golden["inputs"].items()}
    assert inputs["point"].shape == (6, 4)
    given = Network(exported.files["optimized/model.onnx"].read_bytes()).run(inputs)["logits"]
    np.testing.assert_allclose(
        given, decoded(golden["outputs"]["logits"]), atol=golden["atol"], rtol=golden["rtol"]
    )


def test_golden_tolerance_lets_an_int8_output_round_differently_and_no_more(exported: Repository) -> None:
    golden = document(exported.run("evaluated"), "golden.json")
    outputs = decoded(golden["outputs"]["logits"])
    assert 0.01 <= golden["atol"] < (outputs.max() - outputs.min()) / 20
    exported.run("searched", precisions=["fp32"])
    exported.run("optimized")
    assert document(exported.run("evaluated"), "golden.json")["atol"] == 0.01


def test_golden_samples_take_the_labels_in_turn() -> None:
    targets = np.array([0] * 50 + [1] * 5 + [2] * 5)
    outputs = {"logits": np.full((60, 3), 0.5, np.float32)}
    rows = choose_rows(targets, outputs, 6, 2.0**-10)
    assert sorted(targets[rows]) == [0, 0, 1, 1, 2, 2]


def test_golden_samples_avoid_outputs_on_the_edge_of_rounding() -> None:
    targets = np.array([0, 0, 1, 1])
    logits = np.full((4, 2), 0.25, np.float32)
    logits[0, 1] = 2.0**-11  # half a step of the grid: another processor may round it the other way
    assert choose_rows(targets, {"logits": logits}, 2, 2.0**-10) == [1, 2]


def test_golden_samples_of_wide_outputs_keep_furthest_from_the_edges_of_rounding() -> None:
    # 2,000 values each: every sample has one near an edge.
    embeddings = np.random.default_rng(0).standard_normal((30, 2000)).astype(np.float32)
    steps = embeddings.astype(np.float64) * 2.0**10
    room = np.abs(steps - np.floor(steps) - 0.5).min(axis=1)
    assert (room < 2.0**-6).all()
    rows = choose_rows(np.zeros(30, int), {"embedding": embeddings}, 4, 2.0**-10)
    assert sorted(rows) == sorted(np.argsort(-room)[:4].tolist())


@pytest.mark.parametrize("shape", [(60,), (60, 1), (60, 8), (60, 3, 4)])
def test_golden_samples_are_chosen_whatever_the_shape_of_outputs(shape: tuple[int, ...]) -> None:
    outputs = {"y": np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
    rows = choose_rows(np.arange(60) % 2, outputs, 6, 2.0**-10)
    assert sum(row % 2 for row in rows) == 3


@pytest.mark.parametrize("noise", [-1e-6, 1e-6])
def test_outputs_of_two_processors_are_stored_as_one(exported: Repository, noise: float) -> None:
    inputs = {"point": np.random.default_rng(0).standard_normal((90, 4)).astype(np.float32)}
    outputs = Network(exported.files["exported/model.onnx"].read_bytes()).run(inputs)["logits"]
    rows = choose_rows(np.arange(90) % 3, {"logits": outputs}, 20, 2.0**-10)
    there = outputs[rows] * np.float32(1 + noise)
    assert np.array_equal(on_grid(outputs[rows], 2.0**-10), on_grid(there, 2.0**-10))


def test_more_golden_samples_than_there_are_is_refused(exported: Repository) -> None:
    with pytest.raises(BuildError, match="golden.samples is 91; there are 90"):
        exported.run("evaluated", golden={"samples": 91, "atol": 0.01, "rtol": 0.01})


def test_the_drift_reference_holds_shares_that_sum_to_one(exported: Repository) -> None:
    drift = document(exported.run("evaluated"), "drift.json")
    for histogram in (drift["inputs"]["point"]["histogram"], drift["confidence"]["histogram"]):
        assert sum(histogram["share"]) == pytest.approx(1, abs=1e-5)
        assert len(histogram["edges"]) == len(histogram["share"]) + 1
    assert drift["samples"] == 90


def test_the_drift_of_one_score_per_sample_is_that_of_the_score_itself() -> None:
    scores = np.linspace(-3, 5, 200).astype(np.float32)[:, None]
    found = drift_reference({"x": np.ones((200, 2), np.float32)}, scores, "y", "auc")["confidence"]
    assert (found["output"], found["kind"]) == ("y", "score")
    assert (found["quantiles"]["p00"], found["quantiles"]["p100"]) == (-3, 5)
    assert sum(found["histogram"]["share"]) == pytest.approx(1)
    assert len(found["histogram"]["edges"]) == len(found["histogram"]["share"]) + 1


def test_the_drift_of_embeddings_is_that_of_their_length() -> None:
    vectors = np.array([[3, 4], [6, 8], [0, 0]], np.float32)
    found = drift_reference({"x": np.ones((3, 2), np.float32)}, vectors, "y", "cosine")["confidence"]
    assert (found["kind"], found["mean"]) == ("Euclidean norm", 5)


def test_a_constant_input_has_a_drift_reference_too() -> None:
    drift = drift_reference({"x": np.ones((4, 2), np.float32)}, np.zeros((4, 3), np.float32), "y")
    assert drift["inputs"]["x"]["std"] == 0
    assert drift["confidence"]["mean"] == pytest.approx(1 / 3, abs=1e-6)


def test_evaluating_twice_gives_the_same_bytes(exported: Repository) -> None:
    first = {name: path.read_bytes() for name, path in exported.run("evaluated").items()}
    assert {name: path.read_bytes() for name, path in exported.run("evaluated").items()} == first


def test_one_test_sample_in_the_calibration_data_is_leakage(exported: Repository) -> None:
    data_module(
        exported,
        "inputs, t = _made(90, 3); inputs['point'][41] = calibration()[0]['point'][7]; return inputs, t",
    )
    with pytest.raises(
        BuildError, match=r"1 of 90 samples of data:test are also in data:calibration.*rows 41"
    ):
        exported.run("evaluated")


@pytest.mark.parametrize(
    ("held_out", "message"),
    [
        (
            "return {'point': np.zeros((9, 4))}, np.zeros(9, int)",
            r"float64\[9, 4\]; the signature says float32\[9, 4\]",
        ),
        (
            "return {'point': np.zeros((9, 4), np.float32)}, np.zeros(8, int)",
            r"float32\[9, 4\]; .* says float32\[8, 4\]",
        ),
        (
            "return {'image': np.zeros((9, 4), np.float32)}, np.zeros(9, int)",
            r"inputs \['image'\]; .* names \['point'\]",
        ),
        ("return {'point': np.zeros((0, 4), np.float32)}, np.zeros(0, int)", "at least one"),
        ("return {'point': np.zeros((9, 4), np.float32)}, np.zeros(9)", "one integer per sample"),
        (
            "return {'point': np.full((9, 4), np.nan, np.float32)}, np.zeros(9, int)",
            "NaN or infinity in 9 of 9",
        ),
        ("return {'point': np.ones((9, 4), np.float32)}, np.full(9, 3)", "targets 3 to 3; .* 0 to 2"),
        ("return {'point': np.ones((9, 4), np.float32)}", "found dict"),
        (
            "raise OSError('the disk is gone')",
            r"data\.py:\d+: data:test raised OSError: the disk is gone",
        ),
    ],
)
def test_test_data_that_contradict_the_model_are_refused(
    exported: Repository, held_out: str, message: str
) -> None:
    data_module(exported, held_out)
    with pytest.raises(BuildError, match=message):
        exported.run("evaluated")


def test_labels_that_do_not_fit_the_output_are_refused(exported: Repository) -> None:
    with pytest.raises(BuildError, match="has 3 classes; model.yaml names 2 labels"):
        exported.run("evaluated", labels=["a", "b"])


def made_of(op: str) -> bytes:
    """A model of the tiny signature that applies `op` to a part of its input."""
    helper = onnx.helper
    graph = helper.make_graph(
        [
            helper.make_node("Slice", ["point", "start", "end", "axis"], ["part"]),
            helper.make_node(op, ["part"], ["logits"]),
        ],
        "model",
        [helper.make_tensor_value_info("point", 1, ["batch", 4])],
        [helper.make_tensor_value_info("logits", 1, ["batch", 3])],
        [
            helper.make_tensor(name, 7, [1], [value])
            for name, value in (("start", 0), ("end", 3), ("axis", 1))
        ],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10
    ).SerializeToString()


def test_a_model_that_gives_nan_is_not_evaluated(exported: Repository, tmp_path: Path) -> None:
    exported.files["optimized/model.onnx"] = tmp_path / "nan.onnx"
    (tmp_path / "nan.onnx").write_bytes(made_of("Log"))
    with pytest.raises(BuildError, match=r"output 'logits' holds NaN or infinity in \d+ of 90 samples"):
        exported.run("evaluated")


def test_an_output_of_another_shape_than_signed_is_refused(exported: Repository) -> None:
    signature = {**SIGNATURE, "outputs": [{"name": "logits", "dtype": "float32", "shape": ["batch", 2]}]}
    with pytest.raises(
        BuildError, match=r"output 'logits' is float32\[90, 3\]; the signature says float32\[90, 2\]"
    ):
        exported.run("evaluated", signature=signature)


def test_bytes_that_are_no_model_are_refused(exported: Repository) -> None:
    with pytest.raises(BuildError, match="onnxruntime cannot load the model"):
        Network(b"not a model")
