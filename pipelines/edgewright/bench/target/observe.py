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
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgewright.bench.counting.spans import Span, read_span
from edgewright.bench.target.emulator import PROBE, Target, ask, processor_name
from edgewright.errors import BuildError
from edgewright_agent.contract import canonical_json

# What a program in the target says of itself is kept; what this machine did to it is not.
_NOT_KEPT = {"timed-out", "crashed", "out-of-memory", "engine-missing", "runtime-error"}
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

    def find(self, key: str) -> dict[str, Any] | None:
        """Return what was kept, None when nothing was or it cannot be read."""
        path = self.folder / f"{key}.json"
        with contextlib.suppress(OSError, ValueError):
            found: dict[str, Any] = json.loads(path.read_bytes())
            os.utime(path)
            return found
        return None

    def keep(self, key: str, document: Mapping[str, Any]) -> None:
        """Keep an answer; a disk that takes no more costs the memo, not the benchmark."""
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, part = tempfile.mkstemp(dir=self.folder, prefix=".part-")
            with os.fdopen(handle, "w") as stream:
                json.dump(document, stream)
            Path(part).replace(self.folder / f"{key}.json")
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
        return Observation(found["answer"], tuple(map(read_span, found["spans"])))
    lines: list[str] = []
    with tempfile.TemporaryDirectory(prefix="edgewright-spans-") as scratch:
        spans = Path(scratch, "spans.jsonl")
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
    if memo and answer.get("failure") not in _NOT_KEPT:
        memo.keep(key, {"answer": answer, "spans": lines})
    return Observation(answer, tuple(map(read_span, lines)))


def question(
    target: Target, request: Mapping[str, Any], plugin: Path | None, memory_limit_bytes: int | None
) -> str:
    """Return the digest of everything an answer depends on."""
    asked = {name: value for name, value in request.items() if name != "model"}
    with Path(request["model"]).open("rb") as stream:
        asked["model"] = hashlib.file_digest(stream, "sha256").hexdigest()
    core = target.core
    place: dict[str, Any] = {
        "label": target.label,
        "userland": target.userland,
        "core": [core.userland, core.cpu, core.model, core.cores, list(core.isa)],
        "guest": dict(target.guest),
        "threads": target.threads,
        "notes": list(target.notes),
    }
    if not target.emulated:  # this machine's own processor, Python and engine
        import numpy
        import onnxruntime

        place["native"] = [sys.version, numpy.__version__, onnxruntime.__version__, processor_name()]
        place["command"] = list(target.command)
    document = {
        "request": asked,
        "target": place,
        "probe": hashlib.sha256(PROBE.read_bytes()).hexdigest(),
        "plugin": plugin.name if plugin else None,  # its name carries the digest of its source
        "memoryLimitBytes": memory_limit_bytes,
    }
    return hashlib.sha256(canonical_json(document)).hexdigest()


def _option(path: Path) -> str:
    """Return a path as a plugin option: QEMU takes a comma for the next option unless it is doubled."""
    return str(path).replace(",", ",,")
