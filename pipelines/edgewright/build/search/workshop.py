"""The workshop: builds candidates of a lane and scores them; the same thing is never done twice.

>>> shop = Workshop({"trained": model_bytes}, calibration, selection, metric("accuracy"), shelf)
>>> data = shop.build(proposal)
>>> shop.scored(Candidate(proposal), data, rows=None).score            # doctest: +SKIP
Score(value=0.9889, low=0.968, high=0.996, samples=270)
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgewright.bench.conditions import conditions_report
from edgewright.bench.target.processor import host_flags, processor_name
from edgewright.build.calibrate import activation_ranges
from edgewright.build.canonical import to_bytes
from edgewright.build.metric import Drop, Metric, Score, check_finite, stratified
from edgewright.build.passes.clean import clean
from edgewright.build.passes.facts import GraphFacts, graph_facts
from edgewright.build.passes.recipe import RECIPES
from edgewright.build.samples import Network, Samples
from edgewright.build.search.candidate import FP32, TRAINED, Candidate, Proposal, Rung
from edgewright.build.search.proposals import MIXED
from edgewright.build.search.shelf import Shelf, key_of
from edgewright.errors import BuildError
from edgewright.plan.stage import tool_version

_TOOLS = (
    "onnx",
    "onnx-ir",
    "onnxruntime",
    "numpy",
)  # onnx-ir: what MatMulNBits' quantizer rewrites graphs with
# What decides how something is built or scored; a change of any of it, be it a comment, costs the shelf and never its
# truth.
_SOURCES = (
    "build/passes/*.py",
    "build/metric/*.py",
    "build/calibrate.py",
    "build/canonical.py",
    "build/samples.py",
    "build/search/workshop.py",
    "bench/conditions.py",
    "bench/field.py",
)
_KERNELS = ("sse", "ssse", "avx", "fma", "f16c", "amx")
CLEAN_VERSION = 1
_BUILT_BY = {MIXED: "static-int8"}
"""Recipes whose candidates another recipe's pass builds."""


@dataclass(frozen=True)
class Workshop:
    """Bases, samples, and what was made of them.

    Attributes:
        bases: `TRAINED` and variants, by name → fp32 ONNX, canonical.
        calibration: Samples that set ranges.
        selection: Samples that candidates are scored on.
        metric: What they are scored by.
        shelf: Where results are kept.
        labels: Names of the classes, if the model has any.
        conditions: Field conditions in the words of the YAML; floors play no part.
    """

    bases: Mapping[str, bytes]
    calibration: Samples
    selection: Samples
    metric: Metric
    shelf: Shelf = field(default_factory=Shelf)
    labels: Sequence[str] = ()
    conditions: Sequence[Mapping[str, Any]] = ()

    def build(self, proposal: Proposal) -> bytes:
        """Return the model of a proposal, serialized.

        Raises:
            BuildError: the recipe's pass fails.
        """
        base = self.bases[proposal.base]
        if proposal.recipe == FP32:
            return base
        recipe = RECIPES[_BUILT_BY.get(proposal.recipe, proposal.recipe)]
        key = key_of(
            {
                "recipe": recipe.name,
                "version": recipe.version,
                "settings": dict(proposal.settings),
                "clean": CLEAN_VERSION,
                "base": hashlib.sha256(base).hexdigest(),
                "calibration": self._fingerprints["calibration"],
                "tools": tools(),
            }
        )
        ranges = functools.partial(self.ranges, proposal.base)
        return self.shelf.get(
            key, lambda: to_bytes(recipe.build(self.cleaned(proposal.base), proposal.settings, ranges))
        )

    def cleaned(self, base: str) -> onnx.ModelProto:
        """Return the cleaned model of a base.

        Raises:
            BuildError: it cannot be cleaned up.
        """
        return onnx.load_model_from_string(self._cleaned_bytes(base))

    def facts(self, base: str) -> GraphFacts:
        """Return the facts of a base's cleaned graph."""
        return graph_facts(self.cleaned(base))

    def ranges(self, base: str, method: str) -> bytes:
        """Return the ranges of a base's activations on the calibration samples.

        Raises:
            BuildError: an activation is not finite.
        """
        source = self._cleaned_bytes(base)
        key = key_of(
            {
                "ranges": method,
                "model": hashlib.sha256(source).hexdigest(),
                "calibration": self._fingerprints["calibration"],
                "tools": tools(),
            }
        )
        inputs = self.calibration.inputs
        return self.shelf.get(
            key, lambda: activation_ranges(onnx.load_model_from_string(source), inputs, method)
        )

    def scored(self, candidate: Candidate, model: bytes, rows: int | None) -> Candidate:
        """Return a candidate with its score on `rows` selection samples (None: on all), or why it has none.

        Every label is among a few samples as evenly as there are samples of it.
        """
        rung: Rung = "full" if rows is None or rows >= len(self.selection) else "quick"
        key = key_of(
            {
                "score": self.metric.name,
                "model": hashlib.sha256(model).hexdigest(),
                "fp32": hashlib.sha256(self.bases[TRAINED]).hexdigest(),
                "selection": self._fingerprints["selection"],
                "rows": None if rung == "full" else rows,
                "labels": list(self.labels),
                "processor": processor(),
                "tools": tools(),
            }
        )
        digest = f"sha256:{hashlib.sha256(model).hexdigest()}"
        built = replace(candidate, digest=digest, size_bytes=len(model), rung="built")
        try:
            found = self.shelf.document(key, lambda: self._figures(model, None if rung == "full" else rows))
        except BuildError as error:  # not kept: a machine without memory says the same of a sound model
            return built.with_stop(str(error))
        worst = found["worstLabel"]
        return replace(
            built,
            rung=rung,
            score=Score(**found["score"]),
            drop=Drop(**found["drop"]),
            worst_label=(worst[0], worst[1]) if worst else None,
        )

    def under_conditions(self, model: bytes) -> dict[str, float]:
        """Return the score on the selection data under each field condition.

        Raises:
            BuildError: the model does not run, or a condition changes nothing.
        """
        if not self.conditions:
            return {}
        key = key_of(
            {
                "conditions": list(self.conditions),
                "metric": self.metric.name,
                "model": hashlib.sha256(model).hexdigest(),
                "selection": self._fingerprints["selection"],
                "processor": processor(),
                "tools": tools(),
            }
        )
        found: dict[str, float] = self.shelf.document(
            key,
            lambda: {
                entry["name"]: entry["value"]
                for entry in conditions_report(
                    Network(model), self.selection, self.conditions, measured=self.metric
                )["conditions"]
            },
        )
        return found

    def outputs(self, model: bytes, rows: np.ndarray | None = None) -> np.ndarray:
        """Return the first output for the selection samples, or for some of them.

        Raises:
            BuildError: onnxruntime cannot load or run the model, or an output is not finite.
        """
        network = Network(model)
        chosen = self.selection.inputs
        if rows is not None:
            chosen = {name: array[rows] for name, array in chosen.items()}
        found = network.run(chosen)
        for name, array in found.items():
            check_finite(array, f"output {name!r}")
        return found[network.outputs[0]]

    def _figures(self, model: bytes, rows: int | None) -> dict[str, object]:
        chosen = None if rows is None else stratified(self.selection.targets, rows)
        reference, targets = self.reference, self.selection.targets
        if chosen is not None:
            reference, targets = reference[chosen], targets[chosen]
        outputs = self.outputs(model, chosen)
        self.metric.check(outputs, targets, self.selection.entry, self.labels)
        labels = self.metric.per_label(outputs, reference, targets, self.labels)
        drops = {name: found.drop for name, found in labels.items() if found.drop is not None}
        worst = max(drops, key=lambda name: drops[name], default=None)
        return {
            "score": vars(self.metric.score(outputs, targets, reference)),
            "drop": vars(self.metric.drop(outputs, reference, targets)),
            "worstLabel": [worst, drops[worst]] if worst is not None else None,
        }

    @functools.cached_property
    def reference(self) -> np.ndarray:
        """Outputs of the trained network's fp32 model for all selection samples.

        Raises:
            BuildError: it does not run, or contradicts the metric, labels or targets.
        """
        outputs = self.outputs(self.bases[TRAINED])
        self.metric.check(outputs, self.selection.targets, self.selection.entry, self.labels)
        return outputs

    @functools.cached_property
    def _fingerprints(self) -> dict[str, str]:
        return {"calibration": fingerprint(self.calibration), "selection": fingerprint(self.selection)}

    @functools.cached_property
    def _cleaned(self) -> dict[str, bytes]:
        return {}

    def _cleaned_bytes(self, base: str) -> bytes:
        if base not in self._cleaned:
            data = self.bases[base]
            key = key_of(
                {"clean": CLEAN_VERSION, "model": hashlib.sha256(data).hexdigest(), "tools": tools()}
            )
            self._cleaned[base] = self.shelf.get(
                key, lambda: to_bytes(clean(onnx.load_model_from_string(data)))
            )
        return self._cleaned[base]


def fingerprint(samples: Samples) -> str:
    """Return the digest of all samples with their targets, in order."""
    digest = hashlib.sha256(np.ascontiguousarray(samples.targets).tobytes())
    for name, array in sorted(samples.inputs.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


@functools.cache
def tools() -> dict[str, str]:
    """Return what results depend on beside their inputs: versions of libraries, and our own code by its digest."""
    folder = Path(__file__).parents[2]
    code = hashlib.sha256()
    for path in sorted(path for pattern in _SOURCES for path in folder.glob(pattern)):
        code.update(
            f"{path.relative_to(folder).as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode()
        )
    return {"code": code.hexdigest(), **{name: tool_version(name) for name in _TOOLS}}


@functools.cache
def processor() -> list[str]:
    """Return what tells apart processors whose kernels may answer otherwise: int8 saturates where VNNI is missing."""
    return [processor_name(), *sorted(flag for flag in host_flags() if flag.startswith(_KERNELS))]
