"""What a plan says must be true and fit where it is shown: a line of a terminal, a cell of a pull request's table."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgewright.plan.cache import Cache
from edgewright.plan.history import History, line_of
from edgewright.plan.lane import StepId
from edgewright.plan.render import conclusion, markdown
from edgewright.plan.resolve import Plan, resolve
from edgewright.spec.load import load_fleet

from .filled import fill

MODEL = "digit-reader"
PI = "raspberry-pi-4"
MODEL_FILE = f"models/{MODEL}/model.yaml"


@pytest.fixture
def fleet(workspace: Path) -> Path:
    keys = workspace / ".edgewright" / "keys"
    keys.mkdir(parents=True)
    (keys / "signing.pub").write_text("public key")
    return workspace


def fill_and_remember(fleet: Path, failing: frozenset[str] = frozenset()) -> None:
    cache = Cache(fleet / "cache")
    fill(load_fleet(fleet), cache, fleet / "scratch", failing)
    History(fleet).remember(resolve(load_fleet(fleet), cache).records)


def plan(fleet: Path) -> Plan:
    return resolve(load_fleet(fleet), Cache(fleet / "cache"), history=History(fleet))


def edit(file: Path, old: str, new: str) -> int:
    """Replace one text and return the number of its line."""
    before, found, after = file.read_text().partition(old)
    assert found
    file.write_text(before + new + after)
    return before.count("\n") + 1


def cause(fleet: Path, stage: str) -> str:
    return plan(fleet).step(StepId(stage, MODEL, PI)).cause


def test_a_model_whose_lanes_are_all_blocked_counts_its_lanes_and_not_its_index(fleet: Path) -> None:
    fill_and_remember(fleet, frozenset(load_fleet(fleet).hardware))
    lanes = len(load_fleet(fleet).lanes())
    assert f"; {lanes} blocked by a gate" in conclusion(plan(fleet))


def test_a_changed_description_is_found_in_the_model_not_in_the_sheet(fleet: Path) -> None:
    fill_and_remember(fleet)
    line = edit(fleet / MODEL_FILE, "description: >-\n  Reads", "description: >-\n  Now reads")
    assert cause(fleet, "packaged").startswith(f"{MODEL_FILE}:{line} description: Reads one")


def test_a_limit_that_the_model_narrows_is_found_where_the_model_says_so(fleet: Path) -> None:
    fill_and_remember(fleet)
    edit(fleet / MODEL_FILE, "p95: 20ms", "p95: 19ms")
    text = (fleet / MODEL_FILE).read_text()
    line = text[: text.index("p95: 19ms")].count("\n") + 1
    assert cause(fleet, "optimized") == f"{MODEL_FILE}:{line} limits.latency.p95: 20 → 19"


def test_a_limit_of_the_sheet_is_found_in_the_sheet(fleet: Path) -> None:
    fill_and_remember(fleet)
    line = edit(fleet / "hardware" / f"{PI}.yaml", "artifactSize: 32MB", "artifactSize: 31MB")
    assert cause(fleet, "optimized").startswith(f"hardware/{PI}.yaml:{line} limits.artifactSize: ")


def test_a_limit_left_to_its_default_is_found_where_it_would_stand(fleet: Path) -> None:
    sheet = f"hardware/{PI}.yaml"
    text = (fleet / sheet).read_text()
    line = text[: text.index("\nlimits:")].count("\n") + 2
    assert line_of(load_fleet(fleet), f"{sheet}#limits.regression") == f"{sheet}:{line}, by default"
    assert (
        line_of(load_fleet(fleet), "hardware/gone.yaml#limits.regression")
        == "hardware/gone.yaml#limits.regression"
    )


def test_words_of_the_yaml_stay_words_in_a_pull_request(fleet: Path) -> None:
    fill_and_remember(fleet)
    edit(fleet / MODEL_FILE, "description: >-\n  Reads", "description: |-\n  A | b\n\n  @all #1 <img> Reads")
    table = [line for line in markdown(load_fleet(fleet), plan(fleet)).splitlines() if PI in line]
    assert len(table) == 1, "one row, whatever line ends the text has"
    assert r"A \| b @" in table[0]
    assert "@all" not in table[0]
    assert "#1" not in table[0]
    assert " <img" not in table[0]
