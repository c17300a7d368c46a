"""The bill of materials (CycloneDX 1.6 ML-BOM): what is in an artifact, what it is worth, and where it came from.

>>> document = bill_of_materials(job, manifest, report)                      # doctest: +SKIP
>>> document["metadata"]["component"]["modelCard"]["modelParameters"]        # doctest: +SKIP
{'task': 'image-classification', 'datasets': [{'ref': 'dataset:optdigits'}], …}

Written as plain JSON: cyclonedx-python-lib has no model cards (11.12). The schema of the specification, which that
library carries, is what tests hold it to. Equal inputs give equal bytes: the serial number is derived from what the
bill says, and there is no time in it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from edgewright.plan.job import Job
from edgewright.plan.stage import STAGES, tool_version
from edgewright.publish.package import CONFIG
from edgewright.publish.provenance import package_url
from edgewright_agent.contract import BOM_CLASS, BOM_MODEL, canonical_json, digest_of, file_of_layer

Document = dict[str, Any]
_SERIALS = uuid.UUID("7d3c5a52-6a5f-5c0e-9c0b-0d1b3a9e8f10")  # ours alone: a name space for serial numbers
_MAX_CONDITIONS = 32


def bill_of_materials(job: Job, manifest: bytes, report: Mapping[str, Any]) -> Document:
    """Return the CycloneDX 1.6 document of one artifact.

    Args:
        job: The job that signs: model, class and slice.
        manifest: The artifact's manifest.
        report: Its gate report; figures that are not in it are left out.
    """
    digest = digest_of(manifest)
    files = [_file(layer) for layer in json.loads(manifest)["layers"]]
    data = [*map(_dataset, job.spec["model"].get("datasets", ())), *_functions(job)]
    packages = [_package(name) for name in _distributions()]
    document: Document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "tools": {
                "components": [
                    {"type": "application", "name": "edgewright", "version": tool_version("edgewright")}
                ]
            },
            "component": _model(job, digest, report, [entry["bom-ref"] for entry in data]),
        },
        "components": [*files, *data, *packages],
        "dependencies": [
            {
                "ref": digest,
                "dependsOn": [entry["bom-ref"] for entry in (*files, *data, *packages)],
            }
        ],
    }
    return document | {
        "serialNumber": f"urn:uuid:{uuid.uuid5(_SERIALS, digest_of(canonical_json(document)))}"
    }


def _model(job: Job, digest: str, report: Mapping[str, Any], data: list[str]) -> Document:
    model = job.spec["model"]
    properties = {
        BOM_MODEL: job.model,
        BOM_CLASS: str(job.hardware_class),
        "edgewright:artifact": digest,
        "edgewright:engine": f"{job.spec['hardware']['engine']} {job.spec['hardware']['versions']}",
        "edgewright:architecture": str(job.spec["hardware"]["arch"]),
        **_choice(job, report),
        **_training(model),
    }
    return {
        "type": "machine-learning-model",
        "bom-ref": digest,
        "name": job.model,
        "version": str(model["modelVersion"]),
        "description": str(model["description"]),
        "licenses": [{"expression": str(model["license"])}],
        "modelCard": {
            "modelParameters": _parameters(model, data),
            **_analysis(report),
            "considerations": _considerations(job, report),
        },
        "properties": [{"name": name, "value": value} for name, value in properties.items()],
    }


def _parameters(model: Mapping[str, Any], data: list[str]) -> Document:
    network = model.get("network") or {}
    signature = model["signature"]
    return {
        **({"task": str(model["task"])} if model.get("task") else {}),
        **({"modelArchitecture": _call(network)} if network else {"modelArchitecture": "ONNX graph"}),
        "datasets": [{"ref": reference} for reference in data],
        "inputs": [{"format": _tensor(tensor)} for tensor in signature["inputs"]],
        "outputs": [{"format": _tensor(tensor)} for tensor in signature["outputs"]],
    }


def _choice(job: Job, report: Mapping[str, Any]) -> dict[str, str]:
    """Return what was made of the network for this class: the precision, and the recipe that the search chose."""
    said: dict[str, str] = {}
    if (path := job.inputs.get(f"packaged/{CONFIG}")) is not None:
        said["edgewright:precision"] = str(json.loads(path.read_bytes())["config"]["precision"])
    chosen = ((report.get("figures") or {}).get("search") or {}).get("chosen")
    return said | ({"edgewright:recipe": str(chosen)} if chosen else {})


def _training(model: Mapping[str, Any]) -> dict[str, str]:
    """Return what is known of how the weights came about."""
    if train := model.get("train"):
        return {
            "edgewright:training": str(train["entry"]),
            "edgewright:training-seed": str(train.get("seed", 0)),
            "edgewright:training-arguments": canonical_json(train.get("arguments", {})).decode(),
        }
    pinned = model.get("checkpoint") or {}
    return {"edgewright:checkpoint-sha256": str(pinned["sha256"])} if "sha256" in pinned else {}


def _analysis(report: Mapping[str, Any]) -> Document:
    """Return the measured figures: of the held-out data, and under each field condition."""
    figures = report.get("figures") or {}
    metrics = [*_scores(figures.get("evaluation") or {}), *_conditions(figures.get("benchmark") or {})]
    return {"quantitativeAnalysis": {"performanceMetrics": metrics}} if metrics else {}


def _scores(evaluation: Mapping[str, Any]) -> Iterator[Document]:
    if "metric" not in evaluation:
        return
    samples = f"test data, {evaluation['samples']} samples" if "samples" in evaluation else "test data"
    reference = evaluation.get("fp32")
    for what, score in (("this artifact", evaluation), ("the fp32 network", reference)):
        if isinstance(score, Mapping) and score.get("value") is not None:
            yield _figure(str(evaluation["metric"]), score, f"{what} on {samples}")


def _conditions(benchmark: Mapping[str, Any]) -> Iterator[Document]:
    measured = benchmark.get("conditions")
    if not isinstance(measured, Mapping):
        return
    for entry in list(measured.get("conditions", ()))[:_MAX_CONDITIONS]:
        if entry.get("value") is not None:
            yield _figure(str(measured.get("metric", "accuracy")), entry, f"field condition {entry['name']}")


def _figure(kind: str, score: Mapping[str, Any], of: str) -> Document:
    interval = {
        bound: str(score[end])
        for bound, end in (("lowerBound", "low"), ("upperBound", "high"))
        if score.get(end) is not None
    }
    return {
        "type": kind,
        "value": str(score["value"]),
        "slice": of,
        **({"confidenceInterval": interval} if interval else {}),
    }


def _considerations(job: Job, report: Mapping[str, Any]) -> Document:
    limits = [
        f"measured and gated for hardware class {job.hardware_class} only",
        *map(str, report.get("notes") or ()),
    ]
    return {"useCases": [str(job.spec["model"]["description"])], "technicalLimitations": limits}


def _dataset(dataset: Mapping[str, Any]) -> Document:
    return {
        "type": "data",
        "bom-ref": f"dataset:{dataset['name']}",
        "name": str(dataset["name"]),
        **({"description": str(dataset["description"])} if dataset.get("description") else {}),
        **({"licenses": [{"expression": str(dataset["license"])}]} if dataset.get("license") else {}),
        **({"hashes": [_hash(str(dataset["sha256"]))]} if dataset.get("sha256") else {}),
        **(
            {"externalReferences": [{"type": "distribution", "url": str(dataset["source"])}]}
            if str(dataset.get("source", "")).startswith("https://")
            else {}
        ),
        "data": [{"type": "dataset", "name": str(dataset["name"])}],
        "properties": [{"name": "edgewright:use", "value": use} for use in dataset.get("use", ())],
    }


def _functions(job: Job) -> Iterator[Document]:
    """Yield the functions that draw samples: what the model's own code uses, whatever it is called elsewhere."""
    for use, entry in sorted((job.spec["model"].get("data") or {}).items()):
        yield {
            "type": "data",
            "bom-ref": f"samples:{use}",
            "name": f"{job.model} {use} samples",
            "description": f"drawn by models/{job.model}: {entry}",
            "data": [{"type": "dataset", "name": f"{use} samples"}],
            "properties": [{"name": "edgewright:use", "value": use}],
        }


def _file(layer: dict[str, Any]) -> Document:
    name, digest, size = file_of_layer(layer)
    return {
        "type": "file",
        "bom-ref": f"file:{name}",
        "name": name,
        "hashes": [_hash(digest)],
        "properties": [
            {"name": "edgewright:size-bytes", "value": str(size)},
            {"name": "edgewright:layer", "value": str(layer["digest"])},
        ],
    }


def _package(name: str) -> Document:
    url = package_url(name)
    return {"type": "library", "bom-ref": url, "name": name, "version": tool_version(name), "purl": url}


def _distributions() -> list[str]:
    """Return what shaped the bytes: the tools of every stage, as installed."""
    named = {tool for stage in STAGES.values() for tool in stage.tools}
    return sorted(name for name in named if tool_version(name) != "absent")


def _hash(digest: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": digest.removeprefix("sha256:")}


def _call(network: Mapping[str, Any]) -> str:
    arguments = ", ".join(f"{name}={value}" for name, value in sorted(network.get("arguments", {}).items()))
    return f"{network['factory']}({arguments})"


def _tensor(tensor: Mapping[str, Any]) -> str:
    return f"{tensor['name']}: {tensor.get('dtype', 'float32')}{list(tensor['shape'])}".replace("'", "")
