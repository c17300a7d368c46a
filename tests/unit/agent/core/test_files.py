"""Durable writes: the order of operations, and what a failing disk may and may not do."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgewright_agent.errors import StorageError
from edgewright_agent.files import Calls, Disk
from real import NOTHING_MAY_BE_SKIPPED


class Recorder(Calls):
    """Writes down every operation as `name last-part-of-path`."""

    def __init__(self) -> None:
        self.trace: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name in (
            "mkdir",
            "open",
            "write",
            "sync",
            "sync_data",
            "sync_dir",
            "rename",
            "unlink",
            "rmdir",
            "symlink",
        ):
            trace = self.trace

            def call(path: Path, *args: Any) -> Any:
                trace.append(f"{name} {path.name}")
                return found(path, *args)

            return call
        return found


def failing(operation: str, code: int) -> Disk:
    def fail(_self: Calls, path: Path, *_: Any) -> None:
        raise OSError(code, os.strerror(code), str(path))

    return Disk(type("Failing", (Calls,), {operation: fail})())


def test_a_file_is_put_in_place_synced_before_and_its_directory_after_the_rename(tmp_path: Path) -> None:
    calls = Recorder()
    Disk(calls).replace_file(tmp_path / "f", b"data")
    assert calls.trace == [
        "open f.new",
        "write f.new",
        "sync f.new",
        "rename f.new",
        f"sync_dir {tmp_path.name}",
    ]
    assert (tmp_path / "f").read_bytes() == b"data"


def test_the_name_of_an_overwritten_file_is_made_durable_once(tmp_path: Path) -> None:
    """On overlayfs it may have been copied up a moment ago, and its data alone would not keep it."""
    (tmp_path / "f").write_bytes(b"old data")
    calls = Recorder()
    disk = Disk(calls)
    for data in (b"new", b"now"):
        disk.overwrite(tmp_path / "f", data)
    assert calls.trace == [
        *("open f", "write f", "sync_data f", f"sync_dir {tmp_path.name}"),
        *("open f", "write f", "sync_data f"),
    ]
    assert (tmp_path / "f").read_bytes() == b"now data"


def test_a_new_directory_is_durable_in_its_parent(tmp_path: Path) -> None:
    calls = Recorder()
    disk = Disk(calls)
    disk.make_dir(tmp_path)
    calls.trace.clear()
    for _ in range(2):
        disk.make_dir(tmp_path / "a" / "b")
    assert calls.trace == ["mkdir a", f"sync_dir {tmp_path.name}", "mkdir b", "sync_dir a"]


def test_a_directory_that_was_there_is_made_durable_too_once(tmp_path: Path) -> None:
    (tmp_path / "left by a process that was killed").mkdir()
    calls = Recorder()
    disk = Disk(calls)
    for _ in range(2):
        disk.make_dir(tmp_path / "left by a process that was killed")
    assert calls.trace == [f"sync_dir {tmp_path.name}"]


def test_a_link_is_replaced_in_one_step(tmp_path: Path) -> None:
    disk = Disk()
    for target in ("one", "two"):
        disk.replace_symlink(tmp_path / "link", target)
        assert str((tmp_path / "link").readlink()) == target
    assert [p.name for p in tmp_path.iterdir()] == ["link"]


def test_a_tree_loses_first_what_makes_it_count(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    for name in ("a", "manifest.json", "sub/b"):
        (tree / name).write_text(name)
    (tree / "out").symlink_to("/etc")
    calls = Recorder()
    Disk(calls).remove_tree(tree, first="manifest.json")
    assert calls.trace[:2] == ["unlink manifest.json", "sync_dir tree"]
    assert not tree.exists()
    assert Path("/etc").is_dir(), "links are removed, not followed"


def test_renaming_between_directories_is_a_programming_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not in one directory"):
        Disk().rename(tmp_path / "a", tmp_path / "b" / "a")


def test_after_a_failed_sync_the_file_is_gone(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as failed:
        failing("sync", errno.EIO).write_file(tmp_path / "f", b"data")
    assert failed.value.code == "io-error"
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, "no-space"),
        (errno.EDQUOT, "no-space"),
        (errno.EROFS, "read-only"),
        (errno.EIO, "io-error"),
        (errno.EACCES, "not-permitted"),
        (errno.EXDEV, "exdev"),
    ],
)
def test_every_fault_has_a_code_names_the_path_and_says_what_to_do(
    tmp_path: Path, number: int, code: str
) -> None:
    with pytest.raises(StorageError) as failed:
        failing("write", number).write_file(tmp_path / "f", b"data")
    assert failed.value.code == code
    assert str(tmp_path / "f") in str(failed.value)
    assert ";" in str(failed.value)
    assert failed.value.exit_code == 3


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 512 KiB and 100 inodes."""
    if os.geteuid() != 0:
        reason = "mounting a tiny file system needs root"
        pytest.fail(reason) if NOTHING_MAY_BE_SKIPPED else pytest.skip(reason)
    folder = tmp_path / "tiny"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k,nr_inodes=100", "tiny", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_really_full_disk_is_told_as_no_space(tiny_disk: Path) -> None:
    with pytest.raises(StorageError) as failed:
        Disk().write_file(tiny_disk / "f", b"x" * 2**20)
    assert failed.value.code == "no-space"


def test_a_really_full_disk_stops_neither_the_record_nor_what_runs(tiny_disk: Path) -> None:
    from unit.agent.core.workbench import Bench, make_artifact

    bench = Bench(tiny_disk)
    bench.publish(make_artifact("1.0.0", size=100_000))
    assert bench.codes() == ["installed"]
    with pytest.raises(OSError, match="No space"), (tiny_disk / "somebody else's").open("wb", 0) as file:
        while True:
            file.write(b"x" * 4096)
    bench.publish(make_artifact("2.0.0", size=100_000))
    for _ in range(2):
        assert bench.codes() == ["no-space"]
        assert bench.running() == "1.0.0"
    assert bench.ledger.record.counters["polls"] == 3
    (tiny_disk / "somebody else's").unlink()
    assert bench.codes() == ["installed"], "it recovers by itself"
    assert bench.running() == "2.0.0"


def test_a_disk_without_inodes_is_told_before_anything_is_written(tiny_disk: Path) -> None:
    from unit.agent.core.workbench import Bench, make_artifact

    bench = Bench(tiny_disk)
    for number in range(30):
        (tiny_disk / f"f{number}").touch()
    bench.publish(make_artifact("1.0.0", size=1000))
    report = bench.once()
    assert [o.code for o in report.outcomes] == ["no-space"]
    assert "inodes" in report.outcomes[0].message
