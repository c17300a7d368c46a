"""Clean-up: constants folded, shapes inferred, every node named; what all quantizers begin with.

>>> cleaned = clean(model)
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx

from edgewright.build.canonical import canonical, to_bytes
from edgewright.errors import BuildError


def clean(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model` with constants folded (ONNX Runtime's basic optimizations, which keep to standard operators).

    Raises:
        BuildError: onnxruntime cannot read the model.
    """
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(prefix="edgewright-clean-") as scratch, quiet():
        source, prepared = Path(scratch) / "model.onnx", Path(scratch) / "clean.onnx"
        source.write_bytes(to_bytes(model))
        try:
            # Symbolic shape inference adds nothing here and fails on models it does not know.
            quant_pre_process(source, prepared, skip_symbolic_shape=True)
        except Exception as error:  # onnxruntime raises whatever went wrong inside
            raise BuildError(f"the graph cannot be cleaned up: {type(error).__name__}: {error}") from error
        return canonical(named(onnx.load(prepared)))


def named(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model` with a name of its own for every node: quantizers address nodes by name."""
    taken: set[str] = set()
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{index}"
        taken.add(node.name)
    return model


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the quantizers' advice, which they give to the root logger, off the terminal."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)
