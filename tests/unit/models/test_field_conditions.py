"""The conditions the shipped models declare: their figures are those of the README, their floors keep a margin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgewright.bench.conditions import conditions_report
from edgewright.build.checkpoint import restore
from edgewright.build.entry import ModelCode
from edgewright.build.metric import metric
from edgewright.build.samples import Samples, load
from edgewright.plan.slices import dump
from edgewright.spec.load import load_fleet
from edgewright.spec.model import Model
from real import ROOT

MARGIN = 0.02  # by which no draw of chance and no other rounding comes near a floor
DRAWS = 4
MODELS = ["bearing-anomaly", "digit-reader", "part-inspector", "vibration-monitor"]


@dataclass(frozen=True)
class Torch:
    """The fp32 network as it was trained."""

    network: torch.nn.Module

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        (signal,) = inputs.values()
        with torch.no_grad():  # in parts, as activations of all samples at once are slow to allocate
            parts = [self.network(part) for part in torch.from_numpy(signal).split(64)]
        return {"output": torch.cat(parts).numpy()}


def shipped(name: str) -> tuple[Path, Model, Torch, Samples]:
    folder = ROOT / "models" / name
    model = load_fleet(ROOT).models[name]
    assert model.checkpoint is not None and model.checkpoint.path is not None
    code = ModelCode(folder)
    network = restore(code, dump(model.network), (folder / model.checkpoint.path).read_bytes())
    return folder, model, Torch(network), load(code, model.data.test, dump(model.signature))


@pytest.mark.parametrize("name", MODELS)
def test_the_readme_shows_the_figures_of_every_condition_and_its_floor(name: str) -> None:
    folder, model, network, held_out = shipped(name)
    document = conditions_report(
        network, held_out, dump(model)["conditions"], measured=metric(model.metric.name)
    )
    rows = rows_of(folder / "README.md")
    assert rows.pop("clean")[2:] == (f"{document['clean']:.4f}", f"{model.metric.floor:.2f}")
    for entry, condition in zip(document["conditions"], model.conditions, strict=True):
        assert rows.pop(f"`{entry['name']}`")[2:] == (f"{entry['value']:.4f}", f"{condition.floor:.2f}")
    assert not rows


@pytest.mark.parametrize("name", MODELS)
def test_no_draw_of_chance_comes_near_a_floor(name: str) -> None:
    _, model, network, held_out = shipped(name)
    measured = metric(model.metric.name)
    conditions = dump(model)["conditions"]
    assert 2 <= len(conditions) <= 3
    drops = dict.fromkeys((condition["name"] for condition in conditions), 0.0)
    for seed in range(DRAWS):
        document = conditions_report(network, held_out, conditions, seed, measured=measured)
        for entry, condition in zip(document["conditions"], conditions, strict=True):
            assert entry["value"] >= condition["floor"] + MARGIN, (entry, seed)
            drops[entry["name"]] += entry["drop"] / DRAWS
    assert min(drops.values()) > 0.005, "a condition that costs nothing warns of nothing"


def rows_of(readme: Path) -> dict[str, Any]:
    """Condition → (name, what it stands for, fp32, floor) of the table of conditions."""
    section = readme.read_text().partition("## Field conditions")[2]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    return {row[0]: (row[0], row[1], row[2], row[-1]) for row in cells}
