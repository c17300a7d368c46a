"""Ask the probe in a target, and make every way to fail a name.

>>> ask(target, {"model": str(model), "inputs": golden["inputs"]}, timeout_s=120)["outputs"]   # doctest: +SKIP
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgewright.bench.target.emulator import TRANSLATED_BYTES, Target
from edgewright.bench.target.session import merged
from edgewright_agent.contract import FILE_DATA

OUT_OF_MEMORY = "out-of-memory"
MODEL = "model.onnx"  # what a model is called in a target, wherever it lies


def ask(
    target: Target,
    request: Mapping[str, Any],
    *,
    timeout_s: float,
    plugin: Path | None = None,
    plugin_options: str = "",
    memory_limit_bytes: int | None = None,
) -> dict[str, Any]:
    """Run the probe and return its answer; every way to fail becomes `failure`, `stage` and `message` in it.

    Beside the probe's own failures there are `crashed`, `timed-out`, `provider-missing` where ONNX Runtime quietly took
    another execution provider than the target is there for, and `out-of-memory` for what fails under a memory limit
    and only there.

    Args:
        target: Where.
        request: See `probe`.
        timeout_s: For the whole process.
        plugin: As for `Target.run`.
        plugin_options: As for `Target.run`.
        memory_limit_bytes: What the model may take over the bare engine.
    """
    document = {
        "threads": target.threads,
        **request,
        "providerOptions": merged(request.get("providerOptions", {}), target.provider_options),
        "limited": memory_limit_bytes is not None,
    }
    files: dict[str, Path | bytes] = {}
    if model := request.get("model"):
        files[MODEL] = Path(model)
        document["model"] = MODEL
    if data := document.pop("data", None):
        files[FILE_DATA] = Path(data)  # the model names it, so nobody else need
    ended = target.run(
        {**files, "request.json": json.dumps(document).encode()},
        timeout_s=timeout_s,
        plugin=plugin,
        plugin_options=plugin_options,
        memory_limit_bytes=memory_limit_bytes,
    )
    answer: dict[str, Any] = {}
    with contextlib.suppress(ValueError):
        answer = json.loads(ended.answer)
    answer["notes"] = [*target.notes, *ended.notes]
    asked = [name for name in target.provider_options if name in request.get("providers", ())]
    if ended.over_limit:
        answer |= {"failure": OUT_OF_MEMORY, "message": ""}
    elif ended.timed_out:
        answer |= {"failure": "timed-out", "message": f"no answer within {timeout_s:g} s"}
    elif "failure" not in answer and (ended.returncode != 0 or "engine" not in answer):
        said = [line for line in ended.stderr.splitlines() if line.strip()][-2:]
        answer |= {"failure": "crashed", "message": "; ".join([f"the probe {ended.ending}", *said])}
    elif missing := [name for name in asked if name not in answer.get("providers", asked)]:
        answer |= {
            "failure": "provider-missing",
            "message": f"{missing[0]} did not start; another took its place",
        }
    if memory_limit_bytes is None:
        return answer
    if "failure" not in answer and ended.limited_by == "resident":
        # What is watched can be over for an instant unseen, but not forgotten: peaks are told.
        peaks = [peak for peak in answer["peakBytes"].values() if peak]
        if peaks and max(peaks) - min(peaks) > memory_limit_bytes + TRANSLATED_BYTES:
            answer["failure"] = OUT_OF_MEMORY
    if answer.get("failure") not in (None, OUT_OF_MEMORY, "timed-out"):
        # A limit shows in many ways. What fails without one as well is what it says, the rest is the limit's doing.
        unlimited = ask(target, request, timeout_s=timeout_s, plugin=plugin, plugin_options=plugin_options)
        if "failure" in unlimited:
            return unlimited
        answer["failure"] = OUT_OF_MEMORY
    if answer.get("failure") == OUT_OF_MEMORY:
        answer["message"] = f"it needs more than {memory_limit_bytes} bytes over the bare engine"
        answer.pop("outputs", None)
    return answer
