"""Variants: other networks made from the trained one, each as fp32 ONNX with the same signature.

Trained weights differ with the instruction set of the machine, so a variant that should have one digest
everywhere is made once, by `edgewright variants MODEL --write`, and pinned in Git; one that is not pinned is
trained in this stage.

Inputs: `checkpoint/weights.safetensors`. Outputs: `variants.json`, and one `<name>.onnx` per variant that
applies:

    {"version": 1, "variants": [
      {"name": "pruned-50", "recipe": "prune", "file": "pruned-50.onnx", "sha256": …, "sizeBytes": …, "parameters": …,
       "source": …, "metric": {"name", "value", "fp32", "samples"}, …},
      {"name": "taught", "recipe": "distill", "reason": "why it does not apply"}]}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgewright.errors import BuildError
from edgewright.plan.job import Job, Result
from edgewright_agent.contract import canonical_json

FILE = "variants.json"


def run(job: Job) -> Result:
    """Write `variants.json` and the variants.

    Raises:
        BuildError: a pinned file is not what the YAML says or not a model of this signature; training code fails,
            or its result cannot be exported.
        NetworkError: a pinned file cannot be fetched.
    """
    entries, facts, seconds = [], {}, 0.0
    origin = None
    data: bytes | None
    for variant in job.spec["variants"]:
        if variant.get("checkpoint") is not None:
            data, entry = _pinned(job, variant)
        else:
            from edgewright.build.variants.derive import derive

            origin = origin or _origin(job)
            derived = derive(origin, variant, job.progress)
            data, entry = derived.model, dict(derived.facts)
            seconds += derived.seconds
        if data is not None:
            (job.out / str(entry["file"])).write_bytes(data)
        entries.append(entry)
        facts[variant["name"]] = entry.get("reason") or f"{variant['recipe']}, {entry['sizeBytes']} bytes"
    (job.out / FILE).write_bytes(canonical_json({"version": 1, "variants": entries}))
    trained = {"training_seconds": round(seconds, 1)} if origin is not None else {}
    return Result({"variants": len(entries), **facts, **trained})


def written(name: str, data: bytes) -> dict[str, Any]:
    """Return the facts of a variant's file: its name, digest and size."""
    return {"file": f"{name}.onnx", "sha256": hashlib.sha256(data).hexdigest(), "sizeBytes": len(data)}


def _pinned(job: Job, variant: Mapping[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """Return a variant read from its file, and its facts, with those noted when this file was made."""
    from edgewright.build.canonical import to_bytes
    from edgewright.build.checkpoint import from_file
    from edgewright.build.imported import conform
    from edgewright.build.onnx_file import parse, weights_in

    folder = job.root / "models" / job.model
    given, source = from_file(folder, variant["checkpoint"], job.model, job.progress)
    shown = str(source["source"])
    model, facts = conform(parse(given, shown), job.spec["signature"], shown)
    data = to_bytes(model)
    entry = {"parameters": weights_in(model), **_noted(folder, variant), "source": shown, "pinned": True}
    if facts["changes"]:
        entry["changes"] = facts["changes"]
    # The YAML's own words last: a variant may have been renamed since it was noted.
    head = {"name": variant["name"], "recipe": variant["recipe"]}
    return data, {**entry, **head, **written(variant["name"], data)}


def _noted(folder: Path, variant: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `edgewright variants --write` noted about exactly this file; nothing where there is no such note."""
    try:
        document = json.loads((folder / FILE).read_bytes())
        entries = [dict(entry) for entry in document["variants"]]
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise BuildError(
            f"models/{folder.name}/{FILE} cannot be read: {error}",
            hint=f"`edgewright variants {folder.name} --write` makes it anew; without it, only its figures are missing",
        ) from error
    wanted = variant["checkpoint"]["sha256"]
    return next((entry for entry in entries if entry.get("sha256") == wanted), {})


def _origin(job: Job) -> Any:
    from edgewright.build.entry import ModelCode
    from edgewright.build.samples import load
    from edgewright.build.variants.origin import Origin

    if job.spec.get("network") is None:
        raise BuildError(
            f"{job.model} has no network that variants could be trained from",
            hint="pin them as .onnx files in their `checkpoint`",
        )
    code = ModelCode(job.root / "models" / job.model)
    return Origin(
        code=code,
        spec=job.spec["network"],
        weights=job.inputs["checkpoint/weights.safetensors"].read_bytes(),
        signature=job.spec["signature"],
        selection=load(code, job.spec["data"]["selection"], job.spec["signature"]),
        metric=job.spec["metric"]["name"],
    )
