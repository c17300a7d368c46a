"""What an application calls: the model this device runs now, under the settings it was tested with.

>>> model = open_model("digit-reader")                    # doctest: +SKIP
>>> model.run({"image": pixels})["scores"].argmax()       # doctest: +SKIP
7
>>> answer = model.answer({"image": pixels}, key="camera-2")   # doctest: +SKIP
>>> answer.labels, answer.version, answer.rung            # doctest: +SKIP
(('seven',), '1.2.0', 'normal')

No daemon is needed to infer. An update is loaded in the background and takes over between two requests; a model that
cannot be loaded does not; one that fails is replaced by the next on the degraded-mode ladder, in the same call. Needs
the `[runtime]` extra; safe to share between threads, and to keep across a fork.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgewright_agent.config import DEFAULT_STATE
from edgewright_agent.contract import is_name
from edgewright_agent.engine import EngineError, InferenceError, InputError, Port
from edgewright_agent.errors import AgentError, ConfigError
from edgewright_agent.runtime.account import ExperimentFigures
from edgewright_agent.runtime.change import Change
from edgewright_agent.runtime.experiment import Comparison
from edgewright_agent.runtime.safe import NoDecisionError
from edgewright_agent.runtime.session import Answer, Session
from edgewright_agent.runtime.tally import Figures
from edgewright_agent.runtime.walk import AUTO, SWAPS

__all__ = [
    "AgentError",
    "Answer",
    "Change",
    "Comparison",
    "EngineError",
    "ExperimentFigures",
    "Figures",
    "InferenceError",
    "InputError",
    "NoDecisionError",
    "Port",
    "Session",
    "open_model",
]


def open_model(
    name: str,
    state: str | Path = DEFAULT_STATE,
    *,
    on_swap: Callable[[Change], None] | None = None,
    on_comparison: Callable[[Comparison], None] | None = None,
    swap: str = AUTO,
) -> Session:
    """Open the model a device runs under `name`.

    Args:
        name: As `edgewright-agent status` lists it.
        state: The agent's state directory.
        on_swap: Called with every change of what answers: an update, a rollback, a step down or up the ladder. From
            a background thread, or from the one whose request failed.
        on_comparison: Called with every request both models of a shadow experiment have seen, from its thread.
        swap: `beside`: an update is loaded while the old model serves, and both are in memory for that moment.
            `after-release`: the old one is let go of first, and requests wait until the new one is loaded.
            `auto`: the model's manifest and the memory that is free decide.

    Raises:
        ConfigError: `no-model` when none is installed, `not-permitted` when this user may not read it, `bad-config`
            when the name is not one.
        EngineError: the engine is missing or out of range.
        HealthError: the engine rejects the model, nothing else can answer, and no safe output is declared.
    """
    if not is_name(name):
        raise ConfigError("bad-config", f"not a model name: {name!r}")
    if swap not in SWAPS:
        raise ConfigError("bad-config", f"swap is {swap!r}, not one of {', '.join(SWAPS)}")
    return Session(name, Path(state), on_swap=on_swap, on_comparison=on_comparison, swap=swap)
