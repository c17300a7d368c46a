"""This repository's side of the benchmark: the search of `edgewright.build.search` behind the same request as Olive's.

$ python -m benchmarks.ours request.json result.json

A process of its own, so that what it imports counts as it does for the peer.
"""

from __future__ import annotations

import json
import math
import platform
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from edgewright.build.metric import metric as metric_named
from edgewright.build.passes.facts import ClassFacts
from edgewright.build.samples import Samples
from edgewright.build.search.candidate import TRAINED, Cost
from edgewright.build.search.choose import choose
from edgewright.build.search.demands import Demands
from edgewright.build.search.explore import explore
from edgewright.build.search.shelf import Shelf
from edgewright.build.search.workshop import Workshop
from edgewright.spec.model import RECIPES


def optimize(
    model: bytes,
    calibration: Samples,
    selection: Samples,
    metric: str,
    objective: str,
    *,
    max_drop: float,
    work: Path,
) -> tuple[bytes, tuple[str, ...]]:
    """Return the best model for `objective` that loses at most `max_drop` of `metric`, and the passes that made it.

    Args:
        model: The exported fp32 model, canonical.
        calibration: Samples that set ranges.
        selection: Samples that choose among candidates.
        metric: `accuracy`, `auc` or `cosine`.
        objective: `latency`, `size`, `memory` or `balanced`.
        max_drop: Against fp32, on the selection samples.
        work: An empty folder.
    """
    shop = Workshop({TRAINED: model}, calibration, selection, metric_named(metric), Shelf())
    meter = HostMeter({name: array[:1] for name, array in selection.inputs.items()})
    found = explore(shop, host_facts(), RECIPES, meter, budget_s=600.0)
    demands = Demands(LIMITS, floor=0.0, max_drop=max_drop)
    choice = choose(found.candidates, demands, objective)  # type: ignore[arg-type]
    return found.models[choice.winner.digest], (choice.winner.name,)


LIMITS = {
    "artifactSize": math.inf,
    "loadTime": math.inf,
    "latency": {"p95": math.inf, "p99": math.inf},
    "peakMemory": math.inf,
}


def host_facts() -> ClassFacts:
    """Return this machine as a hardware class."""
    flags = set()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("flags", "Features")):
            flags = set(line.partition(":")[2].split())
    isa = ("avx2",) if "avx2" in flags else ("sse4.2",)
    if flags & {"avx512_vnni", "avx_vnni"}:
        isa += ("vnni",)
    if platform.machine() == "aarch64":
        isa = ("neon", *(("asimddp",) if "asimddp" in flags else ()))
    arch = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    return ClassFacts(arch, isa, ("int8", "int4", "fp32"), versions=">=1.22,<2")


class HostMeter:
    """Measures one-sample CPU time on this machine in place of an emulated target, as Olive's evaluator does.

    The least of several blocks: whatever else a machine does only adds. Memory is that of the weights.
    """

    workers = 1

    def __init__(self, sample: Mapping[str, np.ndarray]) -> None:
        self.sample = dict(sample)

    def measure(self, model: bytes, precision: str) -> Cost:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        for _ in range(3):
            session.run(None, self.sample)
        once_s = self.seconds(session, 1)
        runs = max(1, min(200, round(BLOCK_S / max(once_s, 1e-6))))
        least_ms = min(self.seconds(session, runs) for _ in range(BLOCKS)) * 1e3
        return Cost(
            {"value": least_ms, "low": least_ms, "high": least_ms}, 0.0, 0.0, len(model), len(model), 0
        )

    def seconds(self, session: onnxruntime.InferenceSession, runs: int) -> float:
        began = time.process_time()
        for _ in range(runs):
            session.run(None, self.sample)
        return (time.process_time() - began) / runs


BLOCKS, BLOCK_S = 12, 0.02


def main(request_path: str, result_path: str) -> None:
    request: Mapping[str, Any] = json.loads(Path(request_path).read_text())
    work = Path(request["work"])
    model, passes = optimize(
        Path(request["model"]).read_bytes(),
        stored("calibration", request["calibration"]),
        stored("selection", request["selection"]),
        request["metric"],
        request["objective"],
        max_drop=request["max_drop"],
        work=work,
    )
    path = work / "model.onnx"
    path.write_bytes(model)
    wall_s = time.time() - request["started"]
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu_s = sum(usage.ru_utime + usage.ru_stime for usage in used)
    result = {"model": str(path), "passes": list(passes), "wall_s": wall_s, "cpu_s": cpu_s}
    Path(result_path).write_text(json.dumps(result))


def stored(part: str, path: str) -> Samples:
    with np.load(path) as file:
        inputs = {name.removeprefix("input:"): file[name] for name in file if name.startswith("input:")}
        return Samples(part, inputs, file["targets"])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
