"""How an artifact wants to be opened: its `runtime.json`, checked, and everything in it applied to a session.

>>> settings = read(store.path(digest))                                         # doctest: +SKIP
>>> options = settings.session_options(onnxruntime)                             # doctest: +SKIP
>>> settings.providers_of(onnxruntime, caches=Path("/var/lib/edgewright/engines/ab12…"))   # doctest: +SKIP
[('TensorrtExecutionProvider', {'trt_fp16_enable': 'True', …}), 'CPUExecutionProvider']

Unknown keys are left alone: a newer pipeline may say more than this agent knows. A value that makes no sense is
refused, because a model opened otherwise than it was measured is another model.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from edgewright_agent import safe_output
from edgewright_agent.contract import (
    FILE_CPU_MODEL,
    FILE_CPU_RUNTIME,
    FILE_DATA,
    FILE_MODEL,
    FILE_RUNTIME,
)
from edgewright_agent.errors import AgentError, HealthError
from edgewright_agent.safe_output import SafeOutput

VERSION = 1
VARIANTS = {"": (FILE_MODEL, FILE_RUNTIME), "cpu": (FILE_CPU_MODEL, FILE_CPU_RUNTIME)}  # model, settings
BESIDE, AFTER_RELEASE = SWAPS = ("beside", "after-release")
LEVELS = {
    "disabled": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
MAX_ENTRIES = 64
MAX_THREADS = 512
MAX_FIGURE = 1e18

# Provider → option that switches a cache on → option that says where it lies.
_CACHES = {
    "TensorrtExecutionProvider": {
        "trt_engine_cache_enable": "trt_engine_cache_path",
        "trt_timing_cache_enable": "trt_timing_cache_path",
    }
}
_ON = ("True", "true", "1")
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,127}")
# Where to read or write on this device, and whose code to load: nothing that an artifact may decide.
_PLACES = re.compile(r"(^|_|\.)(path|paths|dir|directory|folder|file|filename|lib|library)$", re.IGNORECASE)
T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """A checked `runtime.json`.

    Attributes:
        versions: Range of onnxruntime versions.
        providers: Execution providers in order of preference.
        options: Provider → its options.
        threads: Intra-op threads.
        arena: Whether the CPU arena is used.
        memory_pattern: Whether memory is planned ahead.
        optimization: A key of `LEVELS`.
        config: Session configuration entries.
        external_data: Files with weights, beside the model.
        expected: `loadMs` and `memoryBytes`, where the pipeline says what to expect.
        safe_output: What applications get when no model can be used.
        swap: How applications take the model up, one of `SWAPS`; empty: as the memory they find allows.
    """

    versions: str
    providers: tuple[str, ...]
    options: Mapping[str, Mapping[str, str]]
    threads: int
    arena: bool
    memory_pattern: bool
    optimization: str
    config: Mapping[str, str]
    external_data: tuple[str, ...] = ()
    expected: Mapping[str, float] = field(default_factory=dict)
    safe_output: SafeOutput = field(default_factory=SafeOutput)
    swap: str = ""

    def session_options(self, engine: Any) -> Any:
        """Return `SessionOptions` with all that does not belong to a provider.

        Args:
            engine: The module onnxruntime.
        """
        options = engine.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = self.arena
        options.enable_mem_pattern = self.memory_pattern
        options.log_severity_level = 3
        options.graph_optimization_level = getattr(engine.GraphOptimizationLevel, LEVELS[self.optimization])
        for key, value in self.config.items():
            if _PLACES.search(key):
                continue
            options.add_session_config_entry(key, value)
        return options

    @property
    def caching(self) -> bool:
        """Whether a provider is to keep what it builds."""
        return any(
            self.options.get(name, {}).get(switch) in _ON
            for name in self.providers
            for switch in _CACHES.get(name, {})
        )

    def providers_of(self, engine: Any, caches: Path | None) -> list[str | tuple[str, dict[str, str]]]:
        """Return the providers that this build of the engine has, in order, each with its options.

        Args:
            engine: The module onnxruntime.
            caches: Where providers may keep what they build; None, not there, or not writable: they build it every
                time. It is the agent's to make (`store.Store.keep_cache`): of another user's it could not get rid.
        """
        available = engine.get_available_providers()
        found: list[str | tuple[str, dict[str, str]]] = []
        for name in self.providers:
            if name in available:
                options = _with_caches(name, self.options.get(name, {}), caches)
                found.append((name, options) if options else name)
        return found


def read(folder: Path, variant: str = "") -> Settings:
    """Return the settings of the artifact in a folder; `variant="cpu"`: of the model beside it for the processor.

    Raises:
        AgentError: `damaged`: the file is not a JSON object.
        HealthError: `health-crash`: a value in it makes no sense, or a file that it names is not there.
    """
    path = folder / VARIANTS[variant][1]
    document = read_json(path)
    try:
        settings = parse(document)
    except ValueError as error:
        raise HealthError("health-crash", f"{path} makes no sense: {error}") from error
    for name in settings.external_data:
        if not (folder / name).is_file():
            raise HealthError("health-crash", f"{path} names {name}, which is not beside the model")
    return settings


def wanted_providers(folder: Path) -> tuple[str, ...]:
    """Return the execution providers an artifact was made for, in order; none when its settings make no sense."""
    try:
        return read(folder).providers
    except AgentError:
        return ()


def wants_cache(folder: Path) -> bool:
    """Whether a provider of an artifact keeps what it builds; False when its settings make no sense."""
    try:
        return read(folder).caching
    except AgentError:
        return False


def parse(document: Mapping[str, Any]) -> Settings:
    """Check the values of a runtime manifest.

    Raises:
        ValueError: says which key is wrong, and what it must be.
    """
    version = document.get("version", VERSION)
    if version != VERSION:
        raise ValueError(f"version is {version!r}, this agent reads {VERSION}: update it")
    providers = _need(document, "providers", _names, "a list of provider names")
    none: dict[str, dict[str, str]] = {}
    options = _get(document, "providerOptions", none, _options, "strings by key, for each provider")
    if strays := sorted(set(options) - set(providers)):
        raise ValueError(f"providerOptions has {strays[0]}, which is not among the providers")
    return Settings(
        versions=_need(document, "versions", _is(str), "a version range"),
        providers=providers,
        options=options,
        threads=_need(document, "threads", _threads, f"a number from 1 to {MAX_THREADS}"),
        arena=_need(document, "arena", _is(bool), "true or false"),
        memory_pattern=_get(document, "memoryPattern", True, _is(bool), "true or false"),
        optimization=_need(document, "graphOptimization", _level, f"one of {', '.join(LEVELS)}"),
        config=_get(document, "sessionConfig", {}, _entries, "strings by key"),
        external_data=_get(document, "externalData", (), _data, f"[{FILE_DATA!r}]"),
        # What somebody expected is no reason to refuse a model, whatever it is.
        expected=_figures(document.get("expected")),
        safe_output=safe_output.parse(document.get("safeOutput"), document.get("signature")),
        swap=_get(document, "swap", "", _swap, f"one of {', '.join(SWAPS)}"),
    )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that belongs to an installed artifact.

    Raises:
        AgentError: `damaged`.
    """
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise AgentError("damaged", f"{path} is unreadable: {error}") from error
    if not isinstance(document, dict):
        raise AgentError("damaged", f"{path} is not an object")
    return document


def _with_caches(provider: str, options: Mapping[str, str], caches: Path | None) -> dict[str, str]:
    """Return a provider's options with the places of its caches, or without the caches where there is no place."""
    told = {name: value for name, value in options.items() if not _PLACES.search(name)}
    for switch, where in _CACHES.get(provider, {}).items():
        if told.get(switch) in _ON:
            if caches is not None and caches.is_dir() and os.access(caches, os.W_OK):
                told[where] = str(caches)
            else:
                del told[switch]
    return told


def _need(document: Mapping[str, Any], key: str, read_value: Callable[[Any], T], what: str) -> T:
    if key not in document:
        raise ValueError(f"it has no {key}")
    try:
        return read_value(document[key])
    except (TypeError, ValueError):
        raise ValueError(f"{key} is {json.dumps(document[key])[:80]}, it must be {what}") from None


def _get(document: Mapping[str, Any], key: str, default: T, read_value: Callable[[Any], T], what: str) -> T:
    return _need(document, key, read_value, what) if key in document else default


def _is(kind: type[T]) -> Callable[[Any], T]:
    def check(value: Any) -> T:
        if not isinstance(value, kind):
            raise TypeError
        return value

    return check


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(name, str) and name for name in value):
        raise TypeError
    return tuple(value)


def _threads(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_THREADS:
        raise TypeError
    return value


def _level(value: Any) -> str:
    if value not in LEVELS:
        raise ValueError
    return str(value)


def _swap(value: Any) -> str:
    if value not in SWAPS:
        raise ValueError
    return str(value)


def _entries(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > MAX_ENTRIES:
        raise TypeError
    if not all(_KEY.fullmatch(key) and isinstance(told, str) for key, told in value.items()):
        raise ValueError
    return value


def _options(value: Any) -> dict[str, dict[str, str]]:
    if not isinstance(value, dict) or len(value) > MAX_ENTRIES:
        raise TypeError
    return {name: _entries(told) for name, told in value.items()}


def _data(value: Any) -> tuple[str, ...]:
    if value not in ([], [FILE_DATA]):
        raise ValueError
    return tuple(value)


def _figures(value: Any) -> dict[str, float]:
    told = value if isinstance(value, dict) else {}
    return {
        name: float(told[name])
        for name in ("loadMs", "memoryBytes")
        if isinstance(told.get(name), (int, float))
        and not isinstance(told[name], bool)
        and 0 < told[name] <= MAX_FIGURE  # neither infinite, which no record can hold, nor more than a float
    }
