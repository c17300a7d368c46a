from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from edgewright.bench.target import wheels
from edgewright.bench.target.userland import (
    DOCUMENT,
    USERLANDS,
    inspect,
    recipe_of,
    targets_cache,
    tree_digest,
)
from real import ROOT


def install(cache: Path, **changes: object) -> Path:
    root = cache / "arm64"
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/python3.11").write_bytes(b"ELF")
    (root / "lib").symlink_to("usr/lib")
    document = {"recipe": recipe_of("arm64"), "tree": tree_digest(root), **changes}
    (root / DOCUMENT).write_text(json.dumps(document))
    return root


def test_a_whole_userland_is_ready(tmp_path: Path) -> None:
    install(tmp_path)
    assert inspect("arm64", tmp_path, verify=True).state == "ready"


def test_nothing_there_is_missing_and_this_machine_needs_nothing(tmp_path: Path) -> None:
    assert inspect("riscv64", tmp_path).state == "missing"
    assert inspect("amd64", tmp_path).state == "native"


def test_another_recipe_is_outdated(tmp_path: Path) -> None:
    install(tmp_path, recipe="of an older version")
    assert inspect("arm64", tmp_path).state == "outdated"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"recipe": 3'])
def test_an_unreadable_document_is_damage(tmp_path: Path, text: str) -> None:
    (install(tmp_path) / DOCUMENT).write_text(text)
    assert inspect("arm64", tmp_path).state == "damaged"


def test_every_change_of_a_file_is_damage(tmp_path: Path) -> None:
    root = install(tmp_path)
    program = root / "usr/bin/python3.11"
    program.write_bytes(b"ELG")
    assert inspect("arm64", tmp_path, verify=True).state == "damaged"
    program.write_bytes(b"ELF")
    assert inspect("arm64", tmp_path, verify=True).state == "ready"
    program.chmod(0o755)
    assert inspect("arm64", tmp_path, verify=True).state == "damaged"
    program.chmod(0o644)
    (root / "lib").unlink()
    (root / "lib").symlink_to("usr")
    assert inspect("arm64", tmp_path, verify=True).state == "damaged"


def test_byte_code_is_not_part_of_a_userland(tmp_path: Path) -> None:
    root = install(tmp_path)
    (root / "usr/bin/__pycache__").mkdir()
    (root / "usr/bin/__pycache__/x.pyc").write_bytes(b"code")
    assert inspect("arm64", tmp_path, verify=True).state == "ready"


def test_the_recipe_knows_packages_and_wheels() -> None:
    recipes = {name: recipe_of(name) for name in (*USERLANDS, "qemu")}
    assert len(set(recipes.values())) == len(recipes)


def test_one_folder_names_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEWRIGHT_TARGETS", str(tmp_path))
    assert targets_cache() == tmp_path
    monkeypatch.delenv("EDGEWRIGHT_TARGETS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert targets_cache() == tmp_path / "edgewright" / "targets"


def test_the_locked_engine_is_the_one_that_builds_artifacts() -> None:
    pinned = dict(re.findall(r"^([a-z]+)==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    assert wheels.locked()["onnxruntime"] == pinned["onnxruntime"]


def test_every_wheel_has_one_hash_per_processor() -> None:
    processors = [userland for userland in USERLANDS.values() if userland.wheels]
    assert len(wheels.locked_hashes()) == len(wheels.locked()) * len(processors)
