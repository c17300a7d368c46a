from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgewright.bench.target.place import documents, emulated_userland, place
from edgewright.bench.target.userland import EMULATOR, recipe_of


def on(arch: str) -> dict[str, dict[str, dict[str, str]]]:
    return {"hardware": {"cpu": {"arch": arch}}}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEWRIGHT_TARGETS", str(tmp_path))
    return tmp_path


def provisioned(cache: Path, name: str, tree: str) -> None:
    (cache / name).mkdir()
    (cache / name / "userland.json").write_text(json.dumps({"recipe": recipe_of(name), "tree": tree}))


def test_what_is_missing_is_said_so_that_provisioning_it_changes_the_key(cache: Path) -> None:
    before = place(on("arm64"))
    assert (before["arm64"], before[EMULATOR]) == ("missing", "missing")
    provisioned(cache, "arm64", "sha256:1")
    provisioned(cache, EMULATOR, "sha256:2")
    after = place(on("arm64"))
    assert (after["arm64"], after[EMULATOR]) == ("sha256:1", "sha256:2")
    assert {name for name in before if before[name] == after[name]} == {"plugin", "probe"}


def test_another_userland_is_no_business_of_this_class(cache: Path) -> None:
    before = place(on("arm64"))
    provisioned(cache, "riscv64", "sha256:3")
    assert place(on("arm64")) == before


def test_native_classes_depend_on_the_processor_their_instructions_are_counted_on() -> None:
    assert emulated_userland("amd64") == "amd64-qemu"


def test_every_file_that_may_change_a_place_is_listed(cache: Path) -> None:
    listed = {path.relative_to(cache).as_posix() for path in documents()}
    assert {"qemu/userland.json", "arm64/userland.json", "amd64-qemu/userland.json"} <= listed
