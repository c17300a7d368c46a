"""The fleet that `edgewright demo` plays with: a part of the repository's own, and valid."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgewright.cli.demo import _CAST, CLASSES, MODELS, Stage, _copy_fleet, with_models
from edgewright.spec.load import load_fleet

ROOT = Path(__file__).parents[2]


def test_groups_keep_the_models_of_the_story_and_nothing_else() -> None:
    text = "models:\n  - model: seen # first\n  - model: seen-2\n      - model: other # why\n"
    assert with_models(text, {"seen", "seen-2"}) == "models:\n  - model: seen # first\n  - model: seen-2\n"


def test_the_fleet_of_the_demo_is_valid_and_everything_it_tells_about_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("EDGEWRIGHT_CACHE", "DAGSTER_HOME"):  # the demo sets them; the test gives them back
        monkeypatch.setenv(name, str(tmp_path))
    assert all((ROOT / name).is_file() for name in _CAST)
    stage = Stage(tmp_path, "http://127.0.0.1:5000")
    _copy_fleet(ROOT, stage)
    workspace = load_fleet(stage.fleet)
    assert sorted(workspace.models) == sorted(MODELS)
    assert sorted(workspace.hardware) == sorted(CLASSES)
    assert {entry.model for group in workspace.fleet.groups for entry in group.models} == set(MODELS)
    assert workspace.fleet.registry.url == "http://127.0.0.1:5000/edgewright"
