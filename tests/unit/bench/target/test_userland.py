from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from edgewright.bench.target import provision, userland, wheels
from edgewright.bench.target.userland import (
    DOCUMENT,
    USERLANDS,
    inspect,
    recipe_of,
    targets_cache,
    tree_digest,
)
from edgewright.errors import EnvironmentFault, NetworkError
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
    processors = [userland for userland in USERLANDS.values() if userland.lock == wheels.WHEELS_LOCK]
    processors = [userland for userland in processors if userland.wheels]
    assert len(wheels.locked_hashes()) == len(wheels.locked()) * len(processors)


def test_openvino_has_one_hash_per_python_and_the_numpy_of_the_others() -> None:
    pythons, lock = USERLANDS["amd64-openvino"].pythons, USERLANDS["amd64-openvino"].lock
    assert len(wheels.locked_hashes(lock)) == len(wheels.locked(lock)) * len(pythons)
    assert wheels.locked(lock)["numpy"] == wheels.locked()["numpy"]


def test_wheels_of_another_python_are_another_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: recipe_of(name) for name in USERLANDS}
    monkeypatch.setattr(userland, "this_python", lambda: "3.12")
    changed = {name for name in USERLANDS if recipe_of(name) != before[name]}
    assert changed - {"amd64-openvino"} == set()
    assert changed or sys.version_info[:2] == (3, 12)


@pytest.mark.parametrize(
    ("machine", "python", "said"),
    [
        ("aarch64", "3.11", "runs on amd64 without an emulator; this machine is arm64"),
        (
            "x86_64",
            "3.14",
            "needs the wheels of its Python: there are some for 3.11, 3.12, 3.13, and this is",
        ),
    ],
)
def test_what_runs_without_an_emulator_needs_its_processor_and_python(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, machine: str, python: str, said: str
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(provision, "this_python", lambda: python)
    with pytest.raises(EnvironmentFault, match=said):
        provision.provision("amd64-openvino", tmp_path, Silent())


class Silent:
    def step(self, what: str, total_bytes: int | None = None) -> None: ...

    def advance(self, done_bytes: int) -> None: ...


def test_libraries_under_several_names_become_one(tmp_path: Path) -> None:
    for name in ("libov.so", "libov.so.25", "libov.so.2025.4.1"):
        (tmp_path / name).write_bytes(b"ELF")
    (tmp_path / "libtbb.so").write_bytes(b"another")
    wheels.link_copies(tmp_path)
    links = {path.name: str(path.readlink()) for path in tmp_path.iterdir() if path.is_symlink()}
    assert links == {"libov.so": "libov.so.2025.4.1", "libov.so.25": "libov.so.2025.4.1"}
    assert (tmp_path / "libov.so").read_bytes() == b"ELF"


def test_wheels_that_the_lock_does_not_know_are_not_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "numpy-2.4.6-cp311-cp311-any.whl").write_bytes(b"damaged")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(NetworkError, match="could not be fetched") as raised:
        wheels.fetch(USERLANDS["arm64"], tmp_path)
    assert raised.value.hint == "run it again: what has arrived is kept"
    assert list(tmp_path.iterdir()) == []
