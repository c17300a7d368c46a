"""Measuring a kit on this machine: what a device does, done here by the same program in a process of its own.

>>> measured = measure_here(kit, rounds=2)              # doctest: +SKIP
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from edgewright.bench.calibration.kit import Kit, write
from edgewright.bench.calibration.measured import Measured, read
from edgewright.bench.target.processor import host_arch
from edgewright.errors import EnvironmentFault
from edgewright.spec.hardware import Sheet


def check_host(hardware_class: str, sheet: Sheet) -> None:
    """Check that this machine can stand for a class.

    Raises:
        EnvironmentFault: it is of another architecture.
    """
    if host_arch() != sheet.cpu.arch:
        raise EnvironmentFault(
            f"{hardware_class} is {sheet.cpu.arch} and this machine is {host_arch()}: what nets take here says"
            " nothing about it",
            hint=f"edgewright calibrate {hardware_class} --kit kit.zip, to measure on a device",
        )


def measure_here(kit: Kit, *, rounds: int, quiet: bool = False) -> Measured:
    """Measure a kit on this machine.

    Args:
        kit: What to measure.
        rounds: How often.
        quiet: Whether nothing is shown meanwhile.

    Raises:
        EnvironmentFault: the agent's program fails; says how.
    """
    with tempfile.TemporaryDirectory(prefix="edgewright-calibration-") as scratch:
        packed, out = Path(scratch, "kit.zip"), Path(scratch, "measured.json")
        write(kit, packed)
        command = [sys.executable, "-m", "edgewright_agent", "calibrate", str(packed)]
        done = subprocess.run(  # noqa: S603  the agent that is installed with this package
            [*command, "--out", str(out), "--rounds", str(rounds)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE if quiet else None,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            said = (done.stderr or "").strip().splitlines()[-1:]
            raise EnvironmentFault(": ".join(["measuring on this machine failed", *said]))
        return read(out)
