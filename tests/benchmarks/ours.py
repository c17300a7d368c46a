"""This repository's side of the benchmark: the search of `edgewright.build.search` behind the same request as Olive's.

$ python -m benchmarks.ours request.json result.json

A process of its own, so that what it imports counts as it does for the peer.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgewright.build.samples import Samples


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
    raise NotImplementedError("edgewright.build.search is not wired to this benchmark")


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
