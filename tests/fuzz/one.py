"""One target under atheris, for so many inputs; prints what it saw as JSON. `fuzz.__main__` runs it for every target.

$ python -m fuzz.one policy --inputs 100000 --crashes /tmp/crashes
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["edgewright_agent", "tuf", "securesystemslib", "tarfile"]):
    from fuzz.targets import by_name, tidy

SLOWEST_S = 5.0
"""An input that takes longer hangs; most take microseconds, a whole refresh a few milliseconds."""

MEMORY_MIB = 768
"""What a target may take at most, instrumentation and corpus included."""

MAX_INPUT_BYTES = 64 * 1024
MAX_KEPT_CRASHES = 20


@dataclass
class Seen:
    """What a run of a target saw."""

    target: str
    inputs: int = 0
    seconds: float = 0.0
    crashes: int = 0
    slowest_ms: float = 0.0
    peak_mib: float = 0.0
    kinds: list[str] = field(default_factory=list)


def main() -> None:
    """Run a target; ends the process."""
    parser = argparse.ArgumentParser(description="Fuzz one target.")
    parser.add_argument("target")
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--crashes", type=Path, required=True, help="folder for inputs that crash")
    options = parser.parse_args()
    target, seen, started = by_name(options.target), Seen(options.target), time.monotonic()
    corpus = options.crashes / f"{target.name}-seeds"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(target.seeds()):
        (corpus / str(number)).write_bytes(data)

    def finish() -> None:
        seen.seconds = time.monotonic() - started
        seen.peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        tidy()
        print(json.dumps(asdict(seen)), flush=True)
        os._exit(0)  # libFuzzer would go on for ever, and has nothing to say that is not said

    def try_one(data: bytes) -> None:
        before = time.process_time()
        try:
            target.run(data)
        except Exception as crash:  # noqa: BLE001  the oracle: whatever is not documented
            kind = _place(crash)
            seen.crashes += 1
            if kind not in seen.kinds and len(seen.kinds) < MAX_KEPT_CRASHES:
                seen.kinds.append(kind)
                (options.crashes / f"{target.name}-{len(seen.kinds)}").write_bytes(data)
        took_ms = 1000 * (time.process_time() - before)
        if seen.inputs and took_ms > seen.slowest_ms:  # the first one imports what others find imported
            seen.slowest_ms = took_ms
            (options.crashes / f"{target.name}-slowest").write_bytes(data)
        seen.inputs += 1
        if seen.inputs >= options.inputs:
            finish()

    bounds = [f"-timeout={SLOWEST_S:.0f}", f"-rss_limit_mb={MEMORY_MIB}", f"-max_len={MAX_INPUT_BYTES}"]
    places = [f"-artifact_prefix={options.crashes}/{target.name}-", str(corpus)]
    atheris.Setup([sys.argv[0], *bounds, "-verbosity=0", "-seed=1", *places], try_one)
    atheris.Fuzz()


def _place(crash: Exception) -> str:
    last = traceback.extract_tb(crash.__traceback__)[-1]
    return f"{type(crash).__name__} at {Path(last.filename).name}:{last.lineno}: {str(crash)[:100]}"


if __name__ == "__main__":
    main()
