"""The bill of materials is CycloneDX 1.6, says what a reviewer asks for, and is the same for the same artifact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from edgewright.plan.job import Job
from edgewright.publish.attestations import BUNDLES
from edgewright.publish.bom import bill_of_materials
from edgewright.publish.statement import read_statement
from edgewright_agent.contract import MAX_BUNDLE_BYTES, PREDICATE_BOM
from unit.publish.lane import CLASS, MODEL, LaneFiles

SCORE = {"value": 0.978, "low": 0.96, "high": 0.988}
FIGURES = {
    "search": {"chosen": "static-int8"},
    "evaluation": {"metric": "accuracy", **SCORE, "fp32": {**SCORE, "value": 0.98}, "samples": 450},
    "benchmark": {
        "conditions": {
            "metric": "accuracy",
            "conditions": [{"name": "dim-light", "value": 0.95, "low": 0.93}],
        }
    },
}


@pytest.fixture
def lane(tmp_path: Path) -> LaneFiles:
    lane = LaneFiles(tmp_path)
    lane.package()
    lane.gate(figures=FIGURES, notes=["latency is a prediction"])
    return lane


def signed(lane: LaneFiles) -> dict[str, Any]:
    lane.sign()
    document = read_statement(lane.inputs["signed/bom.sigstore.json"].read_bytes())
    assert document["predicateType"] == PREDICATE_BOM
    found: dict[str, Any] = document["predicate"]
    return found


def component(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["metadata"]["component"]
    return found


def valid(document: dict[str, Any]) -> None:
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(document))
    assert problem is None, problem


def test_it_is_valid_by_the_schema_of_the_specification(lane: LaneFiles) -> None:
    valid(signed(lane))


def test_a_model_that_says_little_of_itself_still_has_a_valid_one(lane: LaneFiles) -> None:
    spec = lane.signing_spec
    spec["model"] |= {"datasets": [], "network": None, "checkpoint": None, "train": {"entry": "train:fit"}}
    del spec["model"]["task"]
    job = Job(lane.root, MODEL, CLASS, spec, {}, lane.root)
    document = bill_of_materials(job, lane.manifest, {})
    valid(document)
    named = {entry["name"]: entry["value"] for entry in component(document)["properties"]}
    assert (named["edgewright:training"], named["edgewright:training-seed"]) == ("train:fit", "0")


def test_figures_of_the_gate_report_are_its_quantitative_analysis(lane: LaneFiles) -> None:
    metrics = component(signed(lane))["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert metrics[0] == {
        "type": "accuracy",
        "value": "0.978",
        "slice": "this artifact on test data, 450 samples",
        "confidenceInterval": {"lowerBound": "0.96", "upperBound": "0.988"},
    }
    assert [metric["slice"] for metric in metrics[1:]] == [
        "the fp32 network on test data, 450 samples", "field condition dim-light",
    ]  # fmt: skip


def test_precision_and_recipe_are_told(lane: LaneFiles) -> None:
    named = {entry["name"]: entry["value"] for entry in component(signed(lane))["properties"]}
    assert (named["edgewright:precision"], named["edgewright:recipe"]) == ("int8", "static-int8")
    assert named["edgewright:checkpoint-sha256"] == "5" * 64


def test_data_sets_come_with_source_and_licence(lane: LaneFiles) -> None:
    document = signed(lane)
    found = next(each for each in document["components"] if each["bom-ref"] == "dataset:optdigits")
    assert found["licenses"] == [{"expression": "CC-BY-4.0"}]
    assert found["externalReferences"][0]["url"] == "https://archive.ics.uci.edu/dataset/80"
    references = component(document)["modelCard"]["modelParameters"]["datasets"]
    assert {"ref": "dataset:optdigits"} in references


def test_every_layer_is_a_file_with_its_hash(lane: LaneFiles) -> None:
    files = {each["name"]: each for each in signed(lane)["components"] if each["type"] == "file"}
    layers = json.loads(lane.manifest)["layers"]
    assert {each["hashes"][0]["content"] for each in files.values()} == {
        layer["digest"][7:] for layer in layers
    }


def test_everything_it_lists_is_what_the_model_depends_on(lane: LaneFiles) -> None:
    document = signed(lane)
    listed = {each["bom-ref"] for each in document["components"]}
    assert set(document["dependencies"][0]["dependsOn"]) == listed
    assert len(listed) == len(document["components"])


def test_the_same_artifact_has_the_same_bill_and_another_one_another_number(
    lane: LaneFiles, tmp_path: Path
) -> None:
    first = signed(lane)
    assert signed(lane) == first
    assert "timestamp" not in first["metadata"]
    other = LaneFiles(tmp_path / "other", weights=b"other")
    other.package()
    assert signed(other)["serialNumber"] != first["serialNumber"]


def test_limits_of_use_are_those_of_the_report(lane: LaneFiles) -> None:
    considered = component(signed(lane))["modelCard"]["considerations"]["technicalLimitations"]
    assert considered == [f"measured and gated for hardware class {CLASS} only", "latency is a prediction"]


def test_every_bundle_is_one_that_devices_read(lane: LaneFiles) -> None:
    lane.sign()
    for name, _ in BUNDLES:
        assert len(lane.inputs[f"signed/{name}"].read_bytes()) < MAX_BUNDLE_BYTES / 4
