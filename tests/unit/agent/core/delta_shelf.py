"""Deltas between made-up artifacts on a bench's shelf, honest ones and others.

>>> offer(bench, base, target)                                    # doctest: +SKIP
>>> bench.once().outcomes[0].transfer.delta_base                  # doctest: +SKIP
'1.0.0'
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgewright.publish.delta_file import Operation, write_delta
from edgewright.publish.delta_plan import plan
from edgewright_agent.contract import (
    ANNOTATION_DELTA_BASE,
    ANNOTATION_DELTA_TARGET,
    ANNOTATION_TITLE,
    DELTA_ADD,
    DELTA_ARTIFACT,
    DELTA_CONFIG,
    DELTA_LAYER,
    canonical_json,
    digest_of,
)
from edgewright_agent.trust.approval import Delta
from unit.agent.core.workbench import MODEL, Bench, Made, make_artifact

SIZE = 200_000
RUNTIME = b'{"version":1,"threads":4}' * 40


def version(number: int, *, parent: Made | None = None) -> Made:
    """A version whose model is noise, or its parent's with a few bytes changed; the runtime is the same."""
    if parent is None:
        weights = np.random.default_rng(0).bytes(SIZE)
    else:
        changed = np.frombuffer(parent.files["model.onnx"], np.uint8).copy()
        changed[np.random.default_rng(number).integers(0, SIZE, SIZE // 500)] += 1
        weights = changed.tobytes()
    golden = f'{{"version":1,"for":"{number}.0.0"}}'.encode()
    files = {"model.onnx": weights, "runtime.json": RUNTIME, "golden.json": golden}
    return make_artifact(f"{number}.0.0", files=files)


def delta_bytes(base: bytes, target: bytes, operations: list[Operation] | None = None) -> bytes:
    """The delta from one file to another, by addition where nothing else is said."""
    if operations is None:
        same = len(base) == len(target)
        operations = [Operation(DELTA_ADD, 1, 0, len(target))] if same else plan(base, target, [])
    with tempfile.TemporaryDirectory() as folder:
        write_delta(Path(folder) / "delta", base, target, operations)
        return (Path(folder) / "delta").read_bytes()


def offer(
    bench: Bench,
    base: Made,
    target: Made,
    *,
    data: bytes | None = None,
    edit: Callable[[dict[str, Any]], None] | None = None,
    sign: bool = True,
) -> Delta:
    """Put the delta of the model on the shelf and sign it as legal.

    Args:
        data: Other bytes for the delta than the honest ones.
        edit: Spoils its manifest before that is signed.
        sign: Whether the class's role names it.
    """
    data = data if data is not None else delta_bytes(base.files["model.onnx"], target.files["model.onnx"])
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "artifactType": DELTA_ARTIFACT,
        "config": {"mediaType": DELTA_CONFIG, "digest": digest_of(b"{}"), "size": 2},
        "layers": [
            {
                "mediaType": DELTA_LAYER,
                "digest": digest_of(data),
                "size": len(data),
                "annotations": {ANNOTATION_TITLE: "model.onnx"},
            }
        ],
        "annotations": {ANNOTATION_DELTA_BASE: base.digest, ANNOTATION_DELTA_TARGET: target.digest},
    }
    if edit:
        edit(document)
    body = canonical_json(document)
    bench.shelf.manifests[MODEL, digest_of(body)] = body
    bench.shelf.blobs[digest_of(data)] = data
    delta = Delta(base.digest, digest_of(body), len(body), len(data))
    if sign:
        bench.trust.demands[target.digest] = {"deltas": (delta,)}
    return delta
