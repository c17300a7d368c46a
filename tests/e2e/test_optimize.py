"""The search on real targets, through the command line: what it shows, what it records, and that it repeats."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from e2e.journey import MODEL, PI, Journey
from edgewright.bench.meter import TargetMeter, agreement_db
from edgewright.bench.target.userland import targets_cache
from edgewright.build.canonical import to_bytes
from edgewright.build.checkpoint import restore
from edgewright.build.entry import ModelCode
from edgewright.build.export import export
from edgewright.build.torch_mode import repeatable
from edgewright.errors import BuildError
from edgewright.plan.slices import dump
from edgewright.spec.hardware import Sheet
from edgewright.spec.load import load_fleet
from real import ROOT, require_target
from unit.bench.target import models

# One lane for each recipe that ships in this repository: mixed precision, dynamic int8, fp16, a pruned variant,
# symmetric QDQ. Static int8 of both kinds of activations is what `test_pipeline` builds twice.
LANES = (
    ("bearing-anomaly", PI),
    ("log-triage", PI),
    ("log-triage", "jetson-vision-standard"),
    ("part-inspector", "intel-lowpower-detector"),
    ("digit-reader", "jetson-vision-standard"),
)


@pytest.fixture(autouse=True)
def _targets() -> None:
    require_target("arm64")
    require_target("amd64-qemu")


def whole_fleet(folder: Path) -> Journey:
    """A copy of this repository's fleet, with all its models."""
    journey = Journey.start(folder)
    shutil.rmtree(journey.fleet / "models")
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "models", journey.fleet / "models", ignore=ignore)
    return journey


def searched(journey: Journey, model: str, name: str, **environment: str) -> dict[str, Any]:
    done = journey.edgewright("optimize", model, "--class", name, "--json", **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_every_recipe_that_ships_gives_the_same_search_and_bytes_in_another_folder(tmp_path: Path) -> None:
    here, there = whole_fleet(tmp_path / "here"), whole_fleet(tmp_path / "further" / "away")
    other = {"PYTHONHASHSEED": "7", "TZ": "Asia/Kathmandu", "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    recipes = set()
    for model, name in LANES:
        first = searched(here, model, name)
        assert searched(there, model, name, **other) == first
        recipes.add(first["chosen"].partition(" ")[0])
    assert recipes == {"mixed-int8", "dynamic-int8", "fp16", "pruned-50", "static-int8"}


def test_an_autoencoder_is_saved_by_mixed_precision_where_all_int8_is_refused_with_the_reason(
    tmp_path: Path,
) -> None:
    found = searched(whole_fleet(tmp_path), "bearing-anomaly", PI)
    by_name = {one["name"]: one for one in found["candidates"]}
    naive, fp32, chosen = (by_name[name] for name in ("static-int8 U8S8", "fp32", found["chosen"]))
    assert naive["verdict"] == "refused"
    assert "accuracy-drop" in naive["reason"]
    assert "misses 0.50 %" in naive["reason"]
    assert found["chosen"].startswith("mixed-int8")
    assert chosen["drop"] <= 0.005
    assert chosen["sizeBytes"] < fp32["sizeBytes"] / 2


def test_a_built_lane_is_answered_from_what_the_pipeline_measured(built: Journey) -> None:
    cache = built.fleet / ".edgewright" / "cache" / "actions"
    before = {path.name for path in cache.iterdir()}
    done = built.edgewright("optimize", MODEL, "--class", PI)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "static-int8 U8S8" in done.stdout
    assert "chosen: static-int8 U8S8: best balance of latency, size and memory" in done.stdout
    assert "Next: edgewright run" in done.stdout
    assert {path.name for path in cache.iterdir()} == before


def test_a_changed_limit_searches_nothing_and_names_the_nearest_candidate(built: Journey) -> None:
    built.edit(f"hardware/{PI}.yaml", r"^(    p95:) .*$", r"\1 200us")
    built.edit("models/digit-reader/model.yaml", r"^        p95: 20ms$", "        p95: 200us")
    done = built.edgewright("run")
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"· optimized · {PI}" in done.stdout
    assert "searched" not in done.stdout
    done = built.edgewright("optimize", MODEL, "--class", PI)
    assert done.returncode == 2
    assert "nothing fits" in done.stdout
    assert "no candidate fits this class; the nearest is static-int8 U8S8: latency-p95" in done.stdout


def test_a_dry_run_lists_what_would_be_tried_and_records_nothing_of_a_search(built: Journey) -> None:
    done = built.edgewright("optimize", MODEL, "--class", PI, "--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{MODEL} on {PI}: 7 candidates, about ")
    assert [line.split("  ")[0] for line in lines[2:4]] == ["fp32", "static-int8 U8S8"]
    assert "not tried: fp16: the hardware class lists no fp16" in lines


def test_a_search_out_of_time_shows_the_best_so_far_and_records_nothing(tmp_path: Path) -> None:
    journey = Journey.start(tmp_path)
    done = journey.edgewright("optimize", MODEL, "--class", PI, "--time-limit", "0.5")
    # On a fast machine fp32 is measured in that time, on a slow one not even that.
    assert "nothing was recorded" in done.stdout or "the search was stopped before" in done.stderr
    after = journey.edgewright("plan", "--json")
    states = {
        step["stage"]: step["state"]
        for step in json.loads(after.stdout)["steps"]
        if step["hardwareClass"] == PI
    }
    assert states["searched"] == "run"


def test_a_plot_is_drawn_and_a_place_that_cannot_be_written_is_named(built: Journey, tmp_path: Path) -> None:
    done = built.edgewright("optimize", MODEL, "--class", PI, "--plot", str(tmp_path / "pareto.png"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "pareto.png").read_bytes().startswith(b"\x89PNG")
    done = built.edgewright("optimize", MODEL, "--class", PI, "--plot", str(tmp_path / "no" / "where.png"))
    assert done.returncode == 3
    assert "cannot write" in done.stderr


def test_a_missing_target_names_the_command_that_mends_it(tmp_path: Path) -> None:
    journey = Journey.start(tmp_path)
    done = journey.edgewright("optimize", MODEL, "--class", PI, EDGEWRIGHT_TARGETS=str(tmp_path / "empty"))
    assert done.returncode == 3
    assert "edgewright targets provision --arch arm64" in done.stderr


def test_a_users_own_onnx_file_goes_the_whole_path(tmp_path: Path) -> None:
    journey = Journey.start(tmp_path)
    folder = journey.fleet / "models" / MODEL
    model = load_fleet(ROOT).models[MODEL]
    with repeatable(seed=0):
        network = restore(
            ModelCode(folder), dump(model.network), (folder / "weights.safetensors").read_bytes()
        )
        data = to_bytes(export(network, dump(model.signature)))
    for file in (
        "network.py",
        "train.py",
        "weights.safetensors",
    ):  # all that is left is the file and its data
        (folder / file).unlink()
    (folder / "digits.onnx").write_bytes(data)
    text = (folder / "model.yaml").read_text()
    head, tail = text[: text.index("network:")], text[text.index("signature:") :]
    origin = (
        f'checkpoint:\n  path: digits.onnx\n  sha256: "{hashlib.sha256(data).hexdigest()}"\nclasses: [{PI}]\n'
    )
    (folder / "model.yaml").write_text(head + origin + tail)
    assert journey.edgewright("keys", "init").returncode == 0
    done = journey.edgewright("run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"optimized · {PI}" in done.stdout
    assert "static-int8 U8S8" in done.stdout
    assert (journey.layouts / MODEL / "index.json").exists()


def meter(hardware_class: str, inputs: np.ndarray, **changes: Any) -> TargetMeter:
    document = dump(Sheet.of(load_fleet(ROOT).hardware[hardware_class]))
    for section, values in changes.items():
        document[section] = {**document[section], **values}
    return TargetMeter.open(Sheet.read(document), targets_cache(), {"x": inputs}, remember=False)


def test_a_candidate_that_saturates_on_its_class_is_seen_before_it_is_chosen() -> None:
    case = models.saturating()
    found = meter(
        "intel-lowpower-detector", case.x, emulation={"cpu": "Haswell"}, cpu={"isa": ["sse4.2", "avx2"]}
    ).measure(case.model, "int8")
    assert "answers otherwise on" in found.disagrees
    assert meter(PI, case.x).measure(case.model, "int8").disagrees == ""


def test_a_meter_says_the_same_every_time() -> None:
    case = models.relu()
    once, again = (meter(PI, case.x).measure(case.model, "fp32") for _ in range(2))
    assert once == again
    assert once.instructions > 0
    assert once.latency_ms["low"] < once.latency_ms["value"] < once.latency_ms["high"]


def test_a_model_the_target_cannot_load_is_a_named_failure() -> None:
    case = models.relu()
    model = onnx.load_model_from_string(case.model)
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(BuildError, match="cortex-a72: (operator-missing|model-invalid): "):
        meter(PI, case.x).measure(model.SerializeToString(), "fp32")


def test_answers_are_compared_in_decibels() -> None:
    here = np.array([[1.0, 2.0]], np.float32)
    assert agreement_db(here, here) == float("inf")
    assert agreement_db(here, here * 0.9) == pytest.approx(20.0, abs=0.01)
    assert agreement_db(here, np.array([[np.nan, 2.0]], np.float32)) == -float("inf")
    assert agreement_db(here, here[:, :1]) == -float("inf")
