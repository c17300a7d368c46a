"""What emulated targets cost: to fetch, to gate a model of MobileNet's size, and again. Prints; asserts no time.

$ make bench
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from benchmarks.mobilenet import images, int8_mobilenet
from edgewright.bench.benchmark import benchmark, document
from edgewright.bench.target.observe import Memo
from edgewright.bench.target.provision import provision
from edgewright.build.golden import golden_document
from edgewright.build.samples import Network, Samples
from edgewright.plan.job import Job
from edgewright.plan.slices import dump
from edgewright.spec.hardware import Sheet
from edgewright.spec.load import load_fleet
from real import ROOT, require_target

PI = "raspberry-pi-4"
DATA = """
from benchmarks.mobilenet import images

def test():
    return {"image": images(48, 2)}, __import__("numpy").arange(48) % 1000
"""
SIGNATURE = {
    "inputs": [{"name": "image", "dtype": "float32", "shape": ["batch", 3, 224, 224]}],
    "outputs": [{"name": "logits", "dtype": "float32", "shape": ["batch", 1000]}],
}


class _Silent:
    def step(self, what: str, total_bytes: int | None = None) -> None: ...

    def advance(self, done_bytes: int) -> None: ...


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long something took, by the clock and in CPU seconds of everything it started."""

    def cpu_s() -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(usage.ru_utime + usage.ru_stime for usage in used)

    wall, cpu = time.monotonic(), cpu_s()
    yield
    print(f"\n{what:58} {time.monotonic() - wall:7.1f} s wall  {cpu_s() - cpu:7.1f} CPU-s", end="")


def lane(folder: Path) -> Job:
    """A lane of MobileNetV2 on the class raspberry-pi-4."""
    code = folder / "models" / "mobilenet"
    code.mkdir(parents=True)
    (code / "data.py").write_text(DATA)
    model = int8_mobilenet()
    network = Network(model)
    inputs = {"image": images(8, 2)}
    samples = Samples("noise", inputs, np.zeros(8, int))
    asked = {"samples": 8, "atol": 0.05, "rtol": 0.05}
    golden = golden_document(network, model, samples, network.run(inputs, batch=1), asked)
    hardware = load_fleet(ROOT).hardware[PI]
    runtime = {**dump(hardware.runtime), "version": 1, "precision": "int8"}
    files = {}
    for name, data in (
        ("optimized/model.onnx", model),
        ("optimized/runtime.json", json.dumps(runtime).encode()),
        ("evaluated/golden.json", json.dumps(golden).encode()),
    ):
        files[name] = folder / Path(name).name
        files[name].write_bytes(data)
    spec = {
        "hardware": dump(Sheet.of(hardware)),
        "model": {
            "signature": SIGNATURE,
            "data": {"test": "data:test"},
            "workload": {"arrival": "periodic", "rate": 2.0, "queue": 2},
        },
    }
    return Job(folder, "mobilenet", PI, spec, files, folder)


def test_provisioning(tmp_path: Path) -> None:
    with timed("edgewright targets provision --arch arm64, nothing there"):
        made = provision("arm64", tmp_path / "targets", _Silent())
    print(f"\n{'':58} {made.document['bytes'] / 1e6:7.1f} MB", end="")
    with timed("the same again"):
        provision("arm64", tmp_path / "targets", _Silent())
    print()


def test_a_model_of_mobilenets_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require_target("arm64")
    job, memo = lane(tmp_path), Memo(tmp_path / "memo")
    print(
        f"\nMobileNetV2 224 × 224, int8, {job.inputs['optimized/model.onnx'].stat().st_size / 1e6:.1f} MB",
        end="",
    )
    with timed(f"benchmarked on {PI}, every figure of the gate"):
        found = document(job, benchmark(job, memo))
    with timed("the same again, from the memo"):
        again = document(job, benchmark(job, memo))
    assert again == found
    functional, timing = found["functional"], found["timing"]
    print(
        f"\n{functional['target']}, {functional['engine']}: {functional['verdict']}, same answer as here for"
        f" {functional['agreement']:.1%} of {functional['samples']} samples"
        f"\n{found['counts']['perInference']['instructions']:,} instructions per inference,"
        f" latency {timing['latencyMs']} ms, {found['calibration']}"
    )


def test_native_beside_emulated(tmp_path: Path) -> None:
    model = int8_mobilenet()
    network = Network(model)
    inputs = {"image": images(43, 2)}
    with timed("the same 43 inferences on this machine's own processor"):
        network.run(inputs, batch=1)
    print()
