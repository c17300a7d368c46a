"""The model of a disk: what may be there after a power cut, and what may not."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from crash.recording import Recording
from crash.sectors import SECTOR
from crash.volume import Op, State, Volume, read_state
from edgewright_agent.files import Disk


def states(*ops: Op, volume: Volume | None = None) -> list[State]:
    volume = volume or Volume()
    for op in ops:
        volume.apply(op)
    return list(volume.states(random.Random(0), spare=60))


def contents(*ops: Op, path: str = "f", volume: Volume | None = None) -> set[bytes | None]:
    return {state.files.get(path) for state in states(*ops, volume=volume)}


def with_file(data: bytes) -> Volume:
    """A volume on which `f` is durable."""
    volume = Volume()
    for op in (Op("create", "f"), Op("write", "f", data=data)):
        volume.apply(op)
    volume.settle()
    return volume


NEW = [Op("create", "f"), Op("write", "f", data=b"n" * 1500)]


def test_a_file_that_was_not_synced_is_lost_torn_zeros_garbage_or_there() -> None:
    found = contents(*NEW)
    assert {None, b"", b"n" * 1500, bytes(1500), b"n" * SECTOR, b"n" * SECTOR + bytes(1500 - SECTOR)} <= found
    assert any(data and len(data) == 1500 and not set(data) <= {0, ord("n")} for data in found), (
        "stale blocks"
    )
    assert bytes(SECTOR) + b"n" * (1500 - SECTOR) in found, "written in another order"


def test_a_synced_file_may_have_no_name_until_its_directory_is_synced() -> None:
    assert contents(*NEW, Op("sync", "f")) == {None, b"n" * 1500}
    assert contents(*NEW, Op("sync", "f"), Op("sync_dir", "")) == {b"n" * 1500}


def test_a_name_without_its_files_data_is_no_surprise() -> None:
    found = contents(*NEW, Op("sync_dir", ""))
    assert None not in found
    assert {b"", bytes(1500)} <= found


def test_an_overwrite_is_torn_between_sectors_and_leaves_the_rest() -> None:
    old = b"o" * 4 * SECTOR
    found = contents(Op("write", "f", data=b"n" * 2 * SECTOR), volume=with_file(old))
    assert {
        old,
        b"n" * SECTOR + b"o" * 3 * SECTOR,
        b"o" * SECTOR + b"n" * SECTOR + b"o" * 2 * SECTOR,
    } <= found
    assert all(data is not None and data[2 * SECTOR :] == b"o" * 2 * SECTOR for data in found)
    assert all(data is not None and len(data) == len(old) for data in found)


def test_a_file_that_is_begun_anew_may_show_its_old_bytes_under_its_new_length() -> None:
    found = contents(Op("truncate", "f"), Op("write", "f", data=b"n" * 600), volume=with_file(b"o" * 300))
    assert {b"o" * 300, b"", b"o" * 300 + bytes(300), b"n" * 600} <= found


def test_room_that_was_set_aside_is_lost_or_zeros_and_never_what_lay_there_before() -> None:
    ops = [Op("create", "f"), Op("allocate", "f", size=4 * SECTOR), Op("write", "f", data=b"n" * SECTOR)]
    found = contents(*ops[:2], Op("sync_dir", ""))
    assert {b"", bytes(4 * SECTOR)} <= found
    assert all(data is not None and not any(data) for data in found)
    written = contents(*ops, Op("sync_dir", ""))
    assert {b"", bytes(4 * SECTOR), b"n" * SECTOR + bytes(3 * SECTOR)} <= written
    assert all(data is not None and not any(data[SECTOR:]) for data in written)
    assert contents(*ops, Op("sync", "f"), Op("sync_dir", "")) == {b"n" * SECTOR + bytes(3 * SECTOR)}


def test_what_was_synced_stays_when_a_file_grows() -> None:
    grown = Op("write", "f", offset=SECTOR, data=b"n" * SECTOR)
    found = contents(grown, volume=with_file(b"o" * SECTOR))
    assert all(data is not None and data[:SECTOR] == b"o" * SECTOR for data in found)
    assert {b"o" * SECTOR, b"o" * SECTOR + bytes(SECTOR)} <= found


@pytest.mark.parametrize("there", [False, True])
def test_a_rename_leaves_either_name_or_both_and_never_neither_where_there_was_one(there: bool) -> None:
    volume = with_file(b"old")
    volume.apply(Op("rename", "f", to="g"))
    if there:
        volume.settle()
        for op in (Op("create", "f"), Op("write", "f", data=b"new"), Op("sync", "f"), Op("sync_dir", "")):
            volume.apply(op)
        volume.apply(Op("rename", "f", to="g"))
    found = {tuple(sorted(state.files.items())) for state in states(volume=volume)}
    if there:
        assert found == {
            (("f", b"new"), ("g", b"old")),
            (("f", b"new"), ("g", b"new")),
            (("g", b"new"),),
            (("g", b"old"),),
        }
    else:
        assert found == {(("f", b"old"),), (("g", b"old"),), (("f", b"old"), ("g", b"old")), ()}


def test_what_was_removed_may_be_back() -> None:
    volume = with_file(b"old")
    volume.apply(Op("unlink", "f"))
    assert contents(volume=volume) == {None, b"old"}
    assert contents(Op("sync_dir", ""), volume=volume) == {None}


def test_a_directory_that_was_not_synced_takes_all_in_it_along() -> None:
    ops = [Op("mkdir", "d"), Op("create", "d/f"), Op("sync", "d/f"), Op("sync_dir", "d")]
    assert {frozenset(state.entries) for state in states(*ops)} == {frozenset(), frozenset({"d", "d/f"})}


def test_a_mode_is_the_old_or_the_new_one() -> None:
    volume = with_file(b"x")
    volume.apply(Op("chmod", "f", mode=0o600))
    assert {state.entries["f"][2] for state in states(volume=volume)} == {0o644, 0o600}
    assert {state.entries["f"][2] for state in states(Op("sync", "f"), volume=volume)} == {0o600}


def test_what_is_recorded_of_real_operations_is_what_is_really_there(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    disk = Disk(recording)
    disk.make_dir(tmp_path / "a" / "b")
    disk.replace_file(tmp_path / "a" / "f", b"1" * 5000)
    disk.replace_file(tmp_path / "a" / "f", b"2" * 700)
    disk.overwrite(tmp_path / "a" / "f", b"333")
    disk.create_private(tmp_path / "a" / "key", b"secret")
    disk.replace_symlink(tmp_path / "a" / "link", "f")
    with disk.appending(tmp_path / "a" / "b" / "part", keep=0) as file:
        file.write(b"x" * 10)
        file.write(b"y" * 10)
    disk.set_mode(tmp_path / "a" / "b", 0o700)
    disk.remove(tmp_path / "a" / "f")
    disk.preallocate(tmp_path / "a" / "ring", 9000, b"head")
    disk.write_at(tmp_path / "a" / "ring", b"record", 5000, sync=False)
    volume = Volume()
    for op in recording.ops:
        volume.apply(op)
    assert volume.now().digest() == read_state(tmp_path).digest()
    copy = tmp_path / "copy"
    copy.mkdir()
    volume.now().write_to(copy)
    assert read_state(copy).digest() == volume.now().digest()
    assert Volume.holding(volume.now()).now().digest() == volume.now().digest()


def test_what_others_write_past_the_agent_is_told_as_not_synced(tmp_path: Path) -> None:
    recording = Recording(tmp_path, foreign=["tuf"])
    disk = Disk(recording)
    disk.make_dir(tmp_path / "tuf")
    (tmp_path / "tuf" / "timestamp.json").write_bytes(b"metadata")
    disk.sync_dir(tmp_path)
    volume = Volume()
    for op in recording.ops:
        volume.apply(op)
    found = {state.files.get("tuf/timestamp.json") for state in states(volume=volume)}
    assert {None, b"", b"metadata", bytes(8)} <= found
    disk.sync_tree(tmp_path / "tuf")
    for op in recording.ops[len(recording.ops) - 2 :]:
        volume.apply(op)
    assert {state.files.get("tuf/timestamp.json") for state in states(volume=volume)} == {b"metadata"}
