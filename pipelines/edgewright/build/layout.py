"""How an artifact's model lies in files: one file, or graph and weights apart, as a class with little memory needs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """How a model is laid out.

    Attributes:
        external_data: Files beside `model.onnx` that hold its weights; none: they are in it.
        saved_graph: Whether the graph was optimized before it was saved, so that a device need not do it at each load.
        why: The reason, in words.
    """

    external_data: tuple[str, ...] = ()
    saved_graph: bool = False
    why: str = ""


SINGLE = Layout()
