"""`make fuzz`: every parser of foreign bytes under a coverage-guided fuzzer, one after another, and a table of it.

    $ PYTHONPATH=tests:pipelines:agent python -m fuzz --inputs 100000
    target             inputs   seconds  crashes  slowest input  peak memory
    policy            100,000        21        0         1.2 ms      112 MiB

Ends with 1 when anything but a documented error came out, or a target hung or took too much memory.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from fuzz.targets import TARGETS


def main() -> int:
    """Run the targets; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Fuzz every parser of foreign bytes.")
    parser.add_argument("targets", nargs="*", help="names (default: all)", metavar="TARGET")
    parser.add_argument("--inputs", type=int, default=100_000, help="of each target (default: 100000)")
    parser.add_argument("--crashes", type=Path, help="folder for inputs that crash (default: a new one)")
    options = parser.parse_args()
    names = [target.name for target in TARGETS]
    if unknown := sorted(set(options.targets) - set(names)):
        parser.error(f"no target {unknown[0]}; there are {', '.join(names)}")
    if importlib.util.find_spec("atheris") is None:
        print(
            "atheris is not on this machine (it has wheels for x86-64 only); the tests in tests/fuzz run without it"
        )
        return 0
    crashes = options.crashes or Path(tempfile.mkdtemp(prefix="edgewright-fuzz-crashes-"))
    print(
        f"{'target':18} {'inputs':>9} {'seconds':>8} {'crashes':>8} {'slowest input':>14} {'peak memory':>12}"
    )
    good = [_run(name, options.inputs, crashes) for name in options.targets or names]
    print(
        f"{sum(good)} of {len(good)} targets without a crash"
        + ("" if all(good) else f"; inputs in {crashes}")
    )
    return 0 if all(good) else 1


def _run(name: str, inputs: int, crashes: Path) -> bool:
    done = subprocess.run(
        [sys.executable, "-m", "fuzz.one", name, "--inputs", str(inputs), "--crashes", str(crashes)],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"target"')]
    if done.returncode != 0 or not lines:
        print(f"{name:18} ended with {done.returncode}: {' '.join(done.stderr.split())[-400:]}", flush=True)
        return False
    seen = json.loads(lines[-1])
    print(
        f"{name:18} {seen['inputs']:>9,} {seen['seconds']:>8.0f} {seen['crashes']:>8} "
        f"{seen['slowest_ms']:>11.1f} ms {seen['peak_mib']:>8.0f} MiB",
        flush=True,
    )
    for kind in seen["kinds"]:
        print(f"    {kind}", flush=True)
    return not seen["crashes"]


if __name__ == "__main__":
    sys.exit(main())
