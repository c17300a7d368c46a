"""Whose a state directory is, and what root does there; with real users in `e2e.test_package`."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from edgewright_agent import owner
from edgewright_agent.errors import StorageError
from edgewright_agent.files import whose
from edgewright_agent.lock import exclusive
from edgewright_agent.owner import as_caller, as_owner, become_owner, owner_of

_as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
SOMEBODY = 54321  # of no account


@pytest.fixture(autouse=True)
def anybodys_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python that runs tests may lie in a home that only its user reads."""
    monkeypatch.setattr(owner, "_may_run", lambda: True)


@pytest.fixture
def theirs() -> Iterator[Path]:
    """A folder of another user's, where that user comes to: pytest's are for one user only."""
    with tempfile.TemporaryDirectory(prefix="theirs-", dir="/tmp") as folder:
        os.chown(folder, SOMEBODY, SOMEBODY)
        yield Path(folder)


@_as_root
def test_what_is_not_there_yet_belongs_to_whose_folder_it_will_be_in(theirs: Path, tmp_path: Path) -> None:
    found = owner_of(theirs / "store" / "x")
    assert found is not None and (found.uid, found.gid, found.home) == (SOMEBODY, SOMEBODY, None)
    assert owner_of(tmp_path / "roots") is None


@_as_root
def test_a_link_that_another_user_has_put_there_is_that_users_wherever_it_leads(
    theirs: Path, tmp_path: Path
) -> None:
    link = theirs / "identity"
    link.symlink_to(tmp_path)
    assert owner_of(link / "device.key") is None, "root has put it there"
    os.chown(link, SOMEBODY, SOMEBODY, follow_symlinks=False)
    found = owner_of(link / "device.key")
    assert found is not None and found.uid == SOMEBODY


@_as_root
@pytest.mark.parametrize("become", [as_owner, become_owner])
def test_a_python_that_the_owner_may_not_run_is_told_before_anything_is_done(
    theirs: Path, monkeypatch: pytest.MonkeyPatch, become: Callable[[Path], Any]
) -> None:
    monkeypatch.setattr(owner, "_may_run", lambda: False)
    before = os.getresuid(), os.getresgid(), os.getgroups()
    with pytest.raises(StorageError, match="may not run this Python") as refused:
        done = become(theirs)
        if done is not None:
            done.__enter__()
    assert refused.value.code == "not-permitted"
    assert (os.getresuid(), os.getresgid(), os.getgroups()) == before


@_as_root
def test_root_is_itself_again_afterwards_and_for_a_moment_in_between(theirs: Path) -> None:
    before = os.geteuid(), os.getegid(), os.getgroups()
    with as_owner(theirs):
        assert (os.geteuid(), os.getegid(), os.getgroups()) == (SOMEBODY, SOMEBODY, [SOMEBODY])
        with as_owner(theirs), as_caller():
            assert os.geteuid() == 0
        assert os.geteuid() == SOMEBODY
    assert (os.geteuid(), os.getegid(), os.getgroups()) == before


@_as_root
def test_who_becomes_the_owner_has_no_way_back(theirs: Path) -> None:
    child = os.fork()
    if child == 0:
        become_owner(theirs)
        try:
            os.seteuid(0)
        except PermissionError:
            os._exit(0 if os.getresuid() == (SOMEBODY,) * 3 and os.getresgid() == (SOMEBODY,) * 3 else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@_as_root
def test_a_lock_of_roots_keeps_nobody_out(theirs: Path) -> None:
    with exclusive(theirs / "lock"):
        found = (theirs / "lock").stat()
        assert (found.st_uid, found.st_mode & 0o777) == (SOMEBODY, 0o600)
        assert os.geteuid() == 0


@_as_root
def test_a_state_directory_that_its_owner_cannot_come_to_is_told(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "state").mkdir()
    os.chown(closed / "state", SOMEBODY, SOMEBODY)
    with (
        pytest.raises(StorageError, match="belongs to root, and this is") as refused,
        exclusive(closed / "state" / "lock"),
    ):
        pass
    assert refused.value.code == "not-permitted"


@_as_root
@pytest.mark.parametrize("number", [errno.EPERM, errno.EINVAL])
def test_root_that_may_become_nobody_goes_on_as_it_is(
    theirs: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A container without CAP_SETUID, or one in which there is no such user."""

    def refuse(_uid: int) -> NoReturn:
        raise OSError(number, os.strerror(number))

    before = os.getresgid(), os.getgroups()
    with monkeypatch.context() as patched:
        patched.setattr(os, "seteuid", refuse)
        patched.setattr(os, "setresuid", lambda *_: refuse(0))
        with as_owner(theirs):
            assert os.geteuid() == 0
            assert (os.getresgid(), os.getgroups()) == before
        become_owner(theirs)
    assert (os.getresgid(), os.getgroups()) == before


def test_a_path_that_may_not_be_used_is_told_with_its_owner(tmp_path: Path) -> None:
    assert f"{tmp_path} belongs to" in whose(tmp_path / "not there")
    assert "who this is: check its mode" in whose(tmp_path)
