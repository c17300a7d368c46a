"""What an application calls: the model this device runs now, under the settings it was tested with.

>>> model = open_model("digit-reader")                    # doctest: +SKIP
>>> model.run({"image": pixels})["scores"].argmax()       # doctest: +SKIP
7
>>> model.labels[7], model.digest                         # doctest: +SKIP
('seven', 'sha256:ab12…')

No daemon is needed to infer. When an update commits, the next `run` uses the new model; one that
cannot be loaded is not swapped in. Needs the `[runtime]` extra; safe to share between threads.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgewright_agent.config import DEFAULT_STATE
from edgewright_agent.contract import is_name
from edgewright_agent.engine import Engine, Port, check_inputs, load, load_labels
from edgewright_agent.errors import AgentError, ConfigError

if TYPE_CHECKING:
    from edgewright_agent.engine import Array, Arrays

log = logging.getLogger("edgewright")


@dataclass(frozen=True)
class _Loaded:
    target: str
    engine: Engine
    labels: tuple[str, ...]


class Session:
    """The current model of one name."""

    def __init__(self, name: str, state: Path) -> None:
        self.name = name
        self._link = state / "current" / name
        self._lock = threading.Lock()
        self._rejected: str | None = None
        self._loaded = self._load(self._target())

    @property
    def digest(self) -> str:
        """Digest of the artifact in use."""
        return "sha256:" + Path(self._loaded.target).name

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names of the last output; empty when the model has none."""
        return self._loaded.labels

    @property
    def inputs(self) -> tuple[Port, ...]:
        """Names, dtypes and shapes the model takes; None is a free dimension."""
        return self._loaded.engine.inputs

    @property
    def providers(self) -> tuple[str, ...]:
        """Execution providers in use."""
        return self._loaded.engine.providers

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """Infer one batch.

        Args:
            inputs: Arrays by input name, of exactly the dtypes and shapes in `self.inputs`.

        Raises:
            InputError: `bad-input`.
            InferenceError: `inference-failed`.
        """
        loaded = self._newest()
        return loaded.engine.infer(check_inputs(loaded.engine.inputs, inputs))

    def _newest(self) -> _Loaded:
        """Return the model `current` points at, swapping when it has changed: one readlink per call."""
        try:
            target = self._target()
        except AgentError:
            return self._loaded
        if target not in (self._loaded.target, self._rejected):
            with self._lock:
                if target not in (self._loaded.target, self._rejected):
                    try:
                        self._loaded = self._load(target)
                        self._rejected = None
                    except AgentError as error:
                        self._rejected = target
                        log.warning("%s stays on %s: %s", self.name, self.digest, error)
        return self._loaded

    def _target(self) -> str:
        try:
            return str(self._link.readlink())
        except OSError:
            raise ConfigError(
                "no-model", f"{self._link} does not exist: no {self.name} has been installed here yet"
            ) from None

    def _load(self, target: str) -> _Loaded:
        # Through the target, not the link: the link may move between two files.
        folder = self._link.parent / target
        return _Loaded(target, load(folder), load_labels(folder))


def open_model(name: str, state: str | Path = DEFAULT_STATE) -> Session:
    """Open the model a device runs under `name`.

    Raises:
        ConfigError: `no-model` when none is installed, `bad-config` when the name is not one.
        HealthError: the engine is missing, out of range, or rejects the model.
    """
    if not is_name(name):
        raise ConfigError("bad-config", f"not a model name: {name!r}")
    return Session(name, Path(state))
