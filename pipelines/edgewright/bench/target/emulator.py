"""Targets: run a program of ours on a hardware class's processor, emulated where this machine is of another kind.

>>> target = open_target(hardware, targets_cache())                       # doctest: +SKIP
>>> target.label                                                          # doctest: +SKIP
'qemu-aarch64 7.2, cpu cortex-a72'
>>> ask(target, {"model": str(model), "inputs": golden["inputs"]}, timeout_s=120)["outputs"]   # doctest: +SKIP
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgewright.bench.target.cgroup import permitted
from edgewright.bench.target.process import Completed, MemoryLimit, execute
from edgewright.bench.target.processor import (
    Core,
    check_cpu,
    choose,
    lacking,
    lay_out,
    parse_cpus,
    processor_name,
)
from edgewright.bench.target.scratch import scratch
from edgewright.bench.target.userland import EMULATOR, USERLANDS, Installed, inspect
from edgewright.errors import BuildError, EnvironmentFault
from edgewright.spec.hardware import Sheet

TRANSLATED_BYTES = 21 * 2**20
"""What qemu-user adds while a small model loads and infers: 16 to 21 MiB for arm, 20 to 26 for other guests."""

STACK_BYTES = 8 * 2**20  # of a guest, whatever this machine's limit is
HARNESS = 1
"""Raised when a guest is started in another way: its instruction counts are then not those of before."""

PROBE = Path(__file__).with_name("probe.py")
NO_BYTE_CODE = "PYTHONDONTWRITEBYTECODE"
# One thread and no chance, or nothing that is counted would be the same twice; no byte code, or a userland would
# change by use. ONNX Runtime's Linux wheels start a telemetry thread when imported, which also reaches for the network.
GUEST = {
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    NO_BYTE_CODE: "1",
    "PYTHONHASHSEED": "0",
}


@dataclass(frozen=True)
class Target:
    """A processor that runs our probe: this machine's own, or an emulated one.

    Attributes:
        label: What it is, for figures: `qemu-aarch64 7.2, cpu cortex-a72`.
        core: The class's core.
        command: What starts the interpreter.
        environment: All that its process sees.
        userland: Digest of the userland and emulator, part of what a figure depends on; empty for this machine.
        notes: What stands between it and the device, in sentences.
        installed: The foreign userland; None for this machine.
        guest: What a guest's Python is told.
        threads: Always 1: with more, guest instruction counts are off by 12 to 94 %.
        provider_options: Execution provider → what it is told.
        unbounded: The same with all instructions of this machine, where int8 kernels cannot saturate; None where
            there is no such thing.
    """

    label: str
    core: Core
    command: tuple[str, ...]
    environment: Mapping[str, str]
    userland: str = ""
    notes: tuple[str, ...] = ()
    installed: Installed | None = None
    guest: Mapping[str, str] = field(default_factory=lambda: GUEST)
    threads: int = 1
    provider_options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    unbounded: Target | None = None

    @property
    def emulated(self) -> bool:
        """Whether a plugin can count its instructions."""
        return self.installed is not None

    def run(
        self,
        files: Mapping[str, Path | bytes],
        *,
        timeout_s: float,
        plugin: Path | None = None,
        plugin_options: str = "",
        memory_limit_bytes: int | None = None,
    ) -> Completed:
        """Run `python probe.py request.json answer.json` in a folder that holds `files`.

        The program sees no other path of this machine than those, which are always of one length: where something lies
        would otherwise change how it is laid out in memory, and with that what it costs.

        Args:
            files: Name in the working folder → content, or the file whose content it is; `request.json` is one.
            timeout_s: It is killed after that, with everything it started.
            plugin: QEMU TCG plugin to load.
            plugin_options: Its options, `out=…,key=value`.
            memory_limit_bytes: What it may take over the bare engine. The probe must be asked with `limited`.

        Raises:
            BuildError: a plugin was asked for on this machine's own processor.
            EnvironmentFault: it cannot be started.
        """
        if plugin is not None and not self.emulated:
            raise BuildError(f"{self.label}: instructions are counted under an emulator only")
        with scratch("target") as folder:
            work, root = folder / "work", folder / "root"
            work.mkdir()
            root.mkdir()
            for name, content in {PROBE.name: PROBE, **files}.items():
                if isinstance(content, bytes):
                    (work / name).write_bytes(content)
                else:  # a copy: ONNX Runtime would follow a link to where the file lies
                    shutil.copyfile(content, work / name)
            ended = execute(
                [*self._start(root, plugin, plugin_options), PROBE.name, "request.json", "answer.json"],
                work,
                self.environment,
                timeout_s=timeout_s,
                limit=None if memory_limit_bytes is None else self._limit(memory_limit_bytes),
            )
            with contextlib.suppress(FileNotFoundError):
                return replace(ended, answer=(work / "answer.json").read_bytes())
            return ended

    def _limit(self, extra_bytes: int) -> MemoryLimit:
        """Return how its memory is limited.

        A control group counts what an emulator translates as the model's, some ten times what a small one takes; a
        64-bit guest's address space does not. A 32-bit guest's cannot be limited, so what it translates is allowed.
        """
        if not self.emulated:
            return MemoryLimit(extra_bytes, "data", permitted())
        if USERLANDS[self.core.userland].arch != "armv7":
            return MemoryLimit(extra_bytes, "address-space")
        return MemoryLimit(extra_bytes + TRANSLATED_BYTES, "resident", permitted())

    def _start(self, root: Path, plugin: Path | None, plugin_options: str) -> list[str]:
        if self.installed is None:
            return list(self.command)
        lay_out(self.core, self.installed.root, root)
        userland = USERLANDS[self.core.userland]
        guest = {
            **self.guest,
            "PYTHONHOME": str(root / "usr"),
            "PYTHONPATH": str(root / userland.site),
        }
        # The guest's stack is as large as our own may be, unless it is said.
        options = ["-L", str(root), "-U", "LD_LIBRARY_PATH", "-s", str(STACK_BYTES)]
        if plugin is not None:
            options += ["-plugin", ",".join(filter(None, (str(plugin), plugin_options)))]
        for name, value in sorted(guest.items()):
            options += ["-E", f"{name}={value}"]
        return [*self.command, *options, str(root / userland.python), "-S"]


def open_target(hardware: Sheet, cache: Path) -> Target:
    """Return the target of a hardware class.

    Raises:
        EnvironmentFault: its userland is not provisioned, or the class is native to another kind of machine.
        SpecError: the emulator knows no such processor; lists those it knows.
    """
    core = choose(hardware)
    if core.cpu is None:
        return native_target(core)
    return emulated_target(core, cache)


def native_target(core: Core) -> Target:
    """Return this machine's own processor: this Python in fresh processes."""
    notes = (core.stands_in,) if core.stands_in else ()
    return Target(
        label=f"native, {processor_name()}",
        core=core,
        command=(sys.executable, "-s"),
        environment={"PATH": os.environ.get("PATH", os.defpath), "HOME": "/nonexistent", **GUEST},
        notes=notes,
    )


def emulated_target(
    core: Core,
    cache: Path,
    *,
    installed: Installed | None = None,
    writes_byte_code: bool = False,
) -> Target:
    """Return an emulated processor.

    Args:
        core: From `choose`, or made by hand to run a class on another processor than its own.
        cache: The targets cache.
        installed: A userland that is not in the cache yet.
        writes_byte_code: Whether Python may leave byte code in the userland.

    Raises:
        EnvironmentFault: the userland or the emulator is missing, outdated or damaged.
        SpecError: the emulator knows no such processor.
    """
    userland = USERLANDS[core.userland]
    installed = require(core.userland, installed or inspect(core.userland, cache))
    emulator = require(core.userland, inspect(EMULATOR, cache))
    program = emulator.root / "bin" / str(userland.qemu)
    # The seed decides what the guest takes for random (AT_RANDOM, getrandom), so the same request is the same run.
    environment = {"LD_LIBRARY_PATH": str(emulator.root / "lib"), "QEMU_RAND_SEED": "1"}
    cpu = str(core.cpu)
    label = f"{userland.qemu} {emulator.document['version']}"
    check_cpu(cpu, known_cpus(program, environment), emulator=label)
    notes = [core.stands_in] if core.stands_in else []
    if missing := lacking(core.isa) if userland.arch == "amd64" else []:
        notes.append(f"the emulator has no {', '.join(missing)}: kernels for it were not run")
    return Target(
        label=f"{label}, cpu {cpu}",
        core=core,
        command=(str(program), "-cpu", cpu),
        environment=environment,
        userland=f"{installed.tree} {emulator.tree}",
        notes=tuple(notes),
        installed=installed,
        guest={
            **{name: value for name, value in GUEST.items() if not writes_byte_code or name != NO_BYTE_CODE},
            **userland.environment,
        },
    )


def require(name: str, installed: Installed) -> Installed:
    """Return `installed` when it can be used.

    Raises:
        EnvironmentFault: it cannot; names the command that mends it.
    """
    if installed.state != "ready":
        what = f"the {name} userland" if installed.name != EMULATOR else "the emulator"
        state = {"missing": "is not on this machine", "outdated": "was made by another version"}
        raise EnvironmentFault(
            f"{what} {state.get(installed.state, 'is ' + installed.state)}",
            hint=f"edgewright targets provision --arch {name}",
        )
    return installed


def known_cpus(program: Path, environment: Mapping[str, str]) -> list[str]:
    """Return every processor an emulator knows.

    Raises:
        EnvironmentFault: it does not run here.
    """
    try:
        told = subprocess.run(  # noqa: S603  the emulator from the targets cache
            [str(program), "-cpu", "help"], env=dict(environment), capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentFault(f"{program.name} does not run here: {error}") from error
    if told.returncode not in (0, 1) or not (names := parse_cpus(told.stdout)):
        said = told.stderr.strip() or f"exit code {told.returncode}"
        raise EnvironmentFault(f"{program.name} does not run here: {said}")
    return names
