"""Samples: what a model's data functions return, checked, and the session they are fed to.

>>> samples = load(ModelCode(folder), "data:test", signature)
>>> outputs = Network(model_bytes).run(samples.inputs)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgewright.build.entry import ModelCode
from edgewright.build.metric import check_finite
from edgewright.errors import BuildError

Arrays = Mapping[str, np.ndarray]
BATCH = 64  # samples per inference where the count is up to us: enough to be fast, little memory


@dataclass(frozen=True)
class Samples:
    """Inputs by name, first dimension = samples, and the target class of each.

    Attributes:
        entry: Where they come from, for messages.
    """

    entry: str
    inputs: Arrays
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)

    def digests(self) -> list[bytes]:
        """Return one digest per sample over the bytes of all its inputs."""
        names = sorted(self.inputs)
        return [
            hashlib.sha256(
                b"".join(np.ascontiguousarray(self.inputs[name][i]).tobytes() for name in names)
            ).digest()
            for i in range(len(self))
        ]


def load(code: ModelCode, entry: str, signature: Mapping[str, Any]) -> Samples:
    """Call a data function and check what it returns.

    Args:
        code: The model's folder.
        entry: `module:function` without parameters that returns `(inputs, targets)`.
        signature: `inputs` as in `model.yaml`.

    Raises:
        BuildError: it returns something else, or names, types or shapes that contradict the signature, NaN or
            infinity, or no samples at all; says what was expected and what was found.
    """
    found = code.call(entry)
    if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], Mapping)):
        raise BuildError(
            f"{entry} must return (inputs, targets): a dict of arrays and an array; found {_kind(found)}"
        )
    inputs = {str(name): np.asarray(array) for name, array in found[0].items()}
    targets = np.asarray(found[1])
    wanted = [tensor["name"] for tensor in signature["inputs"]]
    if sorted(inputs) != sorted(wanted):
        raise BuildError(f"{entry} gives inputs {sorted(inputs)}; the signature names {sorted(wanted)}")
    if targets.ndim != 1 or not np.issubdtype(targets.dtype, np.integer) or len(targets) == 0:
        raise BuildError(
            f"{entry} gives targets {targets.dtype}{list(targets.shape)};"
            " expected one integer per sample, and at least one sample"
        )
    for tensor in signature["inputs"]:
        check_array(inputs[tensor["name"]], tensor, f"{entry}: input {tensor['name']!r}", len(targets))
    return Samples(entry, inputs, targets.astype(np.int64))


def check_array(array: np.ndarray, tensor: Mapping[str, Any], what: str, count: int) -> None:
    """Check type, shape and finiteness of `count` samples of one tensor of the signature.

    Raises:
        BuildError: names what was expected and what was found.
    """
    # A tensor without `batch` describes one sample whose first dimension is fixed to what the network takes
    # at once.
    shape = [count if size == "batch" else size for size in tensor["shape"]]
    if tensor["shape"][0] != "batch":
        raise BuildError(
            f"{what}: the signature's shape {tensor['shape']} has no batch dimension to hold samples"
        )
    if str(array.dtype) != tensor["dtype"] or list(array.shape) != shape:
        raise BuildError(
            f"{what} is {array.dtype}{list(array.shape)}; the signature says {tensor['dtype']}{shape}"
        )
    check_finite(array, what)


class Network:
    """An ONNX model in a session made for equal results: CPU provider, one thread.

    Args:
        model: The serialized model.

    Raises:
        BuildError: onnxruntime cannot load it.
    """

    def __init__(self, model: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            raise BuildError(f"onnxruntime cannot load the model: {error}") from error
        self.outputs = tuple(output.name for output in self._session.get_outputs())
        # Such a model takes the range of an activation over the whole batch: a sample's answer would depend on its
        # neighbours. Devices infer one sample at a time.
        self.batch = 1 if b"DynamicQuantizeLinear" in model else BATCH

    def run(self, inputs: Arrays, *, batch: int | None = None) -> dict[str, np.ndarray]:
        """Return every output for every sample, `batch` samples at a time; as many as the model bears when None.

        Raises:
            BuildError: the model refuses the inputs.
        """
        count, batch = len(next(iter(inputs.values()))), batch or self.batch
        parts = []
        for start in range(0, count, batch):
            feed = {name: array[start : start + batch] for name, array in inputs.items()}
            try:
                parts.append(self._session.run(None, feed))
            except Exception as error:
                raise BuildError(f"the model fails on its inputs: {error}") from error
        return {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(self.outputs)}


def _kind(value: object) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {', '.join(type(item).__name__ for item in value)}"
    return type(value).__name__
