"""How an artifact's model lies in files: one file, or graph and weights apart, as a class with little memory needs.

>>> layout = choose_layout(hardware, model)                   # doctest: +SKIP
>>> layout.external_data, layout.why                          # doctest: +SKIP
(('model.onnx.data',), '90 MB of weights in a file of their own: …')
>>> for name, data in apply(layout, model).items():           # doctest: +SKIP
...     (job.out / name).write_bytes(data)

ONNX Runtime maps weights from a file of their own instead of parsing and copying them. Measured with 1.31.1 on x86-64,
one thread: a 90 MB fp32 model loads in 57 to 78 ms with 51 MB resident, from a single file in 187 ms with 126 MB; one
of 16 MiB loads in 15 ms in place of 47 and peaks 5 MiB lower. Small models gain nothing, so they stay as they are.

Not among the layouts: a graph saved after optimization, and prepacked weights. Both hold operators and orders of the
engine that wrote them, and a class names a range of engines (docs/adr/0009).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from edgewright.build.canonical import to_bytes
from edgewright.errors import BuildError
from edgewright_agent.contract import FILE_DATA, FILE_MODEL

MIN_WEIGHTS_BYTES = 8 * 2**20
"""Weights that are laid apart on any class: half of the smallest model for which a gain was measured."""
MIN_SHARE = 1 / 16
"""Share of the memory left to models from which on weights are laid apart, where a class has little."""
MIN_SHARE_BYTES = 2**20
MIN_TENSOR_BYTES = 4096
"""Smaller tensors stay in the graph: one takes a page of the mapping at least."""
PAGE_BYTES = 4096
MAPPING = {"CPUExecutionProvider", "OpenVINOExecutionProvider"}
"""Providers seen to open such a model; the others run nowhere here."""


@dataclass(frozen=True)
class Layout:
    """How a model is laid out.

    Attributes:
        external_data: Files beside `model.onnx` that hold its weights; none: they are in it.
        why: The reason, in words.
    """

    external_data: tuple[str, ...] = ()
    why: str = ""


SINGLE = Layout(why="one file")


def choose_layout(hardware: Mapping[str, Any], model: bytes) -> Layout:
    """Return the layout that suits a class.

    Args:
        hardware: The class in the words of its YAML, quantities in base units: `memory`, `runtime`.
        model: The serialized model, weights inside.
    """
    weights = sum(len(tensor.raw_data) for tensor in _large(onnx.load_model_from_string(model)))
    available = int(hardware["memory"]["forModels"])
    told = f"{weights / 1e6:.1f} MB of weights"
    if others := [name for name in hardware["runtime"]["providers"] if name not in MAPPING]:
        return Layout(why=f"one file: {others[0]} was not seen to map weights from another")
    if weights >= MIN_WEIGHTS_BYTES:
        return Layout((FILE_DATA,), f"{told} in a file of their own: mapped, they load faster and once only")
    if weights >= max(MIN_SHARE_BYTES, MIN_SHARE * available):
        share = f"{weights / available:.0%}".replace("%", " %")
        return Layout((FILE_DATA,), f"{told} in a file of their own: {share} of the memory left to models")
    return Layout(why=f"one file: {told} are too few to gain by a second one")


def apply(layout: Layout, model: bytes) -> dict[str, bytes]:
    """Return the files of a model, by name.

    Args:
        layout: From `choose_layout`.
        model: The serialized model, weights inside, as `canonical.to_bytes` gives it.
    """
    if not layout.external_data:
        return {FILE_MODEL: model}
    proto, data = onnx.load_model_from_string(model), bytearray()
    for tensor in _large(proto):
        data += bytes(-len(data) % PAGE_BYTES)
        places = {"location": FILE_DATA, "offset": str(len(data)), "length": str(len(tensor.raw_data))}
        data += tensor.raw_data
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.extend(onnx.StringStringEntryProto(key=k, value=v) for k, v in places.items())
    # A layer may not be empty.
    return {FILE_MODEL: to_bytes(proto), FILE_DATA: bytes(data)} if data else {FILE_MODEL: model}


def restore(files: Mapping[str, bytes]) -> bytes:
    """Return the serialized model with its weights inside: what `apply` was given.

    Raises:
        BuildError: the weights are missing, or not where the graph says.
    """
    model = files[FILE_MODEL]
    data = files.get(FILE_DATA)
    if data is None:
        return model
    proto = onnx.load_model_from_string(model)
    for tensor in proto.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            places = {entry.key: entry.value for entry in tensor.external_data}
            offset, length = int(places.get("offset", 0)), int(places.get("length", 0))
            if places.get("location") != FILE_DATA or offset + length > len(data):
                raise BuildError(
                    f"{FILE_MODEL} looks for {tensor.name!r} where {FILE_DATA} has nothing",
                    hint="model and weights must come from one run: edgewright run",
                )
            tensor.ClearField("data_location")
            tensor.ClearField("external_data")
            tensor.raw_data = data[offset : offset + length]
    return to_bytes(proto)


def whole(inputs: Mapping[str, Path], stage: str = "optimized") -> bytes:
    """Return the model that a stage left, weights inside.

    Args:
        inputs: A job's files.
        stage: The stage.
    """
    names = (FILE_MODEL, FILE_DATA)
    return restore({n: inputs[f"{stage}/{n}"].read_bytes() for n in names if f"{stage}/{n}" in inputs})


def _large(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield the weights that are worth laying apart, in the order of the graph."""
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) >= MIN_TENSOR_BYTES:
            yield tensor
