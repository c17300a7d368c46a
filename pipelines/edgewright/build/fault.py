"""Where a network stands in the way of its own export: the operator, and the line of the author's code.

torch's exporter answers with pages about itself. What a person needs is in it, or in the frames it was raised
from: which operator ONNX lacks, which line branches on data, which line fixes the batch, which one makes the
first NaN.

>>> raise refusal(error, network, signature, folder)
BuildError: models/tiny/network.py:9: torch cannot export prims.bessel_j0 (node bessel_j0): ONNX has no such operator
"""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import re
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from edgewright.errors import BuildError

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')
_DATA_DEPENDENT = re.compile(r"data-dependent|GuardOnDataDependent", re.IGNORECASE)


def refusal(
    error: BaseException, network: torch.nn.Module, signature: Mapping[str, Any], folder: Path | None
) -> BuildError:
    """Return what to tell about an exception of `torch.onnx.export`.

    Args:
        error: What it raised.
        network: What it was asked to export.
        signature: As in `model.yaml`.
        folder: The model's folder; lines in it are the author's own.
    """
    chain = list(_causes(error))
    root = chain[-1]
    node = next((found for cause in chain if (found := _node(cause.__traceback__)) is not None), None)
    if node is not None:
        place = _line(str(node.meta.get("stack_trace") or node.stack_trace or ""), folder)
        return BuildError(
            f"{_prefix(place)}torch cannot export {_operator(node)} (node {node.name}{_module(node)}):"
            f" {_said(root)}",
            hint="write it with operators that ONNX has, or export it yourself and name the .onnx file in `checkpoint`",
        )
    place = next((found for cause in reversed(chain) if (found := _raised_at(cause, folder))), None)
    if any(_DATA_DEPENDENT.search(f"{type(cause).__name__} {cause}") for cause in chain):
        return BuildError(
            f"{_prefix(place)}torch cannot export the network: what it does next depends on the data"
            f" ({_said(root)})",
            hint="torch.where keeps both branches in the graph; sizes must not be computed from values",
        )
    return BuildError(
        f"{_prefix(place)}torch cannot export the network: {_said(root)}",
        hint="the signature's inputs are the arguments of the network's forward, in order",
    )


def frozen_batch(
    network: torch.nn.Module, examples: Sequence[tuple[torch.Tensor, ...]], folder: Path | None
) -> str | None:
    """Return which line makes the network work for one number of samples only, None when it cannot be told.

    Args:
        network: Exported with a batch that became a constant.
        examples: Inputs for the exported number of samples, and for another one.
        folder: The model's folder.
    """
    with silent():
        for place in _guards(network, examples[0], folder):
            return place
        try:
            with torch.no_grad():
                network(*examples[1])
        except Exception as error:  # noqa: BLE001  (whatever the author's code raises for another number)
            return _raised_at(error, folder)
    return None


def first_not_finite(
    network: torch.nn.Module, inputs: tuple[torch.Tensor, ...], folder: Path | None
) -> str | None:
    """Return the operator that makes the first NaN (without one: the first infinity), with its line if it is known."""
    for test in (torch.isnan, torch.isinf):
        with _Watch(test, folder) as watch, torch.no_grad():
            network(*inputs)
        if watch.found:
            return str(watch.found)
    return None


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Keep the exporter's progress, advice and dumps of graphs off the terminal."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


class _Watch(TorchDispatchMode):  # type: ignore[misc]
    """Looks at what every operator gives, until the first value that is not finite."""

    def __init__(self, test: Any, folder: Path | None) -> None:
        super().__init__()
        self.found: str | None = None
        self._test, self._folder = test, folder

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        values = result if isinstance(result, tuple | list) else (result,)
        bad = any(
            isinstance(value, torch.Tensor) and value.is_floating_point() and bool(self._test(value).any())
            for value in values
        )
        if bad and self.found is None:
            frames = [
                (frame.filename, frame.lineno)
                for frame in inspect.stack()
                if _inside(frame.filename, self._folder)
            ]
            place = _written(*frames[0], self._folder) if frames else None
            self.found = (
                f"{func.name().removeprefix('aten::').partition('.')[0]}{f' at {place}' if place else ''}"
            )
        return result


def _guards(network: torch.nn.Module, inputs: tuple[torch.Tensor, ...], folder: Path | None) -> Iterator[str]:
    """Yield the author's lines that compared a size with a number while the network was traced."""
    try:
        free = tuple({0: torch.export.Dim.AUTO} for _ in inputs)
        program = torch.export.export(network, inputs, dynamic_shapes=free, strict=False)
    except Exception:  # noqa: BLE001  (a diagnosis must not hide what it is to explain)
        return
    for node in program.graph.nodes:
        mode = getattr(node.meta.get("val"), "fake_mode", None)
        if mode is not None and mode.shape_env is not None:
            for guard in mode.shape_env.guards:
                for location in (guard.sloc.maybe_user_loc, guard.sloc.framework_loc):
                    name, line = getattr(location, "filename", None), getattr(location, "lineno", None)
                    if name and _inside(name, folder):
                        yield _written(name, line, folder)
            return


def _causes(error: BaseException) -> Iterator[BaseException]:
    while True:
        yield error
        if error.__cause__ is None:
            return
        error = error.__cause__


def _node(frames: TracebackType | None) -> torch.fx.Node | None:
    """Return the graph node that was being translated: the exporter names it in its frames only."""
    found = None
    for frame, _ in traceback.walk_tb(frames):
        node = frame.f_locals.get("node")
        if isinstance(node, torch.fx.Node) and node.op == "call_function":
            found = node
    return found


def _operator(node: torch.fx.Node) -> str:
    return str(node.target).removesuffix(".default")


def _module(node: torch.fx.Node) -> str:
    """Return the innermost module a node belongs to, in words."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    if not stack or not stack[-1][0]:
        return ""
    path, kind = stack[-1]
    name = kind if isinstance(kind, str) else kind.__name__
    return f" of module {str(path).removeprefix('L__self___')}, {name.rpartition('.')[2]}"


def _raised_at(error: BaseException, folder: Path | None) -> str | None:
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if _inside(frame.filename, folder):
            return _written(frame.filename, frame.lineno, folder)
    return _line(str(error), folder)


def _line(text: str, folder: Path | None) -> str | None:
    """Return the last line of the author's code in a printed stack."""
    found = [match for match in _FRAME.finditer(text) if _inside(match["file"], folder)]
    return _written(found[-1]["file"], int(found[-1]["line"]), folder) if found else None


def _inside(file: str, folder: Path | None) -> bool:
    return folder is not None and file.startswith(f"{folder.resolve()}/")


def _written(file: str, line: int | None, folder: Path | None) -> str:
    """Return a place as the YAML's own messages write it: `models/<name>/network.py:9`."""
    root = folder.resolve().parent.parent if folder else Path("/")
    return f"{Path(file).relative_to(root).as_posix()}:{line}"


def _prefix(place: str | None) -> str:
    return f"{place}: " if place else ""


def _said(error: BaseException) -> str:
    if type(error).__name__ == "DispatchError":
        return "ONNX has no such operator"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
