"""What a person sees on an asset: figures with units, the cause, digests, plots, and a link to the YAML line."""

from __future__ import annotations

import base64
import warnings
from collections.abc import Mapping
from typing import Any

import dagster as dg

from edgewright.plan.cache import Cache, Record
from edgewright.plan.lane import StepId
from edgewright.spec.load import Workspace


def describe(cache: Cache, record: Record, cause: str, seconds: float) -> dict[str, Any]:
    """Return the metadata of one materialization."""
    metadata: dict[str, Any] = {"cause": cause, "action_key": record.key, "seconds": round(seconds, 3)}
    metadata |= {name: _value(value) for name, value in record.facts.items()}
    metadata["files"] = dg.MetadataValue.md(
        "\n".join(f"- `{name}` `{digest}`" for name, digest in sorted(record.files.items()))
    )
    for name, digest in record.files.items():
        if name.endswith(".png"):
            image = base64.b64encode(cache.verified(digest).read_bytes()).decode()
            metadata[name.removesuffix(".png")] = dg.MetadataValue.md(
                f"![{name}](data:image/png;base64,{image})"
            )
    return metadata


def references(workspace: Workspace, step: StepId) -> Mapping[str, Any]:
    """Return the links from an asset to the YAML it was made from."""
    files = [f"models/{step.model}/model.yaml"]
    if step.hardware_class:
        files.insert(0, f"hardware/{step.hardware_class}.yaml")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # the feature is pinned with Dagster's version
        return {
            "dagster/code_references": dg.CodeReferencesMetadataValue(
                code_references=[
                    dg.LocalFileCodeReference(file_path=str(workspace.root / file), line_number=1, label=file)
                    for file in files
                ]
            )
        }


def _value(value: Any) -> Any:
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        return dg.MetadataValue.md(_table(value))
    return dg.MetadataValue.json(value) if isinstance(value, (list, dict)) else value


def _table(rows: list[dict[str, Any]]) -> str:
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(str(row.get(column, "")) for column in columns) + " |" for row in rows]
    return "\n".join(lines)
