"""A device with models in its store, and engines that break on command, for tests of what applications hold.

>>> device = Device(tmp_path)                                         # doctest: +SKIP
>>> device.install(ONE); device.install(TWO, weights=-WEIGHTS)        # doctest: +SKIP
>>> device.activate(ONE)                                              # doctest: +SKIP
>>> device.session(loader=Accelerated()).run({"image": PIXELS})       # doctest: +SKIP
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgewright_agent.engine import Engine, InferenceError, load
from edgewright_agent.errors import HealthError
from edgewright_agent.files import Disk
from edgewright_agent.model_state import ModelState, Slot, Tombstone
from edgewright_agent.record import Ledger, Record
from edgewright_agent.runtime.resident import OnnxRuntime
from edgewright_agent.runtime.session import Session
from edgewright_agent.store import Store
from unit.agent.core import onnx_artifact
from unit.agent.core.onnx_artifact import PIXELS, WEIGHTS, scores

MODEL = "digit-reader"
ONE, TWO, THREE = ("sha256:" + digit * 64 for digit in "123")
# The models of the tests differ in their weights, so that an answer tells who gave it.
BY_DIGEST = {ONE: WEIGHTS, TWO: -WEIGHTS, THREE: WEIGHTS[::-1]}
GPU, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
INPUTS = {"image": PIXELS}


class Device:
    """A state directory."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.models = ModelState()
        Ledger(state, Disk()).reanchor(Record())

    def install(self, digest: str, **changes: Any) -> Path:
        """Put a model into the store, made for the processor unless `providers` says otherwise."""
        changes = {"weights": BY_DIGEST[digest], "providers": [CPU], **changes}
        return onnx_artifact.write(self.folder(digest), **changes)

    def folder(self, digest: str) -> Path:
        return Store(self.state, Disk()).path(digest)

    def activate(
        self,
        digest: str,
        *,
        previous: str | None = None,
        factory: str | None = None,
        health: Mapping[str, Any] | None = None,
    ) -> None:
        """Make a model the active one, as the agent does: the record, then the link."""
        slots = {
            name: Slot(value, f"{value[7]}.0.0", "2030-01-01T00:00:00Z", health)
            for name, value in (("active", digest), ("previous", previous), ("factory", factory))
            if value
        }
        self.record(replace(self.models, **{"previous": None, **slots}))
        Store(self.state, Disk()).link(MODEL, digest)

    def give_up(self, digest: str) -> None:
        """Put up a tombstone."""
        self.record(
            self.models.entomb(Tombstone(digest, "9", "health-crash", "it crashed", "2030-01-01T00:00:00Z"))
        )

    def record(self, models: ModelState) -> None:
        self.models = models
        ledger = Ledger(self.state, Disk())
        ledger.commit(ledger.record.with_model(MODEL, models))

    def experiment(self, **changes: Any) -> None:
        """Write what the agent writes for an experiment of TWO beside ONE."""
        path = self.state / "experiments" / f"{MODEL}.json"
        path.parent.mkdir(exist_ok=True)
        told = {
            "version": 1,
            "model": MODEL,
            "name": "bigger",
            "kind": "shadow",
            "share": 1.0,
            "digest": TWO,
            "active": ONE,
            "device": "pump-7",
            **changes,
        }
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(told))
        fresh.replace(path)

    def end_experiment(self) -> None:
        (self.state / "experiments" / f"{MODEL}.json").unlink()

    def session(self, **options: Any) -> Session:
        return Session(MODEL, self.state, **options)


class Clock:
    """A monotonic clock that tests move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class EPFail(Exception):
    """What onnxruntime raises when a provider fails."""


class Fail(Exception):
    """What onnxruntime raises when something fails."""


class Accelerated(OnnxRuntime):
    """The real engine behind an accelerator that can break: `loads`, `fails` (with what) or `talks` nonsense."""

    def __init__(self) -> None:
        self.starts = True
        self.fails: Exception | None = None
        self.nonsense = False
        self.loaded: list[tuple[str, str, tuple[str, ...] | None]] = []
        self.broken: set[str] = set()
        """Digests whose models fail on the CPU as well."""
        self.before_load: Callable[[str], None] = lambda _digest: None

    def available(self) -> tuple[str, ...]:
        return (GPU, CPU)

    def load(self, folder: Path, *, variant: str, providers: tuple[str, ...] | None) -> Engine:
        digest = "sha256:" + folder.name
        self.before_load(digest)
        self.loaded.append((digest, variant, providers))
        on_gpu = bool(providers) and providers is not None and providers[0] == GPU
        if on_gpu and not self.starts:
            raise HealthError(
                "health-crash", "onnxruntime rejects the model: no CUDA-capable device is detected"
            )
        engine = load(folder, variant=variant, providers=(CPU,))
        return _Wrapped(engine, self, digest, on_gpu)


class _Wrapped(Engine):
    def __init__(self, engine: Engine, loader: Accelerated, digest: str, on_gpu: bool) -> None:
        self._engine, self._loader, self._digest, self._on_gpu = engine, loader, digest, on_gpu
        self.inputs, self.outputs = engine.inputs, engine.outputs
        self.providers = (GPU, CPU) if on_gpu else (CPU,)

    def infer(self, inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        loader = self._loader
        if (self._on_gpu and loader.fails) or self._digest in loader.broken:
            cause = loader.fails or Fail("it does not run")
            raise InferenceError("inference-failed", str(cause)) from cause
        outputs = self._engine.infer(inputs)
        if self._on_gpu and loader.nonsense:
            return {name: np.full_like(array, np.nan) for name, array in outputs.items()}
        return outputs


def who(outputs: dict[str, np.ndarray[Any, Any]]) -> str | None:
    """Return the digest of the model whose answer to PIXELS this is."""
    for digest, weights in BY_DIGEST.items():
        if np.allclose(outputs["scores"], scores(PIXELS, weights), atol=1e-5):
            return digest
    return None


def until(claim: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for what happens in the background."""
    ends = time.monotonic() + seconds
    pause = threading.Event()
    while not claim():
        assert time.monotonic() < ends, "it never came true"
        pause.wait(0.002)
