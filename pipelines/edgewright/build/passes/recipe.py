"""The recipes: which pass, on which classes and graphs, in which settings, from where.

>>> recipe = RECIPES["static-int8"]
>>> recipe.refuses(class_facts, graph_facts)          # empty: it applies      # doctest: +SKIP
''
>>> [settings for settings in recipe.settings(class_facts, graph_facts)]      # doctest: +SKIP
[{'activations': 'u8', 'weights': 's8', 'operators': 'all'}, …]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx

from edgewright.build.passes.dynamic_int8 import OPERATORS, dynamic_int8
from edgewright.build.passes.facts import ClassFacts, GraphFacts
from edgewright.build.passes.fp16 import fp16
from edgewright.build.passes.static_int8 import settings_text, static_int8
from edgewright.build.passes.weight_only import EIGHT_BITS_SINCE, weight_only

Settings = Mapping[str, Any]
Ranges = Callable[[str], bytes]
"""Calibration method → ranges of the model at hand."""


@dataclass(frozen=True)
class Recipe:
    """One way to make a model smaller or faster.

    Attributes:
        name: As in `optimization.recipes`.
        precision: What an artifact made by it is called.
        source: Where the method comes from.
        refuses: Why it does not apply; empty when it does.
        settings: What is worth trying, the most promising first.
        build: Cleaned fp32 model, settings, ranges → optimized model.
        text: Settings as people write them.
        version: Raised when the same settings start to give another model.
    """

    name: str
    precision: str
    source: str
    refuses: Callable[[ClassFacts, GraphFacts], str]
    settings: Callable[[ClassFacts, GraphFacts], tuple[Settings, ...]]
    build: Callable[[onnx.ModelProto, Settings, Ranges], onnx.ModelProto]
    text: Callable[[Settings], str]
    version: int = 1


def _needs(precision: str, class_facts: ClassFacts) -> str:
    return "" if precision in class_facts.precisions else f"the hardware class lists no {precision}"


def _static_refuses(class_facts: ClassFacts, graph: GraphFacts) -> str:
    if why := _needs("int8", class_facts):
        return why
    return "" if graph.compute else "no convolution or matrix product with constant weights"


def static_settings(class_facts: ClassFacts, graph: GraphFacts) -> tuple[Settings, ...]:
    """Return the types that do not saturate on this class, for all operators and for the compute ones alone."""
    if class_facts.tensorrt:  # softmax and others would get zero points other than zero
        return ({"activations": "s8", "weights": "s8", "symmetric": True, "operators": "compute"},)
    types: list[dict[str, Any]] = [{"activations": "u8", "weights": "s8"}]
    if class_facts.saturates:
        types = [{**types[0], "reduceRange": True}, {"activations": "u8", "weights": "u8"}]
    elif class_facts.arm:
        types.append({"activations": "s8", "weights": "s8"})
    scopes = ("all", "compute") if set(graph.operators) - {"Conv", "MatMul", "Gemm"} else ("all",)
    return tuple({**chosen, "operators": scope} for chosen in types for scope in scopes)


def _products(graph: GraphFacts) -> str:
    if any(graph.weighted.get(operator) for operator in OPERATORS):
        return ""
    return "no MatMul, Gemm or Gather with constant weights"


def _dynamic_refuses(class_facts: ClassFacts, graph: GraphFacts) -> str:
    return _needs("int8", class_facts) or _integer_operators(class_facts) or _products(graph)


def _integer_operators(class_facts: ClassFacts) -> str:
    return (
        "TensorRT takes symmetric QDQ alone (TensorRT, Explicit Quantization)" if class_facts.tensorrt else ""
    )


def _weight_refuses(bits: int) -> Callable[[ClassFacts, GraphFacts], str]:
    def refuses(class_facts: ClassFacts, graph: GraphFacts) -> str:
        if why := _needs(f"int{bits}", class_facts) or _integer_operators(class_facts):
            return why
        if not (graph.weighted.get("MatMul") or graph.weighted.get("Gemm")):
            return "no MatMul or Gemm with constant weights"
        if bits == 8 and class_facts.runs_engine_before(EIGHT_BITS_SINCE):
            since = ".".join(map(str, EIGHT_BITS_SINCE))
            return f"runtime.versions allows engines before {since}, which lack 8-bit MatMulNBits"
        return ""

    return refuses


def _keep_text(settings: Settings) -> str:
    return f"{len(settings['keep'])} nodes fp32" if settings.get("keep") else ""


def _dynamic_text(settings: Settings) -> str:
    return ", ".join(filter(None, ("7-bit" if settings.get("reduceRange") else "", _keep_text(settings))))


RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "fp16", "fp16", "onnxruntime.transformers.float16",
            lambda class_facts, _graph: _needs("fp16", class_facts),
            lambda _class, _graph: ({},),
            lambda model, _settings, _ranges: fp16(model),
            lambda _settings: "",
        ),
        Recipe(
            "static-int8", "int8", "onnxruntime.quantization.quantize_static, QDQ",
            _static_refuses,
            static_settings,
            lambda model, settings, ranges: static_int8(model, settings, ranges(settings.get("method", "minmax"))),
            settings_text,
        ),
        Recipe(
            "dynamic-int8", "int8", "onnxruntime.quantization.quantize_dynamic on MatMul, Gemm and Gather",
            _dynamic_refuses,
            lambda class_facts, _graph: ({"reduceRange": class_facts.saturates},),
            lambda model, settings, _ranges: dynamic_int8(model, settings),
            _dynamic_text,
        ),
        Recipe(
            "weight-int8", "int8", "onnxruntime.quantization.matmul_nbits_quantizer, 8 bits",
            _weight_refuses(8),
            lambda _class, _graph: ({"bits": 8, "blockSize": 32},),
            lambda model, settings, _ranges: weight_only(model, settings),
            lambda settings: f"blocks of {settings['blockSize']}",
        ),
        Recipe(
            "weight-int4", "int4", "onnxruntime.quantization.matmul_nbits_quantizer, 4 bits",
            _weight_refuses(4),
            lambda _class, _graph: ({"bits": 4, "blockSize": 32},),
            lambda model, settings, _ranges: weight_only(model, settings),
            lambda settings: f"blocks of {settings['blockSize']}",
        ),
    )
}  # fmt: skip
"""Recipes made of one pass; `mixed-int8` is found by measuring (`edgewright.build.search.sensitivity`)."""
