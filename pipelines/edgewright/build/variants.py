"""Variants: other networks made from the trained one, each as fp32 ONNX with the same signature.

Inputs: `checkpoint/weights.safetensors`. Outputs: `variants.json`, and one `<name>.onnx` per variant.
"""

from __future__ import annotations

from edgewright.errors import BuildError
from edgewright.plan.job import Job, Result
from edgewright_agent.contract import canonical_json

FILE = "variants.json"


def run(job: Job) -> Result:
    """Write `variants.json` and the variants.

    Raises:
        BuildError: a variant cannot be made.
    """
    if job.spec["variants"]:
        raise BuildError(f"{job.model}: variants cannot be made yet")
    (job.out / FILE).write_bytes(canonical_json({"version": 1, "variants": []}))
    return Result({"variants": 0})
