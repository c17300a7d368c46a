"""Instructions of many small nets: each emulator process counts several, and what was counted once is kept.

>>> counts = count_nets(target, kit.nets, runtime, plugin=build(cache), memo=Memo(cache))   # doctest: +SKIP
>>> counts["cnn-000-fp32"].per_inference.instructions                                       # doctest: +SKIP
11108781

Importing the engine takes an emulator some seconds and a small net a tenth of one, so a process per net would mostly
import. Counts do not depend on what else this machine does, so several processes share its cores.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgewright.bench.calibration.nets import Net
from edgewright.bench.counting.counts import from_spans
from edgewright.bench.counting.spans import ClassCounts, Span, read_span
from edgewright.bench.target.ask import ask
from edgewright.bench.target.emulator import Target
from edgewright.bench.target.observe import Memo, harness
from edgewright.bench.target.probe import MARK_IMPORTED
from edgewright.bench.target.scratch import scratch
from edgewright.errors import BuildError
from edgewright_agent.contract import canonical_json

NETS_PER_PROCESS = 8
SMALL_MACS = 5_000_000  # a further inference of such a net costs next to nothing
TIMEOUT_S = 1800.0


@dataclass(frozen=True)
class NetCounts:
    """What one net costs on one emulated processor.

    Attributes:
        load: Instructions to load it in a process that has loaded nothing before.
        per_inference: Of one inference.
    """

    load: int
    per_inference: ClassCounts

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"load": self.load, "perInference": self.per_inference.to_json()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> NetCounts:
        """Return what `to_json` gave."""
        line = canonical_json({"mark": 0, "threads": 1, **document["perInference"]}).decode()
        return cls(int(document["load"]), read_span(line).counts)


def count_nets(
    target: Target,
    nets: Sequence[Net],
    runtime: Mapping[str, Any],
    *,
    plugin: Path,
    memo: Memo,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> dict[str, NetCounts]:
    """Return name → counts.

    Args:
        target: The emulated processor.
        nets: What to count.
        runtime: `arena` and `graphOptimization`, as in a kit.
        plugin: From `counting.build`.
        memo: Where counts are looked for and kept.
        progress: Called with nets counted and nets in all.

    Raises:
        BuildError: a net fails there, or the guest had more than one thread.
    """
    keys = {net.name: _key(target, net, runtime, plugin) for net in nets}
    kept = {name: memo.find(key) for name, key in keys.items()}
    counts = {name: NetCounts.from_json(found.answer) for name, found in kept.items() if found}
    missing = [net for net in nets if net.name not in counts]
    progress(len(counts), len(nets))
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        jobs = [
            pool.submit(_count_some, target, some, runtime, plugin)
            for some in shared_out(missing, NETS_PER_PROCESS)
        ]
        try:
            for job in jobs:
                for name, found in job.result().items():
                    counts[name] = found
                    memo.keep(keys[name], found.to_json(), ())
                progress(len(counts), len(nets))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return {net.name: counts[net.name] for net in nets}


def shared_out(nets: Sequence[Net], most: int) -> Iterator[Sequence[Net]]:
    """Yield parts of about equal work, so that no process is waited for alone at the end."""
    heavy_first = sorted(nets, key=lambda net: -net.macs)
    parts = -(-len(nets) // most)
    yield from (heavy_first[part::parts] for part in range(parts))


def _count_some(
    target: Target, nets: Sequence[Net], runtime: Mapping[str, Any], plugin: Path
) -> dict[str, NetCounts]:
    with scratch("nets") as folder:  # whose paths are of one length, as those of a target
        entries = []
        for net in nets:
            path = folder / f"{net.name}.onnx"
            path.write_bytes(net.model)
            inferences = 3 if net.macs <= SMALL_MACS else 2
            entries.append({"model": str(path), "inputs": {"x": [1, *net.shape]}, "inferences": inferences})
        # The first net twice: what its first load costs beyond its second is what any first load does.
        request = {
            "batch": [{**entries[0], "inferences": 1}, *entries],
            "arena": runtime["arena"],
            "graphOptimization": runtime["graphOptimization"],
        }
        spans = folder / "spans.jsonl"
        option = f"out={str(spans).replace(',', ',,')}"  # QEMU takes a single comma for the next option
        answer = ask(target, request, timeout_s=TIMEOUT_S, plugin=plugin, plugin_options=option)
        if "failure" in answer:
            where = f"counting on {target.label}, {answer.get('stage', 'start')}"
            raise BuildError(f"{where}: {answer['failure']}: {answer.get('message', '')}")
        first, *others = by_net(read_span(line) for line in spans.read_text().splitlines())
    once = _load(first, target) - _load(others[0], target)
    return {
        net.name: NetCounts(_load(found, target) + once, from_spans(found, target=target.label).per_inference)
        for net, found in zip(nets, others, strict=True)
    }


def _load(spans: Sequence[Span], target: Target) -> int:
    return from_spans(spans, target=target.label, warm_up=0).load.instructions


def by_net(spans: Iterator[Span]) -> list[list[Span]]:
    """Part the spans of a process: each net's begin with the mark that ends what was before it."""
    parts: list[list[Span]] = []
    for span in spans:
        if span.mark == MARK_IMPORTED:
            parts.append([])
        if parts:
            parts[-1].append(span)
    return parts


def _key(target: Target, net: Net, runtime: Mapping[str, Any], plugin: Path) -> str:
    """Return the digest of everything that a net's counts depend on."""
    core = target.core
    document = {
        "net": hashlib.sha256(net.model).hexdigest(),
        "shape": list(net.shape),
        "runtime": {name: runtime[name] for name in ("arena", "graphOptimization")},
        "harness": harness(target, plugin),
        "target": [
            target.label,
            core.userland,
            core.cpu,
            core.model,
            core.cores,
            list(core.isa),
        ],
        "guest": dict(target.guest),
    }
    return hashlib.sha256(canonical_json(document)).hexdigest()
