"""The runtime manifest, `runtime.json`: everything a device needs to open a model as it was measured.

>>> document = runtime_manifest(runtime, signature, "int8", expected=Expected(load_ms=12.5), layout=SINGLE)
>>> document["providers"], document["expected"]["loadMs"]
(['CPUExecutionProvider'], 12.5)

Its version stays 1: an agent that does not know a key opens the model without it, slower or with more memory but with
the same answers; and a model whose weights lie in a second file is found by its name, whoever opens it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgewright.build.layout import Layout
from edgewright.build.memory_estimate import estimate
from edgewright.build.provider_options import provider_options

VERSION = 1
SPINNING = "session.intra_op.allow_spinning"


@dataclass(frozen=True)
class Expected:
    """What opening the model should cost on a device of the class, for people and for `edgewright-agent status`.

    Equal inputs must give equal figures on any machine, because the artifact's digest covers them: so these are
    counted, computed or estimated, never timed.

    Attributes:
        load_ms: Opening the session, in milliseconds; None when nothing is known.
        memory_bytes: Peak over the bare engine; None when nothing is known.
        load_from: How the time was got, in words.
        memory_from: How the size was got, in words.
    """

    load_ms: float | None = None
    memory_bytes: int | None = None
    load_from: str = ""
    memory_from: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; what is not known is left out."""
        document: dict[str, Any] = {}
        if self.load_ms is not None:
            document |= {"loadMs": self.load_ms, "loadFrom": self.load_from}
        if self.memory_bytes is not None:
            document |= {"memoryBytes": self.memory_bytes, "memoryFrom": self.memory_from}
        return document


def expected_cost(
    model: bytes,
    runtime: Mapping[str, Any],
    layout: Layout | None = None,
    *,
    load_ms: float | None = None,
    load_from: str = "",
) -> Expected:
    """Return what opening a model should cost: memory estimated from its graph, time as the caller has it.

    Args:
        model: The serialized model, weights inside.
        runtime: The `runtime` section of the class, in the words of its YAML.
        layout: How it will lie on the device.
        load_ms: Opening the session, counted or computed.
        load_from: How that was got, in words.
    """
    external = layout is not None and bool(layout.external_data)
    found = estimate(model, external=external, arena=runtime["arena"])
    return Expected(load_ms, found.total_bytes, load_from, found.basis)


def runtime_manifest(
    runtime: Mapping[str, Any],
    signature: Mapping[str, Any],
    precision: str,
    *,
    expected: Expected | None = None,
    layout: Layout | None = None,
    safe_output: Mapping[str, Any] | None = None,
    swap: str | None = None,
) -> dict[str, Any]:
    """Return `runtime.json` as JSON values.

    Args:
        runtime: The `runtime` section of the class, in the words of its YAML.
        signature: `inputs` and `outputs` of the model, in the words of its YAML.
        precision: `fp32`, `fp16`, `int8`, …
        expected: What opening it should cost.
        layout: How the model's file is laid out; a single file when None.
        safe_output: What answers when no model can, in the words of the model's YAML; `no-decision` when None.
        swap: How applications take it up, `beside` or `after-release`; the memory they find decides when None.
    """
    document: dict[str, Any] = {
        "version": VERSION,
        "engine": runtime["engine"],
        "versions": runtime["versions"],
        "providers": list(runtime["providers"]),
        "threads": runtime["threads"],
        "arena": runtime["arena"],
        "memoryPattern": runtime.get("memoryPattern", True),
        "graphOptimization": runtime["graphOptimization"],
        "precision": precision,
        "signature": {kind: [_tensor(t) for t in signature[kind]] for kind in ("inputs", "outputs")},
    }
    if options := provider_options(runtime, precision):
        document["providerOptions"] = options
    if config := session_config(runtime):
        document["sessionConfig"] = config
    if layout is not None and layout.external_data:
        document["externalData"] = list(layout.external_data)
    if safe_output is not None:
        document["safeOutput"] = _safe_output(safe_output)
    if swap is not None:
        document["swap"] = swap
    if expected is not None and (figures := expected.to_json()):
        document["expected"] = figures
    return document


def _safe_output(declared: Mapping[str, Any]) -> dict[str, Any]:
    document = {key: declared[key] for key in ("kind", "outputs") if key in declared}
    return document | ({"maxAgeS": declared["maxAge"]} if "maxAge" in declared else {})


def session_config(runtime: Mapping[str, Any]) -> dict[str, str]:
    """Return the session configuration entries of a class (onnxruntime_session_options_config_keys.h).

    >>> session_config({"threads": 2, "spinning": False})
    {'session.intra_op.allow_spinning': '0'}
    """
    # One thread has nobody to wait for.
    return {} if runtime.get("spinning", True) or runtime["threads"] == 1 else {SPINNING: "0"}


def _tensor(tensor: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": tensor["name"], "dtype": tensor["dtype"], "shape": list(tensor["shape"])}
