"""A disk at its last byte and its last inode, on real file systems: what runs runs on, polls go on, it ends alone."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

import pytest

from edgewright_agent.errors import StorageError
from edgewright_agent.files import Calls, Disk
from edgewright_agent.ladder import LOOKS
from edgewright_agent.lock import exclusive
from edgewright_agent.record import Ledger, Record
from edgewright_agent.slots import BALLAST
from edgewright_agent.status import gather
from real import NOTHING_MAY_BE_SKIPPED, TOOLS
from unit.agent.core.idle import settled
from unit.agent.core.workbench import MODEL, Bench, make_artifact

MKFS_BTRFS = next(
    (
        str(path)
        for path in (TOOLS / "mkfs.btrfs", shutil.which("mkfs.btrfs"))
        if path and Path(path).exists()
    ),
    None,
)
KINDS = ("tmpfs", "ext4", "overlay", *(["btrfs"] if MKFS_BTRFS else []))
COUNTS_INODES = ("tmpfs", "ext4", "overlay")
ONE, TWO, THREE = (make_artifact(version, size=300_000) for version in ("1.0.0", "2.0.0", "3.0.0"))


@dataclass
class SmallDisk:
    """A real file system of its own, of some MiB, and whoever else fills it."""

    folder: Path
    made: list[Path] = field(default_factory=list)

    def fill_bytes(self) -> None:
        """Take every byte that is left."""
        other = self.folder / "somebody else's"
        other.mkdir(exist_ok=True)
        for number, size in enumerate((1 << 20, 4096, 4096, 512, 1)):
            path = other / f"{number}"
            self.made.append(path)
            with contextlib.suppress(OSError), path.open("wb", 0) as file:
                while file.write(os.urandom(size)):
                    pass
            os.sync()

    def fill_inodes(self) -> None:
        """Take every inode that is left."""
        other = self.folder / "somebody else's"
        other.mkdir(exist_ok=True)
        with contextlib.suppress(OSError):
            for number in range(100_000):
                (other / f"i{number}").touch()
                self.made.append(other / f"i{number}")

    def relent(self) -> None:
        """Give everything back."""
        for path in self.made:
            path.unlink(missing_ok=True)
        self.made.clear()
        os.sync()


def _mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True, capture_output=True)


@contextlib.contextmanager
def mounted(kind: str, folder: Path) -> Iterator[Path]:
    """Mount a small file system of a kind; needs root."""
    if os.geteuid() != 0:
        reason = "mounting a small file system needs root"
        pytest.fail(reason) if NOTHING_MAY_BE_SKIPPED else pytest.skip(reason)
    place, below = folder / "mounted", folder / "below"
    place.mkdir()
    with contextlib.ExitStack() as stack:

        def mount(at: Path, *arguments: str | Path) -> None:
            _mount(*arguments, at)
            stack.callback(subprocess.run, ["umount", "-l", str(at)], check=True)

        if kind == "tmpfs":
            mount(place, "-t", "tmpfs", "-o", "size=6m,nr_inodes=300", "small")
        elif kind == "btrfs":
            image = folder / "image"
            with image.open("wb") as file:
                file.truncate(32 << 20)
            subprocess.run([str(MKFS_BTRFS), "-q", "--mixed", str(image)], check=True)
            mount(place, "-o", "loop", image)
        else:
            image = folder / "image"
            with image.open("wb") as file:
                file.truncate(8 << 20)
            subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-N", "300", str(image)], check=True)
            if kind == "ext4":
                mount(place, "-o", "loop", image)
            else:
                below.mkdir()
                mount(below, "-o", "loop", image)
                for name in ("lower", "upper", "work"):
                    (below / name).mkdir()
                layers = f"lowerdir={below}/lower,upperdir={below}/upper,workdir={below}/work"
                mount(place, "-t", "overlay", "-o", layers, "overlay")
        yield place


@pytest.fixture(params=KINDS)
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallDisk]:
    """A small disk of each kind."""
    with mounted(request.param, tmp_path) as folder:
        yield SmallDisk(folder)


@pytest.fixture(params=COUNTS_INODES)
def counting(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallDisk]:
    """A small disk of each kind that counts inodes."""
    with mounted(request.param, tmp_path) as folder:
        yield SmallDisk(folder)


def device(folder: Path) -> Bench:
    """A device that runs 1.0.0, with a small reserve."""
    bench = Bench(folder)
    bench.document["reserveBytes"], bench.document["reserveInodes"] = 64 * 1024, 8
    bench.publish(ONE)
    assert bench.codes() == ["installed"]
    return bench


def survives(bench: Bench, disk: SmallDisk) -> None:
    """Polls, reports and runs on a full disk, for as long as it is full; then does what it was asked, alone."""
    polls = bench.ledger.record.counters["polls"]
    assert bench.once().poll.code == "not-modified"
    bench.publish(TWO)
    for _ in range(3):
        report = bench.once()
        assert [(o.code, o.exit_code) for o in report.outcomes] == [("no-space", 3)]
        assert report.poll.code == "ok", "only the model waits"
        assert bench.running() == "1.0.0"
    record = bench.ledger.record
    assert record.counters["polls"] == polls + 4, "every poll is on the record"
    assert record.rungs["no-space"].code == "no-space"
    told = gather(bench.config, bench.ledger, bench.store, bench.now)
    assert (told.state, told.next_command()) == ("degraded", "df")
    disk.relent()
    assert bench.codes() == ["installed"]
    assert bench.running() == "2.0.0"
    for _ in range(LOOKS):
        bench.once()
    assert bench.ledger.record.rungs == {}


def test_with_no_byte_left_everything_goes_on_and_it_ends_alone(disk: SmallDisk) -> None:
    bench = device(disk.folder)
    disk.fill_bytes()
    survives(bench, disk)


def test_with_no_inode_left_everything_goes_on_and_it_ends_alone(counting: SmallDisk) -> None:
    bench = device(counting.folder)
    counting.fill_inodes()
    survives(bench, counting)


def test_a_record_is_written_a_hundred_times_on_a_full_disk(disk: SmallDisk) -> None:
    ledger = Ledger(disk.folder / "state", Disk())
    ledger.reanchor(Record())
    disk.fill_bytes()
    for number in range(100):
        ledger.commit(ledger.record.counted(polls=1))
        assert Ledger(disk.folder / "state", Disk()).record.counters == {"polls": number + 1}


def test_what_the_agent_itself_has_filled_the_disk_with_makes_way_first(counting: SmallDisk) -> None:
    bench = device(counting.folder)
    stale = bench.store.staging(THREE.digest)
    stale.mkdir()
    (stale / "model.onnx.part").write_bytes(b"x" * 200_000)
    cache = bench.store.engines / ONE.digest.removeprefix("sha256:")
    cache.mkdir(parents=True)
    (cache / "engine").write_bytes(b"x" * 200_000)
    (bench.config.metadata).mkdir(exist_ok=True)
    (bench.config.metadata / "tmpabc").write_bytes(b"x" * 50_000)
    counting.fill_bytes()
    bench.publish(TWO)
    bench.once()
    assert not stale.exists()
    assert not (bench.config.metadata / "tmpabc").exists()
    assert bench.running() in ("1.0.0", "2.0.0")


def test_engine_caches_go_only_when_a_model_needs_their_room_and_models_in_use_never(tmp_path: Path) -> None:
    with mounted("ext4", tmp_path) as folder:
        bench = device(folder)
        bench.publish(TWO)
        assert bench.codes() == ["installed"]
        cache = bench.store.engines / TWO.digest.removeprefix("sha256:")
        cache.mkdir(parents=True)
        (cache / "engine").write_bytes(os.urandom(400_000))
        bench.once(force=True)
        assert cache.exists()
        free = os.statvfs(folder)
        (folder / "big").write_bytes(os.urandom(free.f_bavail * free.f_frsize - 200_000))
        bench.publish(THREE)
        assert bench.codes() == ["installed"]
        assert not any(cache.iterdir())
        state = bench.ledger.record.model(MODEL)
        assert state.active and state.previous
        assert (state.active.version, state.previous.version) == ("3.0.0", "2.0.0")
        bench.store.verify(state.previous.digest)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_record_that_finds_no_room_takes_that_of_the_ballast(tmp_path: Path, number: int) -> None:
    class CopyOnWrite(Calls):
        def write(self, path: Path, fd: int, data: bytes, offset: int) -> None:
            if path.name.startswith("state.") and (tmp_path / BALLAST).exists():
                raise OSError(number, os.strerror(number))
            super().write(path, fd, data, offset)

    Ledger(tmp_path, Disk()).reanchor(Record())
    ledger = Ledger(tmp_path, Disk(CopyOnWrite()))
    ledger.commit(ledger.record.counted(polls=1))
    assert not (tmp_path / BALLAST).exists()
    assert Ledger(tmp_path, Disk()).record.counters == {"polls": 1}
    Ledger(tmp_path, Disk()).keep_ballast()
    assert (tmp_path / BALLAST).exists()


@pytest.mark.parametrize(
    ("number", "code"), [(errno.EROFS, "read-only"), (errno.EIO, "io-error"), (errno.EDQUOT, "no-space")]
)
def test_a_record_that_cannot_be_written_is_told_with_code_3_and_what_runs_runs_on(
    tmp_path: Path, number: int, code: str
) -> None:
    class Refusing(Calls):
        def write(self, path: Path, fd: int, data: bytes, offset: int) -> None:
            if path.name.startswith("state."):
                raise OSError(number, os.strerror(number))
            super().write(path, fd, data, offset)

    bench = device(tmp_path)
    before = bench.ledger.record
    bench.publish(TWO)
    bench.calls = Refusing()
    for _ in range(2):
        with pytest.raises(StorageError) as refused:
            bench.once()
        assert (refused.value.code, refused.value.exit_code) == (code, 3)
        assert bench.running() == "1.0.0"
    assert bench.ledger.record == before
    bench.calls = None
    assert bench.codes() == ["installed"]


def test_a_disk_that_has_gone_read_only_is_told_and_what_runs_runs_on(tmp_path: Path) -> None:
    with mounted("ext4", tmp_path) as folder:
        bench = device(folder)
        with exclusive(bench.state / "lock"):
            pass
        bench.publish(TWO)
        _mount("-o", "remount,ro", folder)
        with exclusive(bench.state / "lock"), pytest.raises(StorageError) as refused:
            bench.once()
        assert refused.value.code == "read-only"
        assert bench.running() == "1.0.0"
        assert gather(bench.config, bench.ledger, bench.store, bench.now).models[0].version == "1.0.0"
        _mount("-o", "remount,rw", folder)
        assert bench.codes() == ["installed"]


def test_a_real_daemon_on_a_full_disk_polls_on_though_its_log_takes_nothing_either(
    tmp_path: Path, unchanged: tuple[str, list[str | None]]
) -> None:
    with mounted("ext4", tmp_path) as folder:
        bench = device(folder)
        settled(bench, unchanged[0])
        bench.ledger.commit(replace(bench.ledger.record, scrubbed=None))  # not by this bench's clock
        config = folder / "agent.json"
        config.write_text(json.dumps(bench.document))
        (bench.state / "daemon.lock").touch()
        disk = SmallDisk(folder)
        disk.fill_bytes()
        disk.fill_inodes()

        def polls(count: int) -> Callable[[], bool]:
            return lambda: bench.ledger.record.counters["polls"] >= count

        def told() -> str:
            return str(bench.ledger.record.counters)

        with Path("/dev/full").open("wb") as log, started(config, log) as daemon:
            until(daemon, polls(3), told)
            assert bench.ledger.record.rungs["no-space"]
            disk.relent()
            until(daemon, lambda: not bench.ledger.record.rungs, told)


@contextlib.contextmanager
def started(config: Path, log: IO[bytes] | int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a daemon whose updates do nothing; it must end well when told to."""
    program = (
        "import sys; from pathlib import Path; from edgewright_agent.daemon import Daemon\n"
        "raise SystemExit(Daemon(Path(sys.argv[1]), command=('/bin/true',)).run())"
    )
    daemon = subprocess.Popen([sys.executable, "-c", program, str(config)], stderr=log, cwd="/")
    try:
        yield daemon
    finally:
        daemon.terminate()
        code = daemon.wait(20)
    assert code == 0


def until(daemon: subprocess.Popen[bytes], done: Callable[[], bool], told: Callable[[], str]) -> None:
    """Ask a daemon to poll until something holds."""
    deadline = time.monotonic() + 20
    while not done():
        assert daemon.poll() is None, "it lives"
        assert time.monotonic() < deadline, f"{told()} after 20 s"
        if signal.SIGTERM in _caught(daemon.pid):  # it is up: before that, the signal would end it
            daemon.send_signal(signal.SIGHUP)
        time.sleep(0.05)


def test_a_real_daemon_on_a_disk_that_has_gone_read_only_asks_on(
    tmp_path: Path, unchanged: tuple[str, list[str | None]]
) -> None:
    url, asked = unchanged
    with mounted("ext4", tmp_path) as folder:
        bench = device(folder)
        settled(bench, url)
        bench.ledger.commit(replace(bench.ledger.record, scrubbed=None))
        config = folder / "agent.json"
        config.write_text(json.dumps(bench.document))
        (bench.state / "daemon.lock").touch()
        before = bench.ledger.record
        _mount("-o", "remount,ro", folder)
        with started(config, subprocess.DEVNULL) as daemon:
            until(daemon, lambda: len(asked) >= 3, lambda: str(asked))
        assert bench.ledger.record == before
        assert bench.running() == "1.0.0"


def test_metadata_is_verified_without_room_for_its_cache_and_a_replay_still_refused(tmp_path: Path) -> None:
    from unit.agent.transport.shelf import Shelf
    from unit.agent.trust.tuf_device import Device, freeze
    from unit.agent.trust.tuf_fleet import TufFleet, assignment

    fleet = TufFleet(Shelf(tmp_path / "fleet"))
    fleet.publish()
    old = freeze(fleet, tmp_path / "old")
    with mounted("tmpfs", tmp_path) as folder:
        disk = SmallDisk(folder)
        tuf = Device(folder / "state" / "tuf", fleet.root_bytes, f"oci:{fleet.shelf.root}")
        tuf.refresh()
        fleet.release(assignment(2))
        disk.fill_bytes()
        disk.fill_inodes()
        newest = tuf.refresh()
        assert newest.versions["timestamp"] == 2
        newer, tuf.source = tuf.source, old
        tuf.refuses("metadata-rollback")
        tuf.source = newer
        disk.relent()
        tuf.refresh()
        assert b'"version":2' in (tuf.cache / "timestamp.json").read_bytes().replace(b" ", b"")


def _caught(pid: int) -> set[int]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return set()
    mask = int(next(line.split()[1] for line in lines if line.startswith("SigCgt:")), 16)
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}
