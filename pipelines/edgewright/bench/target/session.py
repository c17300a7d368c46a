"""What a probe is told of an artifact's runtime manifest: all that decides how its session is opened.

>>> session_of({"providers": ["CPUExecutionProvider"], "arena": True, …})     # doctest: +SKIP
{'providers': ['CPUExecutionProvider'], 'arena': True, 'graphOptimization': 'extended', …}

Threads are not among it: instructions and memory are those of one thread, whatever the class runs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

Options = Mapping[str, Mapping[str, str]]
DEVICE = "device_type"  # OpenVINO: options of another device mean nothing on the one that is here


def session_of(settings: Mapping[str, Any], providers: Sequence[str] | None = None) -> dict[str, Any]:
    """Return the part of a probe's request that opens a session as `settings` say.

    Args:
        settings: `runtime.json`.
        providers: Instead of those in it.
    """
    wanted = list(settings["providers"] if providers is None else providers)
    told = settings.get("providerOptions", {})
    return {
        "providers": wanted,
        "providerOptions": {name: dict(told[name]) for name in wanted if name in told},
        "arena": settings["arena"],
        "memoryPattern": settings.get("memoryPattern", True),
        "graphOptimization": settings["graphOptimization"],
        "sessionConfig": dict(settings.get("sessionConfig", {})),
    }


def files_of(model: Path, data: Path | None = None) -> dict[str, str]:
    """Return the part of a probe's request that names the model's files: `model`, and `data` beside it."""
    return {"model": str(model.absolute()), **({"data": str(data.absolute())} if data else {})}


def size_of(model: Path, data: Path | None = None) -> int:
    """Return the size of a model in bytes, weights included wherever they lie."""
    return model.stat().st_size + (data.stat().st_size if data else 0)


def merged(told: Options, held: Options) -> dict[str, dict[str, str]]:
    """Return the options that providers get in a target: what it holds them to goes before what the class says.

    >>> merged({"P": {"num_streams": "2", "num_of_threads": "4"}}, {"P": {"num_of_threads": "1"}})
    {'P': {'num_streams': '2', 'num_of_threads': '1'}}
    """
    return {
        name: {
            **({} if _elsewhere(told.get(name, {}), held.get(name, {})) else told.get(name, {})),
            **held.get(name, {}),
        }
        for name in {**told, **held}
    }


def not_run_here(settings: Mapping[str, Any], ran: Collection[str], held: Options) -> list[str]:
    """Return, in sentences, what the manifest says of providers and no target has done.

    Args:
        settings: `runtime.json`.
        ran: Providers that ran here.
        held: What the targets held them to.
    """
    notes = []
    told: Options = settings.get("providerOptions", {})
    for name in settings["providers"]:
        options = told.get(name, {})
        if name not in ran:
            said = ", ".join(f"{key}={value}" for key, value in sorted(options.items()))
            notes.append(f"declared, not run here: {name}" + (f" with {said}" if said else ""))
            continue
        used = merged({name: options}, held)[name]
        changed = {
            key: (value, used.get(key)) for key, value in sorted(options.items()) if used.get(key) != value
        }
        notes += [
            f"declared, not run here: {name} with {key}={value}"
            + (f" (ran with {instead})" if instead is not None else "")
            for key, (value, instead) in changed.items()
        ]
    return notes


def _elsewhere(told: Mapping[str, str], held: Mapping[str, str]) -> bool:
    return DEVICE in told and DEVICE in held and told[DEVICE] != held[DEVICE]
