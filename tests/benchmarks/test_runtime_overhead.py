"""What a session costs beside the bare engine, counting and looking for updates included. Prints; asserts no time.

$ make bench PYTEST_ARGS='-k session_beside'
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from edgewright.build.drift import drift_reference
from unit.agent.core import onnx_artifact
from unit.agent.core.sessions import ONE, TWO, Device

ROUNDS = 7
CALLS = 2000
TARGET_US = 50


@pytest.mark.parametrize(("samples", "experiment"), [(1, False), (8, False), (256, False), (1, True)])
def test_a_session_beside_the_bare_engine(tmp_path: Path, samples: int, experiment: bool) -> None:
    device = Device(tmp_path)
    folder = device.install(ONE)
    device.install(TWO)
    device.activate(ONE)
    rng = np.random.default_rng(1)
    inputs = {"image": rng.normal(size=(samples, 4)).astype(np.float32)}
    outputs = onnx_artifact.scores(inputs["image"])
    (folder / "drift.json").write_text(json.dumps(drift_reference(inputs, outputs, "scores")))
    if experiment:
        device.experiment(share=0.0)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    bare = onnxruntime.InferenceSession(
        str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    with device.session() as session:
        costs = [
            (_cpu_us(lambda: bare.run(["scores"], inputs)), _cpu_us(lambda: session.run(inputs)))
            for _ in range(ROUNDS)
        ]
        assert session.figures.inferences == ROUNDS * (CALLS + CALLS // 10)
    alone, counted = (statistics.median(column) for column in zip(*costs, strict=True))
    print(
        f"\nsession, batch of {samples}{', an experiment beside' if experiment else ''}: {counted:.1f} CPU-us a call, "
        f"bare engine {alone:.1f}: {counted / alone:.2f} x, {counted - alone:.1f} us more (target {TARGET_US})"
    )


def _cpu_us(call: Callable[[], Any]) -> float:
    for _ in range(CALLS // 10):
        call()
    started = time.thread_time()
    for _ in range(CALLS):
        call()
    return (time.thread_time() - started) / CALLS * 1e6
