from __future__ import annotations

from pathlib import Path

import pytest

from edgewright.spec.baseline import ClassBaseline
from edgewright.spec.load import load_fleet
from edgewright.spec.problem import InvalidSpec

FLEET = """\
version: 1
name: edge
registry:
  url: oci:dist/registry
groups:
  - name: line
    selector: {matchLabels: {line: inspection}}
    models:
      - model: reader
"""

SHEET = """\
version: 1
description: A board.
cpu: {arch: arm64, model: cortex-a72, cores: 4, clock: 1.5GHz, isa: [neon]}
memory: {total: 4GiB, forModels: 1GiB}
storage: {kind: sd, capacity: 32GB, read: 40MB/s, write: 15MB/s}
power: {budget: 15W, source: mains}
thermal: {cooling: passive, ambientMax: 50C, throttleAt: 80C}
connectivity: {mode: always}
runtime:
  versions: ">=1.20,<2"
  providers: [CPUExecutionProvider]
  threads: 2
precisions: [int8, fp32]
limits:
  artifactSize: 32MB
  loadTime: 2s
  latency:
    p95: 40ms
    p99: 60ms
  peakMemory: 256MiB
emulation: {method: qemu-user, cpu: cortex-a72}
updatePolicy:
  poll: {interval: 15m, maxBackoff: 6h}
  diskReserve: 1GB
"""

MODEL = """\
version: 1
modelVersion: 1.0.0
description: Reads.
license: Apache-2.0
network: {factory: "network:build"}
checkpoint:
  path: weights.safetensors
  sha256: "0000000000000000000000000000000000000000000000000000000000000000"
signature:
  inputs:
    - {name: image, shape: [batch, 1, 8, 8]}
  outputs:
    - {name: logits, shape: [batch, 2]}
labels: ["0", "1"]
data: {calibration: "data:calibration", selection: "data:selection", test: "data:test"}
metric: {floor: 0.9, maxDrop: 0.01}
"""


class Repository:
    """A small valid fleet on disk that tests break in one place."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("fleet.yaml", FLEET)
        self.write("hardware/board.yaml", SHEET)
        self.write("models/reader/model.yaml", MODEL)
        self.write("models/reader/network.py", "def build():\n    return None\n")
        self.write("models/reader/data.py", "def calibration(): ...\ndef selection(): ...\ndef test(): ...\n")
        self.write("models/reader/weights.safetensors", "weights")

    def write(self, name: str, text: str) -> None:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.root / name).read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {name}"
        self.write(name, text.replace(old, new))

    def append(self, name: str, text: str) -> None:
        self.write(name, (self.root / name).read_text(encoding="utf-8") + text)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


def problems_of(repository: Repository) -> list[str]:
    """Every problem as `file:line:col: message; suggestion`."""
    with pytest.raises(InvalidSpec) as caught:
        load_fleet(repository.root)
    return [problem.render().split("\n")[0] for problem in caught.value.problems]


def only(repository: Repository) -> str:
    problems = problems_of(repository)
    assert len(problems) == 1, problems
    return problems[0]


def entry(
    hardware_class: str = "board",
    *,
    target: str = "qemu-aarch64 7.2, cpu cortex-a72",
    engine: str = "onnxruntime 1.31.1",
    load: int = 45_123_456,
    inference: int = 345_108,
) -> ClassBaseline:
    """An entry of a baseline."""
    return ClassBaseline.model_validate(
        {
            "hardwareClass": hardware_class,
            "modelVersion": "1.0.0",
            "artifact": "sha256:" + "a" * 64,
            "target": target,
            "engine": engine,
            "instructions": {"load": load, "inference": inference},
        }
    )
