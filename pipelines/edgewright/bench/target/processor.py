"""The core a hardware class declares: which emulated one stands for it, and what the guest is told about it.

ONNX Runtime chooses kernels by what the processor says of itself: instruction set by its feature registers, which
the emulator answers, and core by `/proc/cpuinfo`, which is a file of ours in the guest's root.

>>> choose(hardware)        # a Raspberry Pi 4        # doctest: +SKIP
Core(userland='arm64', cpu='cortex-a72', model='cortex-a72', cores=4, isa=('neon',), stands_in=None)
"""

from __future__ import annotations

import difflib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgewright.bench.target.userland import USERLANDS
from edgewright.errors import EnvironmentFault, SpecError
from edgewright.spec.hardware import Sheet

HOST_ARCH = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "armv7", "riscv64": "riscv64"}
"""The kernel's name of a machine → ours."""

# Arm's main ID register, parts of implementer 0x41: Linux kernel, arch/arm64/include/asm/cputype.h.
ARM_PARTS = {
    "cortex-a7": 0xC07, "cortex-a15": 0xC0F, "cortex-a32": 0xD01, "cortex-a35": 0xD04, "cortex-a53": 0xD03,
    "cortex-a55": 0xD05, "cortex-a57": 0xD07, "cortex-a72": 0xD08, "cortex-a73": 0xD09, "cortex-a75": 0xD0A,
    "cortex-a76": 0xD0B, "cortex-a77": 0xD0D, "cortex-a78": 0xD41, "cortex-a78ae": 0xD42, "cortex-a78c": 0xD4B,
    "cortex-x1": 0xD44, "neoverse-n1": 0xD0C, "neoverse-v1": 0xD40, "neoverse-n2": 0xD49,
}  # fmt: skip

_ARM64_BASE = ("fp", "asimd", "evtstrm", "aes", "pmull", "sha1", "sha2", "crc32", "cpuid")
_ARM64_FEATURES = {
    "asimdhp": ("fphp", "asimdhp"),
    "asimddp": ("atomics", "asimdrdm", "lrcpc", "dcpop", "asimddp"),
    "i8mm": ("i8mm",),
    "bf16": ("bf16",),
    "sve": ("sve",),
}
_ARMV7_FEATURES = "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm"

# QEMU 7.2 translates nothing wider than AVX2 for x86 guests.
_NOT_EMULATED = ("avx512", "vnni", "amx")


@dataclass(frozen=True)
class Core:
    """What runs a class's models here.

    Attributes:
        userland: Key of `USERLANDS`.
        cpu: The emulator's word for it; None on this machine's own processor.
        model: The core the class declares, which the guest's cpuinfo names.
        cores: How many it has.
        isa: Declared instruction set extensions.
        stands_in: Why it is not the class's own core, for people; None when it is.
    """

    userland: str
    cpu: str | None
    model: str
    cores: int
    isa: tuple[str, ...] = ()
    stands_in: str | None = None


def host_arch() -> str:
    """Return this machine's processor in the words of `cpu.arch`, or the kernel's name of an unknown one."""
    return HOST_ARCH.get(platform.machine(), platform.machine())


def processor_name() -> str:
    """Return this machine's processor by its own name."""
    for line in _cpuinfo().splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.machine()


def host_flags() -> frozenset[str]:
    """Return what this machine's x86 processor says it has, nothing where /proc tells none."""
    lines = (line for line in _cpuinfo().splitlines() if line.startswith("flags"))
    return frozenset(next(lines, "").partition(":")[2].split())


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""


def choose(hardware: Sheet) -> Core:
    """Return the core that stands for `hardware`.

    Raises:
        EnvironmentFault: the class asks for this machine's own processor, and it is of another kind.
    """
    emulation, cpu = hardware.emulation, hardware.cpu
    if emulation.method == "native":
        if host_arch() != cpu.arch:
            raise EnvironmentFault(
                f"the class is measured natively on {cpu.arch}; this machine is {host_arch()}",
                hint=f"run it on {cpu.arch}, or set emulation.method to qemu-user",
            )
        return Core(cpu.arch, None, cpu.model, cpu.cores, cpu.isa)
    stands_in = None
    if emulation.method == "declared":
        stands_in = "the accelerator is not emulated: numerics on the CPU provider, speed not claimed"
        if emulation.cpu is None and host_arch() == cpu.arch:
            return Core(cpu.arch, None, cpu.model, cpu.cores, cpu.isa, stands_in)
    return Core(
        "amd64-qemu" if cpu.arch == "amd64" else cpu.arch,
        emulation.cpu or nearest(cpu.arch, cpu.model, cpu.isa),
        cpu.model,
        cpu.cores,
        cpu.isa,
        stands_in,
    )


def nearest(arch: str, model: str, isa: Sequence[str]) -> str:
    """Return the emulator's core nearest to a declared one, by the instructions it has.

    >>> nearest("arm64", "cortex-a78ae", ["neon", "asimdhp", "asimddp"])
    'cortex-a76'
    """
    known = {"cortex-a7", "cortex-a15"} if arch == "armv7" else {"cortex-a35", "cortex-a53", "cortex-a57"}
    if arch in ("arm64", "armv7") and model in known | {"cortex-a72", "cortex-a76", "neoverse-n1"}:
        return model
    if arch == "arm64":
        if {"i8mm", "bf16", "sve"} & set(isa):
            return "max"
        return "cortex-a76" if "asimddp" in isa else "cortex-a53"
    if arch == "armv7":
        return "cortex-a15" if "vfpv4" in isa else "cortex-a9"
    if arch == "riscv64":
        return "rv64,v=true" if "rvv" in isa else "rv64"
    if "avx2" in isa:
        return "Haswell"
    return "SandyBridge" if "avx" in isa else "Denverton"


def check_cpu(cpu: str, known: Sequence[str], *, emulator: str) -> None:
    """Check that the emulator knows a processor.

    Args:
        cpu: Its name, with features after commas.
        known: From `parse_cpus`.
        emulator: For the message.

    Raises:
        SpecError: it does not; lists those it knows.
    """
    name = cpu.partition(",")[0]
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    guess = f" (did you mean {near[0]}?)" if near else ""
    raise SpecError(
        f"emulation.cpu: {emulator} knows no processor {name!r}{guess}",
        hint=f"it knows {', '.join(known)}",
    )


def parse_cpus(told: str) -> list[str]:
    """Return the processors in the emulator's answer to `-cpu help`, without the versions of x86 models.

    >>> parse_cpus("Available CPUs:\\n  cortex-a53\\n  cortex-a72\\n")
    ['cortex-a53', 'cortex-a72']
    """
    names = []
    for line in told.splitlines():
        words = line.split()
        if not words or line.startswith(("Available", "Recognized")):
            if line.startswith("Recognized"):  # x86: what follows are feature names
                break
            continue
        name = words[1] if words[0] == "x86" and len(words) > 1 else words[0]
        stem, dash, version = name.rpartition("-v")
        if not (dash and version.isdigit() and stem in names):
            names.append(name)
    return sorted(set(names), key=str.lower)


def guest_files(core: Core) -> Mapping[str, str]:
    """Return the files that tell the guest about its processor, path below the root → text."""
    arch = USERLANDS[core.userland].arch
    entries = [_cpuinfo_entry(arch, core, number) for number in range(core.cores)]
    online = "0" if core.cores == 1 else f"0-{core.cores - 1}"
    files = {"proc/cpuinfo": "\n".join(entries)}
    for name in ("online", "possible", "present"):
        files[f"sys/devices/system/cpu/{name}"] = f"{online}\n"
    files["sys/devices/system/cpu/kernel_max"] = f"{core.cores - 1}\n"
    return files


def _cpuinfo_entry(arch: str, core: Core, number: int) -> str:
    emulated = (core.cpu or "").partition(",")[0]
    part = ARM_PARTS.get(core.model, ARM_PARTS.get(emulated, 0xD03 if arch == "arm64" else 0xC0F))
    lines: list[tuple[str, object]] = [("processor", number)]
    if arch == "arm64":
        features = [*_ARM64_BASE, *(word for name in core.isa for word in _ARM64_FEATURES.get(name, ()))]
        lines += [("Features", " ".join(features)), ("CPU architecture", 8)]
    elif arch == "armv7":
        lines += [("model name", "ARMv7 Processor rev 5 (v7l)"), ("Features", _ARMV7_FEATURES)]
        lines += [("CPU architecture", 7)]
    elif arch == "riscv64":
        vector = "v" if "rvv" in core.isa else ""
        lines += [("hart", number), ("isa", f"rv64imafdc{vector}"), ("mmu", "sv39")]
    else:
        lines += [("vendor_id", "GenuineIntel"), ("model name", core.model), ("cpu cores", core.cores)]
    if arch in ("arm64", "armv7"):
        lines += [("CPU implementer", "0x41"), ("CPU variant", "0x0"), ("CPU part", f"0x{part:x}")]
        lines += [("CPU revision", 3)]
    return "".join(f"{key}\t: {value}\n" for key, value in lines)


def lay_out(core: Core, userland: Path, root: Path) -> None:
    """Make `root` the guest's view: the userland's files, and `/proc` and `/sys` files of this core.

    Raises:
        OSError: the folder cannot be written.
    """
    for entry in sorted(userland.iterdir()):
        if entry.name not in ("proc", "sys"):
            (root / entry.name).symlink_to(entry)
    for name, text in guest_files(core).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def lacking(isa: Sequence[str]) -> list[str]:
    """Return the declared x86 extensions that no emulated processor has."""
    return [name for name in isa if name.startswith(_NOT_EMULATED)]
