from __future__ import annotations

import ctypes
import stat
from pathlib import Path

import pytest

from edgewright.bench.counting import build as module
from edgewright.bench.counting.build import build, source_digest
from edgewright.errors import EnvironmentFault


def test_the_plugin_is_compiled_once_and_then_found(tmp_path: Path) -> None:
    plugin = build(tmp_path)
    made = plugin.stat().st_mtime_ns
    assert build(tmp_path) == plugin
    assert plugin.stat().st_mtime_ns == made
    assert [file.name for file in plugin.parent.iterdir()] == [plugin.name]


def test_the_plugin_exports_what_qemu_looks_for_and_nothing_else(tmp_path: Path) -> None:
    content = build(tmp_path).read_bytes()
    assert b"qemu_plugin_install" in content
    assert b"qemu_plugin_version" in content
    with pytest.raises(OSError, match="undefined symbol: qemu_plugin"):
        ctypes.CDLL(str(build(tmp_path)))  # the rest is QEMU's to give


def test_another_source_is_another_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = source_digest()
    monkeypatch.setattr(module, "FLAGS", (*module.FLAGS, "-O3"))
    assert source_digest() != before


def test_whatever_the_plugin_is_made_of_is_part_of_its_name() -> None:
    made_of = {file.name for file in Path(module.__file__).parent.iterdir() if file.suffix in (".c", ".h")}
    assert set(module.SOURCES) == made_of


def test_a_missing_compiler_is_said_with_the_command_that_installs_one(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="there is no no-such-compiler") as fault:
        build(tmp_path, compiler="no-such-compiler")
    assert fault.value.hint == "sudo apt-get install -y gcc libc6-dev"


def test_a_failing_compiler_is_quoted_and_leaves_nothing_behind(tmp_path: Path) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho 'stdio.h: No such file' >&2\nexit 1\n")
    compiler.chmod(compiler.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(EnvironmentFault, match=r"stdio\.h: No such file"):
        build(tmp_path / "cache", compiler=str(compiler))
    assert list((tmp_path / "cache" / "plugins").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFault, match="cannot write"):
        build(tmp_path / "file")
