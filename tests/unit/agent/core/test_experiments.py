"""What an application finds about an experiment on its device."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from edgewright_agent.errors import StorageError
from edgewright_agent.experiments import FOLDER, path_of, publish, read
from edgewright_agent.files import Calls, Disk
from edgewright_agent.model_state import Candidate, ModelState, Slot

ACTIVE, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
SINCE = "2030-01-01T00:00:00Z"
STATE = ModelState(
    active=Slot(ACTIVE, "1.0.0", SINCE), candidate=Candidate(OTHER, "1.1.0", "shadow", 0.5, "wider", SINCE)
)


def test_an_application_reads_what_the_record_says(tmp_path: Path) -> None:
    publish(tmp_path, Disk(), {"digit-reader": STATE}, device="pi-7")
    found = read(tmp_path, "digit-reader")
    assert found is not None
    assert (found.kind, found.share, found.digest, found.active) == ("shadow", 0.5, OTHER, ACTIVE)
    assert (found.name, found.device) == ("wider", "pi-7")


@pytest.mark.parametrize(
    "over",
    [
        replace(STATE, candidate=None),
        replace(STATE, active=None),
        replace(STATE, active=Slot(OTHER, "1.1.0", SINCE)),
    ],
)
def test_an_experiment_that_is_over_leaves_nothing(tmp_path: Path, over: ModelState) -> None:
    publish(tmp_path, Disk(), {"digit-reader": STATE}, device="pi-7")
    publish(tmp_path, Disk(), {"digit-reader": over}, device="pi-7")
    assert read(tmp_path, "digit-reader") is None
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_nothing_is_written_where_nothing_has_changed(tmp_path: Path) -> None:
    class Counting(Calls):
        writes = 0

        def write(self, path: Path, fd: int, data: bytes, offset: int) -> None:
            Counting.writes += 1
            super().write(path, fd, data, offset)

    for _ in range(3):
        publish(tmp_path, Disk(Counting()), {"digit-reader": STATE}, device="pi-7")
    assert Counting.writes == 1


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"version":2}', b'{"version":1,"model":"digit-reader"}', b"x" * 10_000],
)
def test_what_cannot_be_understood_is_no_experiment(tmp_path: Path, body: bytes) -> None:
    path = path_of(tmp_path, "digit-reader")
    path.parent.mkdir()
    path.write_bytes(body)
    assert read(tmp_path, "digit-reader") is None


def test_a_file_of_another_model_is_no_experiment(tmp_path: Path) -> None:
    publish(tmp_path, Disk(), {"digit-reader": STATE}, device="pi-7")
    path_of(tmp_path, "digit-reader").rename(path_of(tmp_path, "part-inspector"))
    assert read(tmp_path, "part-inspector") is None


@pytest.mark.parametrize("how", ["a folder is in its place", "a bad sector", "somebody else's"])
def test_a_file_that_cannot_be_read_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    publish(tmp_path, Disk(), {"digit-reader": STATE}, device="pi-7")
    path = path_of(tmp_path, "digit-reader")
    if how == "a folder is in its place":
        path.unlink()
        (path / "with").mkdir(parents=True)
    with monkeypatch.context() as patched:
        if how != "a folder is in its place":
            number = errno.EIO if how == "a bad sector" else errno.EACCES
            patched.setattr(Path, "read_bytes", lambda _: _raise(OSError(number, os.strerror(number))))
        publish(tmp_path, Disk(), {"digit-reader": STATE}, device="pi-8")
    found = read(tmp_path, "digit-reader")
    assert found and found.device == "pi-8"


def test_a_folder_in_the_place_of_an_experiment_that_is_over_goes(tmp_path: Path) -> None:
    (path_of(tmp_path, "digit-reader") / "with").mkdir(parents=True)
    publish(tmp_path, Disk(), {}, device="pi-7")
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_a_folder_that_cannot_be_read_is_a_fault_of_the_disk(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("a file is in the way")
    with pytest.raises(StorageError):
        publish(tmp_path, Disk(), {"digit-reader": STATE}, device="pi-7")


def _raise(error: Exception) -> bytes:
    raise error
