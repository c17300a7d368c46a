from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edgewright.cli.baseline import command, table
from edgewright.errors import BuildError, SpecError
from edgewright.plan.baseline import LaneCost
from edgewright.plan.cache import Cache
from edgewright.plan.lane import Lane
from edgewright.spec.baseline import ClassBaseline
from edgewright.spec.load import load_fleet
from unit.plan.filled import fail, fill

PI = "raspberry-pi-4"
FILE = "baselines/digit-reader.yaml"


@pytest.fixture
def fleet(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    keys = workspace / ".edgewright" / "keys"
    keys.mkdir(parents=True)
    (keys / "signing.pub").write_text("public key")
    monkeypatch.setenv("EDGEWRIGHT_CACHE", str(workspace / "cache"))
    return workspace


def publish(fleet: Path, *failing: str) -> None:
    fill(load_fleet(fleet), Cache(fleet / "cache"), fleet / "scratch", frozenset(failing))


def run(fleet: Path, *arguments: str) -> Result:
    return CliRunner().invoke(command, ["--root", str(fleet), *arguments])


def entry(*, engine: str = "onnxruntime 1.31.1", load: int = 50_000_000, inference: int = 400_000) -> Any:
    return ClassBaseline.model_validate(
        {
            "hardwareClass": PI,
            "modelVersion": "1.0.0",
            "artifact": "sha256:" + "a" * 64,
            "target": "some core",
            "engine": engine,
            "instructions": {"load": load, "inference": inference},
        }
    )


def shown(**lane: Any) -> list[str]:
    """The two rows of one lane, spaces between columns as bars."""
    lines = table([LaneCost(**{"lane": Lane("digit-reader", PI), "state": "published", **lane})]).splitlines()
    return ["|".join(re.split(r"  +", line)) for line in lines[1:]]


def test_a_table_tells_baseline_now_and_change() -> None:
    assert shown(then=entry(), now=entry(load=50_500_000, inference=399_900)) == [
        f"digit-reader|{PI}|load|50,000,000|50,500,000|+1.00 %",
        f"digit-reader|{PI}|inference|400,000|399,900|-0.03 %",
    ]


def test_a_count_that_repeats_to_the_last_instruction_is_told_from_one_that_nearly_does() -> None:
    rows = shown(then=entry(), now=entry(load=50_000_001))
    assert [row.rpartition("|")[2] for row in rows] == ["+0.00 %", "0 %"]


@pytest.mark.parametrize(
    ("lane", "remark"),
    [
        ({"then": None, "now": entry()}, "no baseline"),
        (
            {"then": entry(engine="onnxruntime 1.30.0"), "now": entry()},
            "not comparable: it was counted with onnxruntime 1.30.0, this with onnxruntime 1.31.1",
        ),
        ({"then": entry(), "now": None, "state": "waiting"}, "not published: edgewright run"),
        ({"then": entry(), "now": None}, "its benchmark has no instruction counts"),
    ],
)
def test_what_cannot_be_compared_says_why(lane: dict[str, Any], remark: str) -> None:
    first, second = shown(**lane)
    assert first.endswith(f"–|{remark}")
    assert second.endswith("–")


def test_a_blocked_lane_says_what_holds_it() -> None:
    first, _ = shown(then=entry(), now=entry(), state="blocked", cause="load-time 3 s misses 2 s")
    assert first.endswith("0 %|blocked: load-time 3 s misses 2 s")


def test_what_is_published_is_written_once_and_then_is_as_it_was(fleet: Path) -> None:
    publish(fleet)
    assert "Next: edgewright baseline --write" in run(fleet).stdout
    first = run(fleet, "--write")
    assert first.exit_code == 0, first.output
    assert f"{FILE} written" in first.stdout
    assert "Next: review and commit; edgewright run" in first.stdout
    baseline = load_fleet(fleet).baselines["digit-reader"]
    assert [found.hardware_class for found in baseline.classes] == sorted(load_fleet(fleet).hardware)
    content = (fleet / FILE).read_bytes()
    publish(fleet)  # the gate may have had to look again
    again = run(fleet, "--write")
    assert f"{FILE} is as it was" in again.stdout
    assert (fleet / FILE).read_bytes() == content
    assert "The baseline is what is published." in run(fleet).stdout


def test_a_blocked_lane_is_never_written(fleet: Path) -> None:
    publish(fleet, PI)
    ran = run(fleet, "--write")
    assert (
        f"digit-reader on {PI} gets no baseline: blocked by its gate (latency-p95 50 ms misses" in ran.stdout
    )
    assert load_fleet(fleet).baseline_of("digit-reader", PI) is None
    assert load_fleet(fleet).baseline_of("digit-reader", "medical-cart-cpu") is not None


def test_growth_is_accepted_for_the_named_model_and_said(fleet: Path) -> None:
    publish(fleet, PI)
    fail(fleet, Lane("digit-reader", PI), "regression-inference")
    assert "If that growth is wanted: edgewright baseline digit-reader --accept" in run(fleet).stdout
    run(fleet, "--write")
    assert load_fleet(fleet).baseline_of("digit-reader", PI) is None
    ran = run(fleet, "digit-reader", "--accept")
    assert f"accepted: digit-reader on {PI}" in ran.stdout
    assert load_fleet(fleet).baseline_of("digit-reader", PI) is not None
    assert load_fleet(fleet).baseline_of("vibration-monitor", PI) is None


def test_growth_is_accepted_by_name_only(fleet: Path) -> None:
    ran = run(fleet, "--accept")
    assert ran.exit_code != 0
    assert "name the MODEL whose regression is accepted" in ran.stderr
    assert not (fleet / "baselines").exists()


def test_one_model_can_be_chosen(fleet: Path) -> None:
    publish(fleet)
    ran = run(fleet, "vibration-monitor", "--write")
    assert "digit-reader" not in ran.stdout
    assert [file.name for file in (fleet / "baselines").iterdir()] == ["vibration-monitor.yaml"]


def test_machines_get_json(fleet: Path) -> None:
    publish(fleet)
    answer = json.loads(run(fleet, "digit-reader", "--write", "--json").stdout)
    assert answer["files"] == [{"file": FILE, "changed": True}]
    lane = answer["lanes"][-1]
    assert (lane["hardwareClass"], lane["state"], lane["baseline"], lane["change"]) == (
        PI, "published", None, None,
    )  # fmt: skip
    assert lane["now"]["instructions"] == {"load": 50_000_000, "inference": 400_000}
    lane = json.loads(run(fleet, "digit-reader", "--json").stdout)["lanes"][-1]
    assert lane["change"] == {"load": 0.0, "inference": 0.0}


def test_nothing_published_is_an_error_that_says_what_publishes(fleet: Path) -> None:
    ran = run(fleet, "--write")
    assert isinstance(ran.exception, BuildError)
    assert ran.exception.hint == "edgewright run"
    assert not (fleet / "baselines").exists()


def test_a_wrong_model_is_answered_with_the_right_one(fleet: Path) -> None:
    ran = run(fleet, "digit-raeder")
    assert isinstance(ran.exception, SpecError)
    assert (str(ran.exception), ran.exception.hint) == (
        "there is no model 'digit-raeder'",
        "did you mean 'digit-reader'?",
    )
