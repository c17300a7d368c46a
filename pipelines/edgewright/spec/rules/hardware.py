"""Rules of a hardware sheet: its figures must fit together."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edgewright.spec.base import camel_case
from edgewright.spec.hardware import ISA, HardwareClass
from edgewright.spec.quantity import BYTES, CELSIUS, MILLISECONDS, SECONDS
from edgewright.spec.rules import Context, Finding, repeated, rule

CPU_PROVIDER = "CPUExecutionProvider"
# OpenVINO, XNNPACK, oneDNN and ACL run on the CPU itself; these cannot.
_ON_ACCELERATOR = {
    "TensorrtExecutionProvider",
    "NvTensorRTRTXExecutionProvider",
    "CUDAExecutionProvider",
    "MIGraphXExecutionProvider",
    "QNNExecutionProvider",
    "VitisAIExecutionProvider",
    "RknpuExecutionProvider",
}
_VERSION = re.compile(r"(===?|~=|!=|[<>]=?)\s*([^\s,]+)")


@rule(HardwareClass, "limits")
def percentiles_are_ordered(hardware: HardwareClass, context: Context) -> Iterator[Finding]:
    """The 99th percentile cannot be below the 95th."""
    latency = hardware.limits.latency
    if latency.p99 < latency.p95:
        p95 = MILLISECONDS.format(latency.p95)
        yield Finding(("limits", "latency", "p99"), f"p99 is below p95 ({p95})", f"write at least {p95}")


@rule(HardwareClass, "memory")
def models_fit_in_memory(hardware: HardwareClass, context: Context) -> Iterator[Finding]:
    """What is left to models is a part of what is fitted."""
    if hardware.memory.for_models > hardware.memory.total:
        total = BYTES.format(hardware.memory.total)
        yield Finding(("memory", "forModels"), f"models cannot have more than the whole memory ({total})")


@rule(HardwareClass, "memory", "limits")
def one_model_fits_in_its_share(hardware: HardwareClass, context: Context) -> Iterator[Finding]:
    """A limit no device can honour is a mistake."""
    share = hardware.memory.for_models
    if hardware.limits.peak_memory > share:
        message = f"more than the memory left to models (memory.forModels: {BYTES.format(share)})"
        yield Finding(("limits", "peakMemory"), message)


@rule(HardwareClass, "storage", "limits", "update_policy")
def two_artifacts_fit_in_storage(hardware: HardwareClass, context: Context) -> Iterator[Finding]:
    """The running model and its successor are on the device at the same time, above the reserve."""
    room = hardware.storage.capacity - hardware.update_policy.disk_reserve
    if room <= 0:
        yield Finding(("updatePolicy", "diskReserve"), "the reserve leaves no storage for models")
    elif 2 * hardware.limits.artifact_size > room:
        message = f"two of this size do not fit in {BYTES.format(room)} (storage.capacity less diskReserve)"
        yield Finding(("limits", "artifactSize"), message)


@rule(HardwareClass, "cpu")
def isa_belongs_to_arch(hardware: HardwareClass, context: Context) -> Iterator[Finding]:
    """An extension of another architecture is a copied line."""
    known = ISA[hardware.cpu.arch]
    for index, name in enumerate(hardware.cpu.isa):
        if name not in known:
            message = f"'{name}' is not an extension of {hardware.cpu.arch}"
            yield Finding(("cpu", "isa", index), message, f"it has: {', '.join(known)}")
    for index, _first, name in repeated(hardware.cpu.isa):
        yield Finding(("cpu", "isa", index), f"'{name}' is here twice")


@rule(HardwareClass, "runtime")
def cpu_provider_comes_last(hardware: HardwareClass, context: Context) -> Iterator[Finding]:
    """Whatever fails on a device, the CPU must still be able to run the model."""
    providers = hardware.runtime.providers
    if providers[-1] != CPU_PROVIDER:
        at = len(providers) - 1
        yield Finding(("runtime", "providers", at), f"the last provider must be {CPU_PROVIDER}", "add it")
    for index, _first, name in repeated(providers):
        yield Finding(("runtime", "providers", index), f"{name} is here twice")
    if CPU_PROVIDER in providers[:-1] and providers[-1] != CPU_PROVIDER:
        at = providers.index(CPU_PROVIDER)
        yield Finding(
            ("runtime", "providers", at), f"nothing after {CPU_PROVIDER} is ever used", "move it last"
        )


@rule(HardwareClass, "runtime")
def versions_are_a_range(hardware: HardwareClass, context: Context) -> Iterator[Finding]:
    """The device compares its engine with this range (PEP 440)."""
    # `packaging` costs as much to import as the whole fleet to read, so the plain form is settled here.
    clauses = _VERSION.findall(hardware.runtime.versions)
    if all(op in (">=", "<=", ">", "<", "==", "!=") and re.fullmatch(r"\d+(\.\d+)*", v) for op, v in clauses):
        return
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        SpecifierSet(hardware.runtime.versions)
    except InvalidSpecifier:
        yield Finding(("runtime", "versions"), "this is not a PEP 440 version range", "write >=1.20,<2")


@rule(HardwareClass, "runtime", "cpu")
def threads_have_cores(hardware: HardwareClass, context: Context) -> Iterator[Finding]:
    """More threads than cores only take turns."""
    cores = hardware.cpu.cores
    if hardware.runtime.threads > cores:
        yield Finding(("runtime", "threads"), f"more threads than cores (cpu.cores: {cores})")


@rule(HardwareClass, "runtime", "accelerator")
def accelerated_providers_have_an_accelerator(hardware: HardwareClass, context: Context) -> Iterator[Finding]:
    """A provider for a device that is not on the sheet."""
    for index, name in enumerate(hardware.runtime.providers):
        if name in _ON_ACCELERATOR and hardware.accelerator is None:
            message = f"{name} needs an accelerator and the sheet has none"
            yield Finding(("runtime", "providers", index), message, "describe it under 'accelerator'")


_OPTIONS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}


@rule(HardwareClass, "runtime")
def options_have_their_provider(hardware: HardwareClass, context: Context) -> Iterator[Finding]:
    """Options that nobody reads look as if they did something."""
    for section, provider in _OPTIONS.items():
        if getattr(hardware.runtime, section) is not None and provider not in hardware.runtime.providers:
            message = f"{section} has options, but {provider} is not among the providers"
            hint = f"add {provider} to runtime.providers, or leave '{section}' out"
            yield Finding(("runtime", section), message, hint, value=False)


@rule(HardwareClass, "runtime", "memory", "accelerator")
def providers_have_the_memory_they_may_take(hardware: HardwareClass, context: Context) -> Iterator[Finding]:
    """No limit at all is what a limit beyond the fitted memory is, and none fits into nothing."""
    own = hardware.accelerator.memory if hardware.accelerator is not None else None
    where = "memory.total" if own is None else "accelerator.memory"
    fitted = hardware.memory.total if own is None else own
    tensorrt, cuda = hardware.runtime.tensorrt, hardware.runtime.cuda
    for section, key, wanted in (
        ("tensorrt", "workspace", tensorrt.workspace if tensorrt is not None else None),
        ("cuda", "memoryLimit", cuda.memory_limit if cuda is not None else None),
    ):
        if wanted is not None and not 0 < wanted <= fitted:
            message = "must be more than nothing" if not wanted else "more than there is"
            yield Finding(("runtime", section, key), f"{message} ({where}: {BYTES.format(fitted)})")


@rule(HardwareClass, "runtime", "precisions")
def tensorrt_computes_in_listed_precisions(hardware: HardwareClass, context: Context) -> Iterator[Finding]:
    """A provider must not compute in what the class does not run well; a core without its accelerator is a slip."""
    options = hardware.runtime.tensorrt
    if options is None:
        return
    for precision in ("fp16", "int8"):
        if getattr(options, precision) and precision not in hardware.precisions:
            message = f"TensorRT would compute in {precision}, which the class does not list"
            yield Finding(("runtime", "tensorrt", precision), message, f"add {precision} to precisions")
    if options.dla_core is not None and not options.dla:
        yield Finding(("runtime", "tensorrt", "dlaCore"), "a DLA core without the DLA", "add dla: true")


@rule(HardwareClass, "runtime")
def openvino_options_are_taken(hardware: HardwareClass, context: Context) -> Iterator[Finding]:
    """OpenVINO's provider does not start on what it cannot do, and the CPU provider quietly takes its place."""
    options = hardware.runtime.openvino
    if options is None:
        return
    fits = {"CPU": ("FP32", "ACCURACY"), "NPU": ("FP16",)}.get(options.device_type)
    if options.precision is not None and fits and options.precision not in fits:
        message = f"OpenVINO has no {options.precision} on {options.device_type}"
        yield Finding(("runtime", "openvino", "precision"), message, f"write {' or '.join(fits)}")
    if options.performance_hint is not None and _lowest(hardware.runtime.versions) < (1, 23):
        message = "it is passed as load_config, a JSON text that ONNX Runtime documents from 1.23 on"
        yield Finding(
            ("runtime", "openvino", "performanceHint"), message, 'write runtime.versions: ">=1.23,<2"'
        )


def _lowest(versions: str) -> tuple[int, ...]:
    """Return the lowest version that a range names as its lower end, () when it names none."""
    found = [v for op, v in _VERSION.findall(versions) if op in (">=", "==", "~=", "===", ">")]
    ends = [tuple(int(part) for part in v.split(".")[:2] if part.isdigit()) for v in found]
    return max(ends, default=())


@rule(HardwareClass, "emulation", "accelerator")
def emulation_can_be_done(hardware: HardwareClass, context: Context) -> Iterator[Finding]:
    """`declared` is for what no emulator has; an emulated CPU needs its name."""
    if hardware.emulation.method == "declared" and hardware.accelerator is None:
        message = "'declared' is for accelerators and the sheet has none"
        yield Finding(("emulation", "method"), message, "write qemu-user or native")
    if hardware.emulation.method == "qemu-user" and hardware.emulation.cpu is None:
        yield Finding(
            ("emulation", "method"), "qemu-user needs a CPU model", "add 'cpu', for example cortex-a72"
        )


@rule(HardwareClass, "emulation", "cpu")
def cycles_are_told_once(hardware: HardwareClass, context: Context) -> Iterator[Finding]:
    """Two ways to say what instructions cost exclude each other; kinds need a processor that has some."""
    emulation, arch = hardware.emulation, hardware.cpu.arch
    if emulation.cycles_by_kind is None:
        return
    if emulation.cycles_per_instruction is not None:
        message = "this class also has cyclesPerInstruction, and only one of the two can hold"
        yield Finding(("emulation", "cyclesByKind"), message, "leave one out")
    if arch in ("armv7", "riscv64"):
        for precision in ("fp32", "int8"):
            if not getattr(emulation.cycles_by_kind, precision).instructions:
                message = f"instructions of {arch} are not told apart"
                yield Finding(
                    ("emulation", "cyclesByKind", precision), message, "give cycles for 'instructions'"
                )


@rule(HardwareClass, "emulation", "runtime")
def calibration_has_its_figures(hardware: HardwareClass, context: Context) -> Iterator[Finding]:
    """A word that narrows the error band needs the figures and the place it speaks for."""
    emulation, threads = hardware.emulation, hardware.runtime.threads
    if emulation.calibration == "measured":
        if emulation.cycles_per_instruction is None and emulation.cycles_by_kind is None:
            yield Finding(("emulation", "calibration"), "'measured' without figures", "add cyclesByKind")
        if emulation.calibrated_on is None:
            message = "'measured' does not say where and when"
            yield Finding(("emulation", "calibration"), message, "add calibratedOn")
    if emulation.thread_speedup is not None and emulation.thread_speedup > threads:
        message = f"more than the threads that run (runtime.threads: {threads})"
        yield Finding(("emulation", "threadSpeedup"), message)


@rule(HardwareClass, "precisions")
def precisions_are_distinct(hardware: HardwareClass, context: Context) -> Iterator[Finding]:
    """A list of different things."""
    for index, _first, name in repeated(hardware.precisions):
        yield Finding(("precisions", index), f"'{name}' is here twice")


@rule(HardwareClass, "thermal")
def throttling_starts_above_ambient(hardware: HardwareClass, context: Context) -> Iterator[Finding]:
    """A die is never cooler than the air around it."""
    if hardware.thermal.throttle_at <= hardware.thermal.ambient_max:
        ambient = CELSIUS.format(hardware.thermal.ambient_max)
        yield Finding(
            ("thermal", "throttleAt"), f"not above the hottest surroundings (ambientMax: {ambient})"
        )


@rule(HardwareClass, "update_policy")
def backoff_is_longer_than_the_interval(hardware: HardwareClass, context: Context) -> Iterator[Finding]:
    """Waiting less after a failure than after a success helps nobody."""
    poll = hardware.update_policy.poll
    if poll.max_backoff < poll.interval:
        interval = SECONDS.format(poll.interval)
        yield Finding(("updatePolicy", "poll", "maxBackoff"), f"shorter than the interval ({interval})")


_MOST_S = {"health_timeout": 3600, "inference_timeout": 3600, "trial_soak": 3600, "soak": 30 * 86400}


@rule(HardwareClass, "rollback_policy")
def trials_and_soaks_end(hardware: HardwareClass, context: Context) -> Iterator[Finding]:
    """Devices refuse an assignment that would keep them trying, or watching, for longer."""
    policy = hardware.rollback_policy
    for name, most_s in _MOST_S.items():
        key = camel_case(name)
        asked_s = getattr(policy, name)
        if asked_s is not None and asked_s > most_s:
            message = f"devices take at most {SECONDS.format(most_s)}"
            yield Finding(("rollbackPolicy", key), message, f"write {SECONDS.format(most_s)} or less")
    if policy.trial_soak is not None and policy.trial_soak < policy.inference_timeout:
        timeout = SECONDS.format(policy.inference_timeout)
        message = f"over before a hang is noticed (inferenceTimeout: {timeout})"
        yield Finding(("rollbackPolicy", "trialSoak"), message, f"write at least {timeout}")


@rule(HardwareClass, "rollback_policy", "limits")
def device_budget_leaves_room(hardware: HardwareClass, context: Context) -> Iterator[Finding]:
    """A device that allows less than the gates do rolls back what they have passed."""
    budget, limits = hardware.rollback_policy.budget, hardware.limits
    if budget is None:
        return
    for name, asked, limit, quantity in (
        ("loadTime", budget.load_time, limits.load_time, MILLISECONDS),
        ("latency", budget.latency, limits.latency.p95, MILLISECONDS),
        ("peakMemory", budget.peak_memory, limits.peak_memory, BYTES),
    ):
        if asked is not None and asked < limit:
            message = (
                f"less than the gates allow ({quantity.format(limit)}): devices would refuse what they pass"
            )
            yield Finding(
                ("rollbackPolicy", "budget", name), message, f"write at least {quantity.format(limit)}"
            )


@rule(HardwareClass, "rollback_policy", "memory")
def device_budget_is_there(hardware: HardwareClass, context: Context) -> Iterator[Finding]:
    """A bound above what is fitted bounds nothing."""
    budget = hardware.rollback_policy.budget
    if budget is not None and (budget.peak_memory or 0) > hardware.memory.total:
        message = f"more than the whole memory (memory.total: {BYTES.format(hardware.memory.total)})"
        yield Finding(("rollbackPolicy", "budget", "peakMemory"), message)
