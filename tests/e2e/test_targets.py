"""Real ONNX Runtime on emulated processors: what `edgewright targets provision` made is used as it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgewright.bench.functional import SATURATES, check
from edgewright.bench.target import emulator
from edgewright.bench.target.ask import ask
from edgewright.bench.target.emulator import Target, emulated_target, native_target, open_target
from edgewright.bench.target.processor import Core
from edgewright.bench.target.userland import inspect, targets_cache
from edgewright.build.golden import decoded
from edgewright.build.layout import Layout, apply
from edgewright.cli import targets
from edgewright.errors import SpecError
from edgewright.spec.load import load_fleet
from edgewright_agent.contract import FILE_DATA, FILE_MODEL
from real import ROOT, require_target
from unit.bench.target import models

CORES = {
    "arm64": Core("arm64", "cortex-a72", "cortex-a72", 4, ("neon",)),
    "amd64-qemu": Core("amd64-qemu", "Denverton", "tremont", 4, ("sse4.2",)),
    "armv7": Core("armv7", "cortex-a7", "cortex-a7", 4, ("neon",)),
    "riscv64": Core("riscv64", "rv64", "u74", 4),
}


@pytest.fixture(params=sorted(CORES))
def target(request: pytest.FixtureRequest) -> Target:
    require_target(request.param)
    return emulated_target(CORES[request.param], targets_cache())


def test_an_int8_model_answers_as_it_does_here(target: Target, tmp_path: Path) -> None:
    case = models.saturating()
    model, runtime = case.write(tmp_path)
    found = check(target, model, runtime, case.golden)
    assert found.verdict == "pass", found


def test_weights_in_a_file_of_their_own_are_mapped_there_too(target: Target, tmp_path: Path) -> None:
    case = models.weighing(1)
    files = apply(Layout((FILE_DATA,)), case.model)
    model, runtime = case.write(tmp_path)
    model.write_bytes(files[FILE_MODEL])
    data = tmp_path / "weights"
    data.write_bytes(files[FILE_DATA])
    assert check(target, model, runtime, case.golden, data=data).verdict == "pass"


def test_fp32_differs_by_rounding_at_most(target: Target, tmp_path: Path) -> None:
    case = models.weighing(1)
    model, _ = case.write(tmp_path)
    request = {"model": str(model), "inputs": case.golden["inputs"]}
    here = ask(native_target(target.core), request, timeout_s=120)["outputs"]["y"]
    there = ask(target, request, timeout_s=120)["outputs"]["y"]
    np.testing.assert_allclose(decoded(there), decoded(here), rtol=1e-6)


@pytest.mark.parametrize(
    ("case", "failure"),
    [
        (models.Case(b"not a model" * 9, models.ROW, models.ROW), "model-corrupt"),
        (models.unknown_operator("com.acme"), "operator-missing"),
    ],
    ids=["corrupt", "operator"],
)
def test_a_bad_artifact_is_a_named_failure(
    target: Target, tmp_path: Path, case: models.Case, failure: str
) -> None:
    model, runtime = case.write(tmp_path)
    assert check(target, model, runtime, case.golden).failure == failure


def test_a_model_larger_than_its_memory_ends_instead_of_hanging(target: Target, tmp_path: Path) -> None:
    case = models.weighing(96)
    model, runtime = case.write(tmp_path)
    found = check(target, model, runtime, case.golden, memory_limit_bytes=64 * 2**20)
    assert (found.failure, found.message) == (
        "out-of-memory",
        "it needs more than 67108864 bytes over the bare engine",
    )
    assert check(target, model, runtime, case.golden, memory_limit_bytes=512 * 2**20).verdict == "pass"


def test_a_32_bit_guest_is_watched_where_no_group_can_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_target("armv7")
    monkeypatch.setattr(emulator, "permitted", lambda: None)
    test_a_model_larger_than_its_memory_ends_instead_of_hanging(
        emulated_target(CORES["armv7"], targets_cache()), tmp_path
    )


def test_saturation_on_avx2_is_caught_and_the_advice_is_proven(tmp_path: Path) -> None:
    require_target("amd64-qemu")
    haswell = emulated_target(Core("amd64-qemu", "Haswell", "haswell", 4, ("avx2",)), targets_cache())
    case = models.saturating()
    model, runtime = case.write(tmp_path)
    found = check(haswell, model, runtime, case.golden)
    assert (found.failure, found.advice) == ("outputs-differ", (SATURATES,))


def test_an_unknown_processor_lists_the_known_ones() -> None:
    require_target("arm64")
    hardware = load_fleet(ROOT).hardware["raspberry-pi-4"]
    emulation = hardware.emulation.model_copy(update={"cpu": "cortex-a27"})
    with pytest.raises(SpecError, match="knows no processor 'cortex-a27'") as raised:
        open_target(hardware.model_copy(update={"emulation": emulation}), targets_cache())
    assert "cortex-a72" in str(raised.value.hint)


def test_the_label_says_what_ran() -> None:
    require_target("arm64")
    target = open_target(load_fleet(ROOT).hardware["raspberry-pi-4"], targets_cache())
    assert target.label == "qemu-aarch64 7.2, cpu cortex-a72"
    assert target.threads == 1


def test_using_a_userland_does_not_change_it(tmp_path: Path) -> None:
    require_target("arm64")
    case = models.relu()
    model, runtime = case.write(tmp_path)
    check(emulated_target(CORES["arm64"], targets_cache()), model, runtime, case.golden)
    assert inspect("arm64", targets_cache(), verify=True).state == "ready"


def test_the_list_says_what_is_there_and_what_to_do_about_the_rest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EDGEWRIGHT_TARGETS", str(tmp_path))
    shown = CliRunner().invoke(targets.command, ["list"])
    assert shown.exit_code == 0
    assert "edgewright targets provision --arch amd64-openvino --arch amd64-qemu --arch arm64" in shown.output
    assert "for OpenVINOExecutionProvider" in shown.output
    told = json.loads(CliRunner().invoke(targets.command, ["list", "--json"]).output)
    states = {item["name"]: item["state"] for item in told["targets"]}
    assert (states["amd64"], states["arm64"]) == ("native", "missing")
