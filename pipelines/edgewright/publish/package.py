"""Stage `packaged`: the files of a lane become one OCI artifact with CNCF ModelPack types.

The manifest is written, not pushed: its digest is what the gate report and every signature are about.

>>> run(job).facts["digest"]     # doctest: +SKIP
'sha256:…'
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgewright.errors import BuildError
from edgewright.plan.job import Job, Result
from edgewright.publish import oci
from edgewright.publish.durable import write_file
from edgewright.publish.encrypt import encrypt_layer
from edgewright.publish.layer import make_layer
from edgewright.spec.recipient import Recipient, read_recipient
from edgewright_agent.contract import (
    ANNOTATION_CLASS,
    ANNOTATION_MODEL,
    ANNOTATION_VERSION,
    FILE_CPU_MODEL,
    FILE_CPU_RUNTIME,
    FILE_DATA,
    FILE_DRIFT,
    FILE_GOLDEN,
    FILE_LABELS,
    FILE_MODEL,
    FILE_RUNTIME,
    LAYER_DATASET,
    LAYER_DOC,
    LAYER_WEIGHT,
    LAYER_WEIGHT_CONFIG,
    MAX_MANIFEST_BYTES,
    MODEL_ARTIFACT,
    MODEL_CONFIG,
    canonical_json,
    digest_of,
    file_of_layer,
)

MANIFEST = "manifest.json"
CONFIG = "config.json"

# Order is part of the digest: what a device needs first comes first.
LAYERS: tuple[tuple[str, str, str], ...] = (
    ("optimized", FILE_MODEL, LAYER_WEIGHT),
    ("optimized", FILE_DATA, LAYER_WEIGHT),
    ("optimized", FILE_RUNTIME, LAYER_WEIGHT_CONFIG),
    ("optimized", FILE_CPU_MODEL, LAYER_WEIGHT),
    ("optimized", FILE_CPU_RUNTIME, LAYER_WEIGHT_CONFIG),
    ("evaluated", FILE_LABELS, LAYER_DOC),
    ("evaluated", FILE_GOLDEN, LAYER_DATASET),
    ("evaluated", FILE_DRIFT, LAYER_DATASET),
)
_OPTIONAL = {FILE_DATA, FILE_LABELS, FILE_CPU_MODEL, FILE_CPU_RUNTIME}


def run(job: Job) -> Result:
    """Write manifest.json, config.json and the layer files of one lane.

    Raises:
        BuildError: an earlier stage left a file out, or a recipient's key is another one than was planned with.
        EnvironmentFault: the files cannot be written.
    """
    recipients = _recipients(job)
    layers = []
    for stage, name, media_type in LAYERS:
        source = job.inputs.get(f"{stage}/{name}")
        if source is None:
            if name in _OPTIONAL:
                continue
            raise BuildError(f"{job.model} on {job.hardware_class}: {stage} left no {name} to package")
        compression = job.spec.get("compression", "none")
        layer = make_layer(media_type, source, job.out, name, compression=compression)
        if recipients and media_type == LAYER_WEIGHT:
            layer = encrypt_layer(layer, recipients)
        layers.append(layer)
    config = model_config(
        name=job.model,
        version=job.spec["modelVersion"],
        description=job.spec["description"],
        license_id=job.spec["license"],
        precision=_precision(job.inputs[f"optimized/{FILE_RUNTIME}"]),
        diff_ids=[layer.diff_id for layer in layers],
    )
    body = oci.manifest(
        artifact_type=MODEL_ARTIFACT,
        config=oci.descriptor(MODEL_CONFIG, config),
        layers=[layer.descriptor for layer in layers],
        annotations={
            ANNOTATION_MODEL: job.model,
            ANNOTATION_CLASS: job.spec["hardwareClass"],
            ANNOTATION_VERSION: job.spec["modelVersion"],
        },
    )
    if len(body) > MAX_MANIFEST_BYTES:
        raise BuildError(
            f"{job.model}: a manifest of {len(body)} bytes is more than devices read",
            hint="name fewer recipients: a key of the class in place of one for each device"
            if recipients
            else None,
        )
    write_file(job.out / CONFIG, config)
    write_file(job.out / MANIFEST, body)
    return Result(facts=_facts(body, [layer.descriptor for layer in layers]))


def model_config(
    *, name: str, version: str, description: str, license_id: str, precision: str, diff_ids: list[str]
) -> bytes:
    """Return the ModelPack model configuration (model-spec, config.md); it allows no keys of our own.

    `createdAt` is left out on purpose: a time would give the same model another digest tomorrow.
    """
    descriptor = {"name": name, "version": version, "description": description, "licenses": [license_id]}
    config: dict[str, Any] = {"format": "onnx", "precision": precision}
    if precision.startswith("int"):
        config["quantization"] = precision
    modelfs = {"type": "layers", "diffIds": diff_ids}
    return canonical_json({"descriptor": descriptor, "config": config, "modelfs": modelfs})


def _recipients(job: Job) -> list[Recipient]:
    """Read the public keys that the weights are encrypted for; none: they are not encrypted."""
    found = []
    for planned in job.spec.get("encryption", {}).get("recipients", ()):
        path = planned["name"]
        try:
            recipient = read_recipient(job.root / path)
        except ValueError as error:
            raise BuildError(f"recipient {path} {error}", hint="edgewright validate") from error
        if recipient.sha256 != planned["sha256"]:
            raise BuildError(
                f"recipient {path} has changed since the plan was made", hint="run the same command again"
            )
        found.append(recipient)
    return found


def _precision(runtime: Path) -> str:
    try:
        return str(json.loads(runtime.read_bytes())["precision"])
    except (ValueError, KeyError, TypeError) as error:
        raise BuildError(f"{FILE_RUNTIME} of the optimized stage names no precision") from error


def _facts(body: bytes, layers: list[oci.Descriptor]) -> dict[str, Any]:
    return {
        "digest": digest_of(body),
        "size_bytes": sum(layer["size"] for layer in layers),
        "stored_bytes": sum(file_of_layer(layer)[2] for layer in layers),
        "layers": [
            {
                "file": file_of_layer(layer)[0],
                "size_bytes": layer["size"],
                "stored_bytes": file_of_layer(layer)[2],
                "media_type": layer["mediaType"],
                "digest": layer["digest"],
            }
            for layer in layers
        ],
    }
