from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgewright.bench.target.place import documents, emulated_userland, place
from edgewright.bench.target.userland import EMULATOR, recipe_of
from edgewright.plan.slices import dump
from edgewright.spec.hardware import Sheet
from edgewright.spec.load import load_fleet
from real import ROOT


def on(hardware_class: str) -> dict[str, Any]:
    """The slice of a lane of one of this repository's classes."""
    return {"hardware": dump(Sheet.of(load_fleet(ROOT).hardware[hardware_class]))}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEWRIGHT_TARGETS", str(tmp_path))
    return tmp_path


def provisioned(cache: Path, name: str, tree: str) -> None:
    (cache / name).mkdir()
    (cache / name / "userland.json").write_text(json.dumps({"recipe": recipe_of(name), "tree": tree}))


def test_what_is_missing_is_said_so_that_provisioning_it_changes_the_key(cache: Path) -> None:
    before = place(on("raspberry-pi-4"))
    assert (before["arm64"], before[EMULATOR]) == ("missing", "missing")
    provisioned(cache, "arm64", "sha256:1")
    provisioned(cache, EMULATOR, "sha256:2")
    after = place(on("raspberry-pi-4"))
    assert (after["arm64"], after[EMULATOR]) == ("sha256:1", "sha256:2")
    assert {name for name in before if before[name] == after[name]} == {"plugin", "probe"}


def test_another_userland_is_no_business_of_this_class(cache: Path) -> None:
    before = place(on("raspberry-pi-4"))
    provisioned(cache, "riscv64", "sha256:3")
    assert place(on("raspberry-pi-4")) == before


def test_the_environment_of_an_execution_provider_is_part_of_its_classes(cache: Path) -> None:
    assert "amd64-openvino" in place(on("intel-lowpower-detector"))
    assert "amd64-openvino" not in place(on("medical-cart-cpu"))


def test_native_classes_depend_on_the_processor_their_instructions_are_counted_on() -> None:
    assert emulated_userland("amd64") == "amd64-qemu"


def test_every_file_that_may_change_a_place_is_listed(cache: Path) -> None:
    listed = {path.relative_to(cache).as_posix() for path in documents()}
    assert {"qemu/userland.json", "arm64/userland.json", "amd64-qemu/userland.json"} <= listed
