from __future__ import annotations

import pytest

from edgewright.bench.target import processor
from edgewright.bench.target.processor import Core, check_cpu, choose, guest_files, nearest, parse_cpus
from edgewright.errors import EnvironmentFault, SpecError
from edgewright.spec.hardware import HardwareClass
from edgewright.spec.load import load_fleet
from real import ROOT

CLASSES = load_fleet(ROOT).hardware


@pytest.mark.parametrize(
    ("name", "userland", "cpu"),
    [
        ("raspberry-pi-4", "arm64", "cortex-a72"),
        ("intel-lowpower-detector", "amd64-qemu", "Denverton"),
        ("medical-cart-cpu", "amd64", None),
        ("factory-gateway-gpu", "amd64", None),
        ("jetson-vision-standard", "arm64", "cortex-a76"),
    ],
)
def test_every_class_of_this_fleet_has_a_processor(
    monkeypatch: pytest.MonkeyPatch, name: str, userland: str, cpu: str | None
) -> None:
    monkeypatch.setattr(processor.platform, "machine", lambda: "x86_64")
    core = choose(CLASSES[name])
    assert (core.userland, core.cpu) == (userland, cpu)


def test_a_declared_accelerator_is_never_claimed() -> None:
    assert "not emulated" in str(choose(CLASSES["jetson-vision-standard"]).stands_in)
    assert choose(CLASSES["raspberry-pi-4"]).stands_in is None


def test_native_to_another_machine_is_a_fault_and_not_a_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor.platform, "machine", lambda: "aarch64")
    with pytest.raises(EnvironmentFault, match="natively on amd64; this machine is arm64"):
        choose(CLASSES["medical-cart-cpu"])


def test_the_nearest_core_has_the_declared_instructions_and_no_more() -> None:
    assert nearest("arm64", "cortex-a53", ["neon"]) == "cortex-a53"
    assert nearest("arm64", "cortex-a55", ["neon", "asimddp"]) == "cortex-a76"
    assert nearest("arm64", "cortex-x4", ["neon", "i8mm"]) == "max"
    assert nearest("amd64", "tremont", ["sse4.2"]) == "Denverton"
    assert nearest("amd64", "zen2", ["avx", "avx2"]) == "Haswell"
    assert nearest("armv7", "cortex-a7", ["neon"]) == "cortex-a7"
    assert nearest("riscv64", "u74", []) == "rv64"


def test_an_unknown_processor_names_its_neighbour_and_all_that_are_known() -> None:
    with pytest.raises(SpecError, match=r"no processor 'cortex-a27' \(did you mean cortex-a72\?\)") as raised:
        check_cpu("cortex-a27", ["cortex-a53", "cortex-a72"], emulator="qemu-aarch64 7.2")
    assert raised.value.hint == "it knows cortex-a53, cortex-a72"


def test_features_after_a_comma_are_the_emulators_business() -> None:
    check_cpu("rv64,v=true", ["rv64"], emulator="qemu-riscv64 7.2")


def test_x86_processors_are_listed_without_their_versions() -> None:
    told = (
        "Available CPUs:\nx86 Denverton   (alias configured by machine type)\nx86 Denverton-v1   Intel Atom\n"
        "x86 Haswell     (alias)\n\nRecognized CPUID flags:\n  3dnow 3dnowext\n"
    )
    assert parse_cpus(told) == ["Denverton", "Haswell"]


def test_the_guest_is_told_the_declared_core() -> None:
    core = Core("arm64", "cortex-a76", "cortex-a78ae", 6, ("neon", "asimddp"))
    files = guest_files(core)
    assert files["proc/cpuinfo"].count("CPU part\t: 0xd42") == 6
    assert "asimddp" in files["proc/cpuinfo"]
    assert files["sys/devices/system/cpu/possible"] == "0-5\n"
    assert guest_files(Core("arm64", "cortex-a53", "x", 1))["sys/devices/system/cpu/online"] == "0\n"


def test_a_class_without_a_cpu_gets_the_nearest() -> None:
    hardware: HardwareClass = CLASSES["raspberry-pi-4"]
    bare = hardware.model_copy(update={"emulation": hardware.emulation.model_copy(update={"cpu": None})})
    assert choose(bare).cpu == "cortex-a72"
