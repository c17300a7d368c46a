"""What one process in a target told and cost; the same question is asked of an emulator only once.

>>> memo = Memo(targets_cache())                                                        # doctest: +SKIP
>>> observe(target, request, timeout_s=600, plugin=plugin, memo=memo).answer["outputs"] # doctest: +SKIP

A memo's key holds everything an answer depends on (the request and the model's bytes, target, userland, probe,
plugin), so a changed clock or workload re-decides a lane without emulating it again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgewright.bench.counting.spans import Span, read_span
from edgewright.bench.target.ask import ask
from edgewright.bench.target.emulator import HARNESS, PROBE, Target
from edgewright.bench.target.processor import processor_name
from edgewright.bench.target.scratch import scratch
from edgewright.errors import BuildError
from edgewright_agent.contract import canonical_json

# What a model does is kept; what this machine did to it is not.
_KEPT = {None, "model-corrupt", "model-invalid", "operator-missing", "opset-too-new", "inputs-refused"}
# What decides how a question is put; a change of any of them, be it a comment, costs the memo and never its truth.
_SOURCES = ("ask", "emulator", "process", "processor", "session")
_PROGRAMS = (PROBE, *(PROBE.with_name(f"{name}.py") for name in _SOURCES))
MEMO_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Observation:
    """One process.

    Attributes:
        answer: The probe's, see `probe`; with `failure` where something went wrong.
        spans: What the counting plugin wrote; empty without it.
    """

    answer: Mapping[str, Any]
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True)
class Memo:
    """Answers of emulators on disk, at most `MEMO_BYTES` of them; the longest unused go first."""

    cache: Path

    @property
    def folder(self) -> Path:
        """Where they lie."""
        return self.cache / "observations"

    def find(self, key: str) -> Observation | None:
        """Return what was kept, None when nothing was or it cannot be read."""
        path = self.folder / f"{key}.json"
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            found = json.loads(path.read_bytes())
            answer, spans = dict(found["answer"]), tuple(map(read_span, found["spans"]))
            os.utime(path)
            return Observation(answer, spans)
        return None

    def keep(self, key: str, answer: Mapping[str, Any], spans: Sequence[str]) -> None:
        """Keep an answer; a disk that takes no more costs the memo, not the benchmark."""
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, part = tempfile.mkstemp(dir=self.folder, prefix=".part-")
            try:
                with os.fdopen(handle, "w") as stream:
                    json.dump({"answer": answer, "spans": spans}, stream)
                Path(part).replace(self.folder / f"{key}.json")
            finally:
                Path(part).unlink(missing_ok=True)
            self._prune()

    def _prune(self) -> None:
        entries = sorted(
            ((path.stat().st_mtime_ns, path.stat().st_size, path) for path in self.folder.glob("*.json")),
            reverse=True,
        )
        kept_bytes = 0
        for _, size_bytes, path in entries:
            kept_bytes += size_bytes
            if kept_bytes > MEMO_BYTES:
                path.unlink(missing_ok=True)


def observe(
    target: Target,
    request: Mapping[str, Any],
    *,
    timeout_s: float,
    plugin: Path | None = None,
    memory_limit_bytes: int | None = None,
    memo: Memo | None = None,
) -> Observation:
    """Run the probe, with the counting plugin if there is one, and return what it told and cost.

    Args:
        target: Where.
        request: See `probe`; `model` is a path on this machine.
        timeout_s: For the whole process.
        plugin: From `counting.build`.
        memory_limit_bytes: What the model may take over the bare engine.
        memo: Where the answer to the same question is looked for and kept; None: the process always runs.

    Raises:
        EnvironmentFault: the target cannot be started.
        BuildError: the plugin wrote nothing.
    """
    key = question(target, request, plugin, memory_limit_bytes) if memo else ""
    if memo and (found := memo.find(key)):
        return found
    lines: list[str] = []
    with scratch("spans") as folder:
        spans = folder / "spans.jsonl"
        answer = ask(
            target,
            request,
            timeout_s=timeout_s,
            plugin=plugin,
            plugin_options=f"out={_option(spans)}" if plugin else "",
            memory_limit_bytes=memory_limit_bytes,
        )
        if plugin is not None:
            with contextlib.suppress(FileNotFoundError):
                lines = spans.read_text().splitlines()
            if not lines and "failure" not in answer:
                raise BuildError(f"counting on {target.label}: the plugin wrote nothing")
    answer.pop("times", None)
    if memo and answer.get("failure") in _KEPT:
        memo.keep(key, answer, lines)
    return Observation(answer, tuple(map(read_span, lines)))


def question(
    target: Target, request: Mapping[str, Any], plugin: Path | None, memory_limit_bytes: int | None
) -> str:
    """Return the digest of everything an answer depends on."""
    asked = dict(request)
    for name in ("model", "data"):  # what they are, not where
        if name in request:
            with Path(request[name]).open("rb") as stream:
                asked[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    core = target.core
    place: dict[str, Any] = {
        "label": target.label,
        "userland": target.userland,
        "core": [core.userland, core.cpu, core.model, core.cores, list(core.isa)],
        "guest": dict(target.guest),
        "threads": target.threads,
        "notes": list(target.notes),
        "providerOptions": {name: dict(told) for name, told in target.provider_options.items()},
    }
    if not target.emulated:  # this machine's own processor, Python and engine
        import numpy
        import onnxruntime

        place["native"] = [sys.version, numpy.__version__, onnxruntime.__version__, processor_name()]
        place["command"] = list(target.command)
        place["environment"] = {name: value for name, value in target.environment.items() if name != "PATH"}
    document = {
        "request": asked,
        "target": place,
        "programs": [hashlib.sha256(program.read_bytes()).hexdigest() for program in _PROGRAMS],
        "plugin": plugin.name if plugin else None,  # its name carries the digest of its source
        "memoryLimitBytes": memory_limit_bytes,
    }
    return hashlib.sha256(canonical_json(document)).hexdigest()


def harness(target: Target, plugin: Path | None) -> str:
    """Return eight hex digits for what counts, apart from engine and processor: counts of two harnesses differ."""
    document = [HARNESS, target.userland, plugin.name if plugin else None]
    digest = hashlib.sha256(canonical_json(document) + PROBE.read_bytes())
    return digest.hexdigest()[:8]


def _option(path: Path) -> str:
    """Return a path as a plugin option: QEMU takes a comma for the next option unless it is doubled."""
    return str(path).replace(",", ",,")
