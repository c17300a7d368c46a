from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edgewright.bench.assessment import Assessment, Subject, under_load
from edgewright.bench.counting.counts import Counts
from edgewright.bench.counting.spans import ClassCounts
from edgewright.bench.functional import Functional
from edgewright.bench.gate import checks
from edgewright.bench.report import GateReport
from edgewright.bench.sample import Comparison
from edgewright.bench.timing import predict
from edgewright.cli.bench import command, table
from edgewright.errors import BuildError, SpecError
from edgewright.plan.lane import Lane, StepId
from edgewright.plan.slices import dump
from edgewright.plan.stage import STAGES
from edgewright.spec.hardware import Sheet
from edgewright.spec.load import Workspace, load_fleet
from real import ROOT

LANE = Lane("vibration-monitor", "raspberry-pi-4")
PER_INFERENCE = ClassCounts(500_000, {"loads": 100_000, "simdInt": 250_000, "scalar": 150_000})


def bearing(fleet: Workspace) -> dict[str, Any]:
    """What a model that loses nothing on any condition is reported with."""
    declared = STAGES["benchmarked"].reads(fleet, StepId("benchmarked", LANE.model, LANE.hardware_class))
    return {
        "clean": 0.98,
        "conditions": [
            {
                "name": condition["name"],
                "degradation": {key: value for key, value in condition.items() if key != "name"},
                "value": 0.98,
                "drop": 0.0,
            }
            for condition in declared["model"]["conditions"]
        ],
    }


def assessed(functional: Functional, *, counted: bool = True) -> str:
    """What the terminal shows of an assessment, colours taken away."""
    fleet = load_fleet(Path(ROOT))
    sheet = Sheet.of(fleet.hardware[LANE.hardware_class])
    counts = Counts(ClassCounts(20_000_000, {}), PER_INFERENCE, (500_000,), "some core") if counted else None
    timing = predict(counts, sheet, 4_000_000) if counts else None
    nowhere = Path("nowhere")
    spec = {"workload": dump(fleet.models[LANE.model].workload)}
    subject = Subject(LANE, sheet, spec, nowhere, nowhere, nowhere, nowhere)
    simulation = under_load(subject, timing) if timing else None
    found = Assessment(
        LANE,
        "int8",
        functional,
        counts,
        timing,
        simulation,
        2**20,
        bearing(fleet),
        notes=timing.notes if timing else (),
    )
    gated = STAGES["gated"].reads(fleet, StepId("gated", LANE.model, LANE.hardware_class))
    evaluation = {
        "metric": "accuracy",
        "value": 0.98,
        "low": 0.968,
        "high": 0.988,
        "fp32": {"value": 0.98},
        "drop": {"value": 0.0, "low": -0.005, "high": 0.005},
        "samples": 800,
    }
    report = GateReport(
        LANE.model,
        LANE.hardware_class,
        "1.0.0",
        "sha256:" + "0" * 64,
        found.calibration,
        checks(gated, evaluation, found.to_json(), 40_000),
    )
    with CliRunner().isolation():
        shown = table(fleet, found, report)
    for colour in ("\x1b[32m", "\x1b[31m", "\x1b[0m"):
        shown = shown.replace(colour, "")
    return shown


def test_a_table_tells_what_where_how_long_and_by_which_limit() -> None:
    works = Functional(
        target="some core",
        engine="onnxruntime 1.31.1",
        worst=0.0005,
        tolerance_used=0.05,
        compared=Comparison("accuracy", 0.97, 0.98, 0.01, 1 / 128, 0.99),
        samples=128,
    )
    lines = assessed(works).splitlines()
    assert lines[0].strip() == "vibration-monitor 1.0.0 on raspberry-pi-4, int8"
    shown = [" ".join(line.split()) for line in lines]
    for expected in (
        "ran on some core, onnxruntime 1.31.1",
        "golden outputs agree, the worst is off by 0.0005",
        "accuracy there 97.00 % of 128 samples, 98.00 % here, same answer for 99.00 %",
        "instructions 500,000 per inference, 20,000,000 to load",
        "simdInt 50%, scalar 30%, loads 20%",
        "latency 0.45 ms (0.338 ms to 0.562 ms), public-anchor",
        "start-up 118 ms (110 ms to 126 ms), public-anchor",
        "cycles per instruction 1.35, clock 1,500 MHz",
        "verdict pass",
    ):
        assert expected in shown
    assert any(line.startswith("load-time pass 126 ms ≤ 2,000 ms") for line in shown)
    assert "accuracy 98.00 % on 800 samples, 95 % interval 96.80 % to 98.80 %: the lower end counts" in shown
    assert any("hardware/raspberry-pi-4.yaml:" in line for line in shown)
    assert any(line.startswith("hot-settled 50 °C ") for line in shown)
    assert max(map(len, lines)) < 170


def test_a_failure_is_told_with_its_remedy_and_without_figures_it_has_not() -> None:
    broken = Functional(
        target="some core", failure="model-corrupt", message="no graph", advice=("build it anew",)
    )
    shown = [" ".join(line.split()) for line in assessed(broken, counted=False).splitlines()]
    assert "failed model-corrupt" in shown
    assert "target-outputs fail model-corrupt: no graph → build it anew" in shown
    assert "verdict fail" in shown
    assert not any(line.startswith(("latency ", "golden")) for line in shown)


def run(workspace: Path, *arguments: str) -> BaseException | None:
    return CliRunner().invoke(command, ["--root", str(workspace), *arguments]).exception


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (
            ("digit-raeder", "--class", "raspberry-pi-4"),
            "there is no model 'digit-raeder'",
            "here: bearing-anomaly, digit-reader, log-triage, part-inspector, vibration-monitor",
        ),
        (
            ("digit-reader", "--class", "raspberry"),
            "there is no hardware class 'raspberry'",
            "here: factory-gateway-gpu, intel-lowpower-detector, jetson-vision-standard, medical-cart-cpu,"
            " raspberry-pi-4",
        ),
    ],
)
def test_a_wrong_name_is_answered_with_the_right_ones(
    workspace: Path, arguments: tuple[str, ...], message: str, hint: str
) -> None:
    error = run(workspace, *arguments)
    assert isinstance(error, SpecError)
    assert (str(error), error.hint) == (message, hint)


def test_a_lane_that_is_not_built_says_which_command_builds_it(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEWRIGHT_CACHE", str(tmp_path / "empty"))
    error = run(workspace, "digit-reader", "--class", "raspberry-pi-4")
    assert isinstance(error, BuildError)
    assert str(error) == "digit-reader on raspberry-pi-4 is not built, or something it is made of has changed"
    assert error.hint == "edgewright run"
