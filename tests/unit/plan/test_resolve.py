from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from edgewright.plan.action import Action
from edgewright.plan.cache import Cache
from edgewright.plan.history import History, explain
from edgewright.plan.lane import Lane, StepId, lanes
from edgewright.plan.published import blocked_lanes, published_lanes
from edgewright.plan.resolve import before, resolve
from edgewright.plan.slices import dump, recipient_files
from edgewright.plan.stage import LANE_STAGES
from edgewright.spec.limits import limit_sources
from edgewright.spec.load import load_fleet
from unit.agent.core.sealing import make_key, write_public

from .filled import fill, replace

PI = "raspberry-pi-4"


@pytest.fixture
def fleet(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    keys = workspace / ".edgewright" / "keys"
    keys.mkdir(parents=True)
    (keys / "signing.pub").write_text("public key")
    monkeypatch.setenv("EDGEWRIGHT_CACHE", str(workspace / "cache"))
    return workspace


def filled(fleet: Path, failing: frozenset[str] = frozenset()) -> Cache:
    cache = Cache(fleet / "cache")
    fill(load_fleet(fleet), cache, fleet / "scratch", failing)
    return cache


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def line_with(file: Path, word: str) -> tuple[int, str]:
    return next((n, text) for n, text in enumerate(file.read_text().splitlines(), 1) if word in text)


def test_every_model_meets_every_class(fleet: Path) -> None:
    workspace = load_fleet(fleet)
    assert list(lanes(workspace)) == [
        Lane(model, name) for model in sorted(workspace.models) for name in sorted(workspace.hardware)
    ]


def test_an_empty_cache_means_everything_runs(fleet: Path) -> None:
    plan = resolve(load_fleet(fleet), Cache(fleet / "cache"))
    assert plan.to_run == plan.steps
    assert plan.steps[0].cause == "first build"


def test_a_full_cache_means_nothing_runs(fleet: Path) -> None:
    assert resolve(load_fleet(fleet), filled(fleet)).to_run == ()


def test_one_edited_hardware_file_runs_only_its_own_lanes_and_the_indexes(fleet: Path) -> None:
    cache = filled(fleet)
    file = fleet / "hardware" / f"{PI}.yaml"
    _, line = line_with(file, "threads:")
    edit(file, line, line.split(":")[0] + ": 1")
    steps = {step.id for step in resolve(load_fleet(fleet), cache).to_run}
    assert {step.hardware_class for step in steps if step.stage != "index"} == {PI}
    assert {step.stage for step in steps if step.hardware_class} == set(LANE_STAGES) - {"exported"}


def test_a_changed_limit_judges_again_without_measuring_again(fleet: Path) -> None:
    cache = filled(fleet)
    file = fleet / "hardware" / f"{PI}.yaml"
    _, line = line_with(file, "artifactSize:")
    edit(file, line, line.split(":")[0] + ": 31MB")
    assert {step.id.stage for step in resolve(load_fleet(fleet), cache).to_run if not step.after} == {
        "optimized"
    }
    again = {step.stage for step in fill(load_fleet(fleet), cache, fleet / "scratch")}
    assert again == {"optimized", "gated"}  # the same verdict is signed already


def test_a_comment_changes_nothing(fleet: Path) -> None:
    cache = filled(fleet)
    for file in [*fleet.glob("hardware/*.yaml"), *fleet.glob("models/*/model.yaml"), fleet / "fleet.yaml"]:
        file.write_text("# a remark\n" + file.read_text())
    assert resolve(load_fleet(fleet), cache).to_run == ()


def test_the_cause_names_the_yaml_line_and_both_values(fleet: Path) -> None:
    workspace = load_fleet(fleet)
    cache = filled(fleet)
    history = History(fleet)
    history.remember(resolve(workspace, cache).records)
    file = fleet / "hardware" / f"{PI}.yaml"
    number, line = line_with(file, "threads:")
    edit(file, line, line.split(":")[0] + ": 1")
    plan = resolve(load_fleet(fleet), cache, history=History(fleet))
    cause = plan.step(StepId("searched", "digit-reader", PI)).cause
    assert cause.startswith(f"hardware/{PI}.yaml:{number} runtime.threads: ")
    assert cause.endswith(" → 1")


def test_a_replaced_recipient_packages_again_and_is_named_as_the_cause(fleet: Path) -> None:
    file = fleet / "hardware" / f"{PI}.yaml"
    write_public(fleet / "keys/pi.pub", make_key())
    write_public(fleet / "keys/spare.pub", make_key())
    file.write_text(
        file.read_text() + "encryption:\n  recipients:\n    - keys/pi.pub\n    - keys/spare.pub\n"
    )
    lane = StepId("packaged", "digit-reader", PI)

    def cause_of_next_run() -> str:
        history = History(fleet)
        step = resolve(load_fleet(fleet), cache, history=history).step(lane)
        fill(load_fleet(fleet), cache, fleet / "scratch")
        history.remember(resolve(load_fleet(fleet), cache).records)
        return step.cause

    cache = filled(fleet)
    cause_of_next_run()
    assert recipient_files(load_fleet(fleet)) == ["keys/pi.pub", "keys/spare.pub"]
    edit(file, "  recipients:", "  default: true\n  recipients:")
    number, _ = line_with(file, "default: true")
    began = cause_of_next_run()
    assert began.startswith(f"hardware/{PI}.yaml:{number} encryption: absent → {{recipients: [keys/")
    assert "'" not in began  # words of the YAML, not of Python
    write_public(fleet / "keys/spare.pub", make_key())
    number, _ = line_with(file, "keys/spare.pub")
    cause = cause_of_next_run()
    assert cause.startswith(f"hardware/{PI}.yaml:{number} encryption.recipients.keys/spare.pub.sha256: ")
    write_public(fleet / "keys/pi.pub", make_key())
    model = fleet / "models/digit-reader/model.yaml"
    model.write_text(model.read_text() + "encrypt: false\n")
    assert cause_of_next_run() == "", "that is the artifact of before, which is at hand"


def test_the_cause_in_a_list_of_named_items_names_the_item_and_its_line(fleet: Path) -> None:
    cache = filled(fleet)
    history = History(fleet)
    history.remember(resolve(load_fleet(fleet), cache).records)
    file = fleet / "models" / "digit-reader" / "model.yaml"
    number, _ = line_with(file, "shape: [batch, 1, 8, 8]")
    edit(file, "shape: [batch, 1, 8, 8]", "shape: [batch, 1, 8, 9]")
    cause = resolve(load_fleet(fleet), cache, history=History(fleet)).step(
        StepId("exported", "digit-reader", PI)
    )
    assert cause.cause == (
        f"models/digit-reader/model.yaml:{number} signature.inputs.image.shape:"
        " [batch, 1, 8, 8] → [batch, 1, 8, 9]"
    )


@pytest.mark.parametrize(
    ("was", "said"),
    [
        ({"gain": 0.5}, "{line:gain} conditions.dim-light.gain: 0.5 → 0.7"),
        ({"floor": 0.5}, "{line:floor} conditions.dim-light.floor: 0.5 → 0.93"),
        ({"dropped": 1.0}, "conditions.dim-light.dropped: 1 → absent"),
    ],
)
def test_the_cause_of_a_changed_condition_is_its_own_line(
    fleet: Path, was: dict[str, Any], said: str
) -> None:
    workspace = load_fleet(fleet)
    model = workspace.models["digit-reader"]
    now = {"conditions": dump(model)["conditions"], "sources": limit_sources(model, "digit-reader", PI)}
    before = {**now, "conditions": [{**now["conditions"][0], **was}, *now["conditions"][1:]]}
    parts = {"stageVersion": 1, "spec": now, "inputs": {}, "tools": {}}
    step = StepId("gated", "digit-reader", PI)
    cause = explain(workspace, Action(step, "key", parts, {}), {**parts, "spec": before})
    file = "models/digit-reader/model.yaml"
    first = line_with(fleet / file, "name: dim-light")[0]
    lines = {"gain": f"{file}:{first + 1}", "floor": f"{file}:{first + 4}"}
    assert cause == re.sub(r"{line:(\w+)}", lambda found: lines[found[1]], said)


def test_a_failed_gate_blocks_its_lane_and_the_index_goes_on_without_it(fleet: Path) -> None:
    cache = filled(fleet, failing=frozenset({PI}))
    plan = resolve(load_fleet(fleet), cache)
    number, _ = line_with(fleet / "hardware" / f"{PI}.yaml", "p95:")
    step = plan.step(StepId("signed", "digit-reader", PI))
    assert step.state == "blocked"
    assert step.cause == f"latency-p95 50 ms misses 40 ms (hardware/{PI}.yaml:{number})"
    assert plan.step(StepId("published", "digit-reader", PI)).state == "blocked"
    assert plan.step(StepId("index", "digit-reader")).state == "cached"
    assert plan.to_run == ()


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        (0.9326, "accuracy-floor 93.26 % misses 95.00 % ({place}): 800 samples"),
        (None, "accuracy-floor: 800 samples"),
    ],
)
def test_a_blocked_lane_tells_the_figure_and_what_it_is_of(
    fleet: Path, measured: float | None, said: str
) -> None:
    filled(fleet)
    check = {
        "name": "accuracy-floor", "measured": measured, "limit": 0.95, "unit": "ratio", "verdict": "fail",
        "source": "models/digit-reader/model.yaml#metric.floor", "detail": "800 samples",
    }  # fmt: skip
    lane = Lane("digit-reader", PI)
    replace(fleet, lane, "gated", "gate-report.json", {"verdict": "fail", "checks": [check]})
    plan = resolve(load_fleet(fleet), Cache(fleet / "cache"))
    number = line_with(fleet / "models/digit-reader/model.yaml", "floor: 0.96")[0]
    place = f"models/digit-reader/model.yaml:{number}"
    assert plan.step(StepId("signed", "digit-reader", PI)).cause == said.format(place=place)


def test_a_model_whose_every_lane_is_blocked_has_no_index(fleet: Path) -> None:
    workspace = load_fleet(fleet)
    plan = resolve(workspace, filled(fleet, failing=frozenset(workspace.hardware)))
    assert plan.step(StepId("index", "digit-reader")).state == "blocked"


def test_only_lanes_that_passed_are_offered_to_a_release(fleet: Path) -> None:
    workspace = load_fleet(fleet)
    plan = resolve(workspace, filled(fleet, failing=frozenset({PI})))
    found = published_lanes(workspace, plan)["digit-reader"]
    assert PI not in found
    assert "medical-cart-cpu" in found
    assert set(blocked_lanes(plan)) == {(name, PI) for name in workspace.models}


def test_before_lists_every_step_that_is_needed_and_no_other(fleet: Path) -> None:
    steps = before(load_fleet(fleet), StepId("evaluated", "digit-reader", PI))
    assert [str(step) for step in steps] == [
        "digit-reader/checkpoint",
        "digit-reader/variants",
        f"digit-reader/exported/{PI}",
        f"digit-reader/searched/{PI}",
        f"digit-reader/optimized/{PI}",
    ]


def test_a_data_file_beside_a_model_is_part_of_what_its_code_reads(fleet: Path) -> None:
    cache = filled(fleet)
    (fleet / "models" / "digit-reader" / "extra.csv").write_text("1,2\n")
    steps = {step.id for step in resolve(load_fleet(fleet), cache).to_run}
    assert {step.model for step in steps} == {"digit-reader"}
    assert StepId("evaluated", "digit-reader", PI) in steps


def test_a_readme_beside_a_model_is_not(fleet: Path) -> None:
    cache = filled(fleet)
    (fleet / "models" / "digit-reader" / "README.md").write_text("Words.\n")
    assert resolve(load_fleet(fleet), cache).to_run == ()


@pytest.mark.parametrize("text", ["", "[]", "null", "3"])
def test_a_damaged_history_costs_explanations_and_nothing_else(fleet: Path, text: str) -> None:
    state = fleet / ".edgewright" / "state" / "steps.json"
    state.parent.mkdir(parents=True)
    state.write_text(text)
    cache = Cache(fleet / "cache")
    history = History(fleet)
    assert all(step.cause for step in resolve(load_fleet(fleet), cache, history=history).to_run)
    history.remember(resolve(load_fleet(fleet), filled(fleet)).records)
    assert StepId("gated", "digit-reader", PI) in {
        step for step in resolve(load_fleet(fleet), cache).records if History(fleet).parts(step, cache)
    }


def test_code_that_models_share_through_a_link_is_part_of_what_they_read(fleet: Path) -> None:
    shared = fleet / "shared"
    shared.mkdir()
    (shared / "filters.py").write_text("CUTOFF = 1\n")
    (fleet / "models" / "digit-reader" / "shared").symlink_to(shared)
    cache = filled(fleet)
    (shared / "filters.py").write_text("CUTOFF = 2\n")
    to_run = {step.id for step in resolve(load_fleet(fleet), cache).to_run}
    assert StepId("evaluated", "digit-reader", PI) in to_run


def test_a_large_data_file_is_read_once_however_many_lanes_there_are(
    fleet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = fleet / "models" / "digit-reader" / "samples.bin"
    data.write_bytes(b"0" * 1000)
    opened: list[str] = []
    really = Path.open

    def watched(path: Path, *args: Any, **kwargs: Any) -> Any:
        opened.append(path.name)
        return really(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", watched)
    filled(fleet)
    assert opened.count("samples.bin") == 1
