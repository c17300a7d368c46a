"""Calibration kits for tests: honest ones, and any that an honest program would not write."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgewright_agent.contract import KIT_DOCUMENT, KIT_FOLDER, KIT_KIND, digest_of
from unit.agent.core import onnx_artifact

MODELS = {
    "small-fp32": onnx_artifact.model_bytes(),
    "other-fp32": onnx_artifact.model_bytes(-onnx_artifact.WEIGHTS),
}


def document(models: Mapping[str, bytes] = MODELS, **changes: Any) -> dict[str, Any]:
    """Describe a kit; `changes` replace its keys."""
    described = {
        "kind": KIT_KIND,
        "version": 1,
        "hardwareClass": "raspberry-pi-4",
        "recipe": {"seed": 1, "nets": len(models), "reduceRange": False},
        "runtime": {"versions": ">=1.20,<2", "threads": 2, "arena": True, "graphOptimization": "extended"},
        "nets": [
            {"name": name, "digest": digest_of(body), "bytes": len(body), "inputs": {"image": [1, 4]}}
            for name, body in models.items()
        ],
    }
    return {**described, **changes}


def write(
    path: Path,
    described: object = None,
    models: Mapping[str, bytes] = MODELS,
    *,
    compression: int = zipfile.ZIP_DEFLATED,
) -> Path:
    """Write a kit; `described` is its document when that is not the honest one, bytes as they are."""
    described = document(models) if described is None else described
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr(KIT_DOCUMENT, described if isinstance(described, bytes) else json.dumps(described))
        for name, body in models.items():
            file.writestr(f"{KIT_FOLDER}/{name}.onnx", body)
    return path
