"""The slices: what each stage sees of the specs, in the words of the YAML, quantities as numbers.

A slice is part of its step's action key, so whatever a stage does not see changes nothing for it.

>>> exported(workspace, StepId("exported", "digit-reader", "raspberry-pi-4"))["network"]      # doctest: +SKIP
{'factory': 'network:build', 'arguments': {'width': 16}}
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from edgewright.errors import TrustError
from edgewright.plan.lane import StepId
from edgewright.spec.fleet import KEYLESS_FIELDS
from edgewright.spec.hardware import HardwareClass, Sheet
from edgewright.spec.limits import (
    effective_conditions,
    effective_limits,
    effective_metric,
    effective_optimization,
    limit_sources,
    recipients_of,
)
from edgewright.spec.load import Workspace
from edgewright.spec.model import Model
from edgewright.spec.recipient import read_recipient

Slice = Mapping[str, Any]


def dump(spec: BaseModel | None) -> Any:
    """Return a spec as JSON values in the words of the YAML, quantities as numbers, absent keys left out."""
    return None if spec is None else spec.model_dump(mode="json", by_alias=True, exclude_none=True)


def checkpoint(workspace: Workspace, step: StepId) -> Slice:
    """Return the network, and where its weights come from."""
    model = workspace.models[step.model]
    source = {"checkpoint": dump(model.checkpoint)} if model.checkpoint else {"train": dump(model.train)}
    return {"network": dump(model.network), **source}


def exported(workspace: Workspace, step: StepId) -> Slice:
    """Return the network and its signature."""
    model = workspace.models[step.model]
    return {"network": dump(model.network), "signature": dump(model.signature)}


def variants(workspace: Workspace, step: StepId) -> Slice:
    """Return the variants, and what training one of them reads."""
    model = workspace.models[step.model]
    if not model.optimization.variants:
        return {"variants": []}
    return {
        "network": dump(model.network),
        "signature": dump(model.signature),
        "variants": [dump(variant) for variant in model.optimization.variants],
        # By which variants that are trained here are compared; one that is pinned needs no data.
        **(
            {"data": {"selection": model.data.selection}, "metric": {"name": model.metric.name}}
            if any(variant.checkpoint is None for variant in model.optimization.variants)
            else {}
        ),
    }


def searched(workspace: Workspace, step: StepId) -> Slice:
    """Return what may be tried and what it is measured on; neither limits nor floors nor the objective."""
    model, hardware = _both(workspace, step)
    optimization = dump(effective_optimization(model, str(step.hardware_class)))
    return {
        # Neither limits nor floors nor the objective: what is demanded changes no figure, so it re-decides at no cost.
        "recipes": optimization["recipes"],
        "timeBudget": optimization["timeBudget"],
        "precisions": list(hardware.precisions),
        "hardware": dump(Sheet.of(hardware)),
        "data": _without(dump(model.data), "test"),
        "metric": {"name": model.metric.name},
        "signature": dump(model.signature),
        "labels": list(model.labels),
        "conditions": [_without(dump(condition), "floor") for condition in model.conditions],
    }


def optimized(workspace: Workspace, step: StepId) -> Slice:
    """Return what the choice is held to, and how the class opens a session."""
    model, hardware = _both(workspace, step)
    name = str(step.hardware_class)
    return {
        "objective": effective_optimization(model, name).objective,
        "conditions": [dump(condition) for condition in effective_conditions(model, name)],
        "limits": dump(effective_limits(hardware, model, name)),
        "metric": dump(effective_metric(model, name)),
        "hardware": dump(Sheet.of(hardware)),
        "signature": dump(model.signature),
        "golden": {"samples": model.golden.samples},
        "sources": limit_sources(model, step.model, name),
        **_safe_output(model),
        **_fallback(hardware),
        **_swap(hardware),
    }


def _swap(hardware: HardwareClass) -> dict[str, Any]:
    return {"swap": hardware.runtime.swap} if hardware.runtime.swap else {}


def _fallback(hardware: HardwareClass) -> dict[str, Any]:
    return {"cpuFallback": True} if hardware.runtime.cpu_fallback else {}


def _safe_output(model: Model) -> dict[str, Any]:
    """Return what the model declares as its safe output; `no-decision` is what a device does anyway."""
    declared = model.safe_output
    return {"safeOutput": dump(declared)} if declared and declared.kind != "no-decision" else {}


def evaluated(workspace: Workspace, step: StepId) -> Slice:
    """Return data, metric and labels."""
    model = workspace.models[step.model]
    return {
        "data": dump(model.data),
        "metric": {"name": model.metric.name},
        "golden": dump(model.golden),
        "labels": list(model.labels),
        "signature": dump(model.signature),
    }


def benchmarked(workspace: Workspace, step: StepId) -> Slice:
    """Return what decides what an artifact costs; no limit."""
    model, hardware = _both(workspace, step)
    return {
        "hardware": dump(Sheet.of(hardware)),
        "model": {
            "signature": dump(model.signature),
            "data": {"test": model.data.test},
            "metric": {"name": model.metric.name},
            # Neither what may be dropped nor the floors of conditions: what is demanded changes no figure.
            **({"workload": _without(dump(model.workload), "maxDropped")} if model.workload else {}),
            "conditions": [_without(dump(condition), "floor") for condition in model.conditions],
        },
    }


def _without(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != key}


def packaged(workspace: Workspace, step: StepId) -> Slice:
    """Return what people know the artifact by."""
    model, hardware = _both(workspace, step)
    compression = workspace.fleet.registry.compression
    recipients = recipients_of(hardware, model)
    return {
        "modelVersion": model.model_version,
        "description": model.description,
        "license": model.license,
        "hardwareClass": step.hardware_class,
        # Another zlib may write other bytes for the same file.
        **({} if compression == "none" else {"compression": compression, "zlib": zlib.ZLIB_RUNTIME_VERSION}),
        # The keys themselves, by digest: a key that was replaced under its name is another recipient.
        **(
            {"encryption": {"recipients": [_recipient(workspace, name) for name in recipients]}}
            if recipients
            else {}
        ),
    }


def recipient_files(workspace: Workspace) -> list[str]:
    """Return the files of every class's recipients, relative to the repository."""
    sections = [hardware.encryption for hardware in workspace.hardware.values()]
    return sorted({name for section in sections if section is not None for name in section.recipients})


def _recipient(workspace: Workspace, name: str) -> dict[str, str]:
    try:
        return {"name": name, "sha256": read_recipient(workspace.root / name).sha256}
    except ValueError as error:
        raise TrustError(f"recipient {name} {error}", hint="edgewright validate") from error


def gated(workspace: Workspace, step: StepId) -> Slice:
    """Return every limit, floor and baseline of the lane."""
    model, hardware = _both(workspace, step)
    name = str(step.hardware_class)
    baseline = workspace.baseline_of(step.model, name)
    return {
        **({"baseline": baseline.yardstick()} if baseline else {}),
        "limits": dump(effective_limits(hardware, model, name)),
        "metric": dump(effective_metric(model, name)),
        "conditions": [dump(condition) for condition in effective_conditions(model, name)],
        **({"maxDropped": model.workload.max_dropped / 100} if model.workload else {}),
        "modelVersion": model.model_version,
        "sources": limit_sources(model, step.model, name),
        **_fallback(hardware),
    }


def how_signed(workspace: Workspace) -> Slice:
    """Return how this fleet signs, and the digest of what devices will verify it with; never a key or a token."""
    signing = workspace.fleet.signing
    if signing.mode == "key":
        hint = "make the keys once with `edgewright keys init`"
        digest = _digest(workspace, signing.public_key, "no signing key", hint)
        said = signing.model_dump(mode="json", by_alias=True, exclude={"trust_config"}, exclude_none=True)
        return {"signing": said, "publicKeySha256": digest}
    fields = {"mode", *KEYLESS_FIELDS}
    said = signing.model_dump(mode="json", by_alias=True, include=fields, exclude_none=True)
    if signing.verified_with is None:
        return {"signing": said}  # the public instance's keys change by its own rules; a plan asks no network
    hint = "the operator of the Sigstore instance gives out this file"
    digest = _digest(workspace, signing.verified_with, "no signing.trustConfig", hint)
    return {"signing": said, "trustConfigSha256": digest}


def _digest(workspace: Workspace, name: str, missing: str, hint: str) -> str:
    try:
        return hashlib.sha256((workspace.root / name).read_bytes()).hexdigest()
    except OSError as error:
        raise TrustError(f"{missing}: cannot read {name} ({error.strerror})", hint=hint) from error


def signed(workspace: Workspace, step: StepId) -> Slice:
    """Return how this fleet signs, and what provenance and bill of materials say of the model in its own words.

    Neither the commit nor digests of files: they are said of the moment of signing, and change nothing that is built.
    """
    model, hardware = _both(workspace, step)
    return {
        **how_signed(workspace),
        "model": {
            "modelVersion": model.model_version,
            "description": model.description,
            "license": model.license,
            **({"task": model.task} if model.task else {}),
            "datasets": [dump(dataset) for dataset in model.datasets],
            "data": dump(model.data),
            "network": dump(model.network),
            "checkpoint": dump(model.checkpoint),
            "train": dump(model.train),
            "variants": [dump(variant) for variant in model.optimization.variants],
            "signature": dump(model.signature),
            "labels": list(model.labels),
        },
        "hardware": {
            "arch": hardware.cpu.arch,
            "engine": hardware.runtime.engine,
            "versions": str(hardware.runtime.versions),
        },
    }


def published(workspace: Workspace, _step: StepId) -> Slice:
    """Return where it publishes."""
    return {"registry": _registry(workspace)}


def index(workspace: Workspace, step: StepId) -> Slice:
    """Return what the index of a version says of its classes."""
    model = workspace.models[step.model]
    return {
        "modelVersion": model.model_version,
        "registry": _registry(workspace),
        "architectures": {name: hardware.cpu.arch for name, hardware in sorted(workspace.hardware.items())},
        **how_signed(workspace),
    }


def _registry(workspace: Workspace) -> Any:
    """Return the registry as far as it is where artifacts go: deltas are made by releases."""
    return _without(dump(workspace.fleet.registry), "deltas")


def _both(workspace: Workspace, step: StepId) -> tuple[Any, Any]:
    return workspace.models[step.model], workspace.hardware[str(step.hardware_class)]
