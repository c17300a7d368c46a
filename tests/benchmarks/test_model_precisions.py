"""What each shipped model is worth in each precision: the metric on its test set, its size, and one inference.

    make bench PYTEST_ARGS='-k precisions'

Sizes and times are ratios to the fp32 model of the same run; times are the CPU time of one inference on this machine.
The figures are for people and for the READMEs of the models: nothing is chosen by them, the search has its own set.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from edgewright.build.canonical import to_bytes
from edgewright.build.checkpoint import restore
from edgewright.build.entry import ModelCode
from edgewright.build.export import export
from edgewright.build.metric import metric
from edgewright.build.passes.clean import clean
from edgewright.build.passes.dynamic_int8 import dynamic_int8
from edgewright.build.passes.static_int8 import calibrated
from edgewright.build.samples import Network, Samples, load
from edgewright.build.torch_mode import repeatable
from edgewright.errors import BuildError
from edgewright.plan.slices import dump
from edgewright.spec.load import load_fleet
from real import ROOT

STATIC: Mapping[str, Mapping[str, Any]] = {
    "static int8": {},
    "static int8, 7-bit weights": {"reduceRange": True},
    "static int8, compute only": {"operators": "compute"},
}


@dataclass(frozen=True)
class Shipped:
    """A model of this repository, exported, with its samples."""

    fp32: onnx.ModelProto
    calibration: Samples
    test: Samples
    metric: str

    def candidates(self) -> Iterator[tuple[str, bytes]]:
        """Yield each precision and its model; one that cannot be built is left out."""
        cleaned = clean(self.fp32)
        yield "fp32", to_bytes(self.fp32)
        for title, settings in STATIC.items():
            yield title, to_bytes(calibrated(self.fp32, self.calibration, settings))
        nodes = [node.op_type for node in cleaned.graph.node]
        if "Log" in nodes:  # a spectrogram: the range of its powers is more than 256 steps can hold
            front = [node.name for node in cleaned.graph.node][: nodes.index("Log")]
            title = f"static int8, {len(front)} nodes fp32"
            yield title, to_bytes(calibrated(self.fp32, self.calibration, {"keep": front}))
        try:
            yield "dynamic int8", to_bytes(dynamic_int8(cleaned, {}))
        except BuildError as error:
            print(f"  dynamic int8: {error}")


@pytest.mark.parametrize("name", sorted(load_fleet(ROOT).models))
def test_precisions_of_shipped_models(name: str) -> None:
    model = shipped(name)
    measured = metric(model.metric)
    reference = scores(to_bytes(model.fp32), model.test)
    size, cpu_ms = len(to_bytes(model.fp32)), inference_ms(to_bytes(model.fp32), model.test)
    print(
        f"\n{name}: {len(model.test)} test samples, fp32 {size:,} bytes, {cpu_ms:.3f} ms of CPU per inference"
    )
    for title, data in model.candidates():
        outputs = scores(data, model.test)
        if not np.isfinite(outputs).all():
            print(f"  {title:<28} is not finite")
            continue
        score = measured.score(outputs, model.test.targets, reference)
        print(
            f"  {title:<28} {measured.name} {score.value:.4f} ({score.low:.4f} to {score.high:.4f})"
            f"  size {len(data) / size:.3f}  time {inference_ms(data, model.test) / cpu_ms:.2f}"
        )


def shipped(name: str) -> Shipped:
    folder, model = ROOT / "models" / name, load_fleet(ROOT).models[name]
    assert model.checkpoint is not None and model.checkpoint.path is not None
    code, signature = ModelCode(folder), dump(model.signature)
    network = restore(code, dump(model.network), (folder / model.checkpoint.path).read_bytes())
    with repeatable(seed=0):
        exported = export(network, signature)
    calibration, test = (load(code, entry, signature) for entry in (model.data.calibration, model.data.test))
    return Shipped(exported, calibration, test, model.metric.name)


def scores(data: bytes, samples: Samples) -> np.ndarray:
    return next(iter(Network(data).run(samples.inputs).values()))


def inference_ms(data: bytes, samples: Samples) -> float:
    """CPU time of one inference of one sample, one thread: the least of twenty runs of twenty."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    one = {name: array[:1] for name, array in samples.inputs.items()}
    took = []
    for _ in range(21):
        started = time.process_time()
        for _ in range(20):
            session.run(None, one)
        took.append((time.process_time() - started) / 20 * 1000)
    return min(took[1:])
