from __future__ import annotations

import hashlib

import pytest
import torch
import yaml

from edgewright.build.checkpoint import restore
from edgewright.build.entry import ModelCode
from real import ROOT


@pytest.mark.parametrize("name", ["digit-reader", "vibration-monitor"])
def test_the_committed_weights_are_those_the_yaml_names_and_are_worth_what_the_readme_says(name: str) -> None:
    folder = ROOT / "models" / name
    code = ModelCode(folder)
    spec = yaml.safe_load((folder / "model.yaml").read_text())
    weights = (folder / spec["checkpoint"]["path"]).read_bytes()
    assert hashlib.sha256(weights).hexdigest() == spec["checkpoint"]["sha256"]
    network = restore(code, spec["network"], weights)
    inputs, targets = code.call("data:test")
    signal = torch.from_numpy(inputs[spec["signature"]["inputs"][0]["name"]])
    with torch.no_grad():
        right = (network(signal).argmax(1).numpy() == targets).mean()
    assert f"accuracy    {right:.4f} on {len(targets)} held-out samples" in (folder / "README.md").read_text()
