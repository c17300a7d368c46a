"""Execution providers that another build of ONNX Runtime brings: run for real on this machine, for their answers.

OpenVINO computes int8 products in 16 bit on every x86 processor without VNNI, also where ONNX Runtime's own kernels do
not. So its kernels are held to the instructions the class declares: what would saturate on the device saturates here.

>>> target = provider_target(hardware, targets_cache())                       # doctest: +SKIP
>>> target.label                                                              # doctest: +SKIP
'native, OpenVINOExecutionProvider, Intel(R) Xeon(R) Processor'
>>> check(target, model, runtime, golden, sample).placement                   # doctest: +SKIP
{'OpenVINOExecutionProvider': {'Conv': 3, 'Gemm': 1, …}}
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from edgewright.bench.target.emulator import GUEST, NO_BYTE_CODE, Target, require
from edgewright.bench.target.processor import Core, host_arch, host_flags, processor_name
from edgewright.bench.target.userland import USERLANDS, Installed, Userland, inspect
from edgewright.spec.hardware import Sheet

OPENVINO = "OpenVINOExecutionProvider"
OPTIONS: Mapping[str, Mapping[str, str]] = {
    # On the CPU whatever else this machine has, in fp32 where the model does (some processors would take bfloat16).
    OPENVINO: {"device_type": "CPU", "precision": "FP32", "num_of_threads": "1"},
}

KERNELS = "ONEDNN_MAX_CPU_ISA"
"""Environment variable of oneDNN, whose kernels OpenVINO uses: the most it may take of a processor."""

# Our word for an extension → what /proc/cpuinfo calls it, any of them.
_FLAGS = {
    "avx": ("avx",),
    "avx2": ("avx2",),
    "avx512": ("avx512vl",),
    "vnni": ("avx_vnni", "avx512_vnni"),
    "amx": ("amx_int8",),
}


def environment_of(hardware: Sheet) -> Userland | None:
    """Return the environment in which a provider of this class runs on this machine, None where none can.

    CUDA and TensorRT need their device, and OpenVINO's wheel an x86-64 processor.
    """
    return next(
        (
            userland
            for name in hardware.runtime.providers
            for userland in USERLANDS.values()
            if userland.provider == name and userland.arch == hardware.cpu.arch == host_arch()
        ),
        None,
    )


def provider_target(hardware: Sheet, cache: Path) -> Target | None:
    """Return what runs a class's execution provider for real, None where no wheel can on this machine.

    Raises:
        EnvironmentFault: its environment is not provisioned; names the command that mends it.
    """
    userland = environment_of(hardware)
    if userland is None:
        return None
    installed = require(userland.name, inspect(userland.name, cache))
    flags = host_flags()
    kernels = kernels_for(hardware.cpu.isa, flags)
    target = wheel_target(userland, installed, isa=hardware.cpu.isa, model=hardware.cpu.model)
    notes = [
        f"declared, not emulated: {userland.provider} ran on this machine for its answers; its speed is not claimed",
        f"its kernels were held to {kernels}, by the class's cpu.isa; operators left to the CPU provider were not",
    ]
    if missing := absent(hardware.cpu.isa, flags):
        notes.append(
            f"this machine has no {', '.join(missing)}: kernels for it were not run, int8 may differ"
        )
    return dataclasses.replace(
        target,
        environment={**target.environment, KERNELS: kernels},
        notes=tuple(notes),
        unbounded=None if absent(["vnni"], flags) else target,
    )


def wheel_target(
    userland: Userland,
    installed: Installed,
    *,
    isa: Sequence[str] = (),
    model: str = "this machine",
    writes_byte_code: bool = False,
) -> Target:
    """Return this machine's Python with the engine of `installed` and nothing else to import.

    Args:
        userland: Its recipe.
        installed: Where it lies.
        isa: Extensions of the core it stands for.
        model: That core.
        writes_byte_code: Whether Python may leave byte code there.
    """
    guest = {name: value for name, value in GUEST.items() if not writes_byte_code or name != NO_BYTE_CODE}
    return Target(
        label=f"native, {userland.provider}, {processor_name()}",
        core=Core(userland.name, None, model, 1, tuple(isa)),
        # Neither the user's packages, nor this environment's, nor the folder of the probe.
        command=(sys.executable, "-s", "-S", "-P"),
        environment={
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": "/nonexistent",
            **guest,
            "PYTHONPATH": str(installed.root / userland.site),
        },
        userland=installed.tree,
        provider_options={userland.provider: OPTIONS[userland.provider]},
    )


def kernels_for(isa: Collection[str], flags: Collection[str]) -> str:
    """Return oneDNN's word for the most that a declared processor has.

    Args:
        isa: `cpu.isa` of a class.
        flags: Of this machine. VNNI comes in two encodings that compute the same; a machine may have only one.

    >>> kernels_for(["sse4.2"], ["avx2"]), kernels_for(["avx", "avx2", "vnni"], ["avx_vnni"])
    ('SSE41', 'AVX2_VNNI')
    """
    if "amx" in isa:
        return "AVX512_CORE_AMX"
    if "avx512" in isa:
        return "AVX512_CORE_VNNI" if "vnni" in isa else "AVX512_CORE"
    if "vnni" in isa:
        wide_only = "avx512_vnni" in flags and "avx_vnni" not in flags
        return "AVX512_CORE_VNNI" if wide_only else "AVX2_VNNI"
    return next((name.upper() for name in ("avx2", "avx") if name in isa), "SSE41")


def absent(isa: Collection[str], flags: Collection[str]) -> list[str]:
    """Return the declared extensions that this machine does not have.

    >>> absent(["sse4.2", "avx2", "vnni"], ["avx2"])
    ['vnni']
    """
    return [name for name in isa if name in _FLAGS and not set(_FLAGS[name]) & set(flags)]


def one_operator() -> bytes:
    """Return the smallest model, to see whether a provider takes an operator."""
    from onnx import TensorProto, helper

    shape = ["batch", 4]
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "one-operator",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())
