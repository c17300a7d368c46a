"""What is decided before anything runs; tests/e2e/test_providers.py runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgewright.bench.target.provider import OPENVINO, absent, environment_of, kernels_for, provider_target
from edgewright.bench.target.userland import USERLANDS
from edgewright.errors import EnvironmentFault
from edgewright.spec.load import load_fleet
from real import ROOT

CLASSES = load_fleet(ROOT).hardware


def on(monkeypatch: pytest.MonkeyPatch, machine: str) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)


def test_only_classes_with_openvino_have_an_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, "x86_64")
    found = {name: environment_of(hardware) for name, hardware in CLASSES.items()}
    assert {name for name, userland in found.items() if userland} == {"intel-lowpower-detector"}
    assert found["intel-lowpower-detector"] == USERLANDS["amd64-openvino"]


def test_cuda_and_tensorrt_run_nowhere_but_on_their_device(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    on(monkeypatch, "x86_64")
    assert provider_target(CLASSES["factory-gateway-gpu"], tmp_path) is None


def test_another_processor_cannot_run_the_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    on(monkeypatch, "aarch64")
    assert provider_target(CLASSES["intel-lowpower-detector"], tmp_path) is None


def test_a_missing_environment_names_the_command_that_mends_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    on(monkeypatch, "x86_64")
    with pytest.raises(EnvironmentFault, match="amd64-openvino userland is not on this machine") as raised:
        provider_target(CLASSES["intel-lowpower-detector"], tmp_path)
    assert raised.value.hint == "edgewright targets provision --arch amd64-openvino"


@pytest.mark.parametrize(
    ("isa", "kernels"),
    [
        ([], "SSE41"),
        (["sse4.1", "sse4.2"], "SSE41"),
        (["sse4.2", "avx"], "AVX"),
        (["avx", "avx2", "fma"], "AVX2"),
        (["avx", "avx2", "vnni"], "AVX2_VNNI"),
        (["avx2", "avx512"], "AVX512_CORE"),
        (["avx2", "avx512", "vnni"], "AVX512_CORE_VNNI"),
        (["avx2", "avx512", "vnni", "amx"], "AVX512_CORE_AMX"),
    ],
)
def test_kernels_take_what_the_class_declares_and_no_more(isa: list[str], kernels: str) -> None:
    assert kernels_for(isa, ["avx2", "avx_vnni", "avx512vl", "avx512_vnni"]) == kernels


def test_a_machine_with_the_other_vnni_computes_the_same() -> None:
    assert kernels_for(["avx2", "vnni"], ["avx2", "avx512_vnni"]) == "AVX512_CORE_VNNI"


def test_what_this_machine_lacks_is_known() -> None:
    assert absent(["sse4.2", "avx2", "avx512", "vnni"], ["avx2", "avx_vnni"]) == ["avx512"]


def test_there_is_one_provider_with_an_environment() -> None:
    assert [userland.provider for userland in USERLANDS.values() if userland.provider] == [OPENVINO]
