"""What goes when a model does not fit: of what is paid for and wanted only what makes room for who comes first."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgewright_agent.degrade import NO_SPACE
from edgewright_agent.errors import TransportError
from edgewright_agent.files import Calls, Free
from edgewright_agent.space import Space
from edgewright_agent.status import gather
from unit.agent.core.workbench import MODEL, PI, Bench, Made, make_artifact

BLOCK = 4096
TOTAL = 3_000_000
ALPHA = make_artifact("1.0.0", model="alpha", size=1_000_000)
BETA = make_artifact("1.0.0", model="beta", size=1_000_000)
ENDLESS = make_artifact("1.0.0", model="beta", size=9_000_000)


class SmallDisk(Calls):
    """A disk of some megabytes, as far as anybody asks how much is left."""

    def __init__(self, root: Path) -> None:
        self.root, self.others = root, 0

    def free(self, path: Path) -> Free:
        taken = sum(
            -(-file.stat().st_size // BLOCK) * BLOCK for file in self.root.rglob("*") if file.is_file()
        )
        return Free(max(0, TOTAL - self.others - taken), None, BLOCK, TOTAL, 0)


class Line:
    """A line that gives so many bytes of models in a poll, then drops."""

    def __init__(self, bench: Bench) -> None:
        self.left, self._real = 0, bench.shelf.blob
        bench.shelf.blob = self._blob  # type: ignore[method-assign]

    def _blob(self, repository: str, digest: str, *, size: int, offset: int = 0) -> Iterator[bytes]:
        for chunk in self._real(repository, digest, size=size, offset=offset):
            if self.left <= 0:
                raise TransportError("network", "connection reset")
            self.left -= len(chunk)
            yield chunk


class Device(Bench):
    """A device with a small disk and a bad line."""

    def __init__(self, folder: Path) -> None:
        self.disk = SmallDisk(folder / "state")
        super().__init__(folder, calls=self.disk)
        self.line = Line(self)

    def poll(self, gives: int = 0) -> dict[str, str]:
        """Poll while the line gives so many bytes; return the models' codes."""
        self.line.left = gives
        return {outcome.model: outcome.code for outcome in self.once().outcomes}

    def arrived(self, made: Made) -> int:
        """Return how much of a download is there."""
        return sum(path.stat().st_size for path in self.store.staging(made.digest).glob("*.part"))

    def leave(self, free: int) -> None:
        """Have others use the disk so that so much is left."""
        self.disk.others = 0
        self.disk.others = self.disk.free(self.state).bytes - free


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def built(device: Device, size: int) -> Path:
    """Install a model of which a provider has built something; return that."""
    old = make_artifact("1.0.0", model="gamma", size=5000)
    device.publish(old, model="gamma")
    assert device.poll(10_000)["gamma"] == "installed"
    engine = device.store.engines / device.store.path(old.digest).name / "engine"
    engine.parent.mkdir(parents=True, exist_ok=True)
    engine.write_bytes(os.urandom(size))
    return engine


@pytest.mark.parametrize("first", [True, False], ids=["before it", "after it"])
def test_a_model_that_never_fits_costs_another_neither_what_has_arrived_nor_an_engine(
    device: Device, first: bool
) -> None:
    engine = built(device, 10_000)
    wanted, endless = ("alpha", "beta") if first else ("beta", "alpha")
    small = make_artifact("1.0.0", model=wanted, size=1_000_000)
    device.publish(small, model=wanted)
    device.publish(make_artifact("1.0.0", model=endless, size=9_000_000), model=endless)
    had = 0
    for _ in range(4):
        codes = device.poll(200_000)
        assert (codes[wanted], codes[endless]) == ("network", NO_SPACE)
        assert device.arrived(small) >= had + 200_000
        had = device.arrived(small)
    assert device.poll(300_000)[wanted] == "installed"
    assert engine.exists()


def test_downloads_that_do_not_fit_together_arrive_one_after_the_other(device: Device) -> None:
    device.publish(ALPHA, model="alpha")
    device.publish(BETA, model="beta")
    device.shelf.manifests.pop(("alpha", ALPHA.digest))  # so that beta has begun first
    assert device.poll(600_000)["beta"] == "network"
    device.shelf.put(ALPHA, "alpha")
    device.leave(1_100_000)  # enough for either
    assert device.poll(500_000)["alpha"] == "network"
    assert device.arrived(BETA) > 0, "both fit still, as long as one of them has not come"
    for _ in range(12):
        codes = device.poll(200_000)
        if codes["alpha"] == "installed":
            break
    assert device.running("alpha") == "1.0.0"
    device.disk.others = 0
    assert device.poll(2_000_000)["beta"] == "installed"


def test_what_is_named_twice_has_its_turn_when_it_is_named_first(device: Device) -> None:
    for made in (ALPHA, BETA):
        device.store.staging(made.digest).mkdir(parents=True)
        (device.store.staging(made.digest) / "model.onnx.part").write_bytes(b"x" * 10_000)
    turns = [ALPHA.digest, BETA.digest, ALPHA.digest]  # assigned, and damaged as the factory model
    space = Space(device.store, lambda _staged: None, turns)
    assert space.make(BETA.digest, lambda spare: None if spare.bytes else "full") == "full"
    assert device.arrived(ALPHA) == 10_000


def test_what_comes_later_makes_way_only_where_that_is_enough(device: Device) -> None:
    device.publish(BETA, model="beta")
    assert device.poll(600_000)["beta"] == "network"
    device.publish(ALPHA, model="alpha")
    device.leave(300_000)
    assert device.poll() == {"alpha": NO_SPACE, "beta": NO_SPACE}
    assert device.arrived(BETA) >= 600_000, "with it gone alpha would not fit either"
    device.leave(500_000)
    assert device.poll(100_000)["alpha"] == "network"
    assert (device.arrived(ALPHA) > 0, device.arrived(BETA)) == (True, 0)


@pytest.mark.parametrize("why", ["it does not fit", "it is refused", "it is gone from the registry"])
def test_what_cannot_go_on_itself_makes_way_for_what_comes_later(device: Device, why: str) -> None:
    big = make_artifact("1.0.0", model="alpha", size=2_000_000)
    device.publish(big, model="alpha")
    assert device.poll(700_000)["alpha"] == "network"
    device.leave(600_000)
    device.publish(BETA, model="beta")
    if why == "it is refused":
        del device.trust.targets["alpha", PI, big.digest]
    elif why == "it is gone from the registry":
        del device.shelf.manifests["alpha", big.digest]
    assert device.poll(2_000_000)["beta"] == "installed"
    assert device.arrived(big) == 0


def test_an_engine_goes_before_what_is_paid_for_and_its_place_stays(device: Device) -> None:
    engine = built(device, 400_000)
    device.publish(BETA, model="beta")
    assert device.poll(600_000)["beta"] == "network"
    device.publish(ALPHA, model="alpha")
    device.leave(700_000)
    assert device.poll(1_000)["alpha"] == "network"
    assert not engine.exists()
    assert engine.parent.is_dir(), "or an application could build it nowhere"
    assert device.arrived(BETA) >= 600_000


def test_a_disk_that_is_short_for_one_poll_costs_no_download(device: Device) -> None:
    device.document["reserveBytes"] = 200_000
    device.publish(ALPHA, model="alpha")
    assert device.poll(600_000)["alpha"] == "network"
    device.leave(100_000)
    assert device.poll()["alpha"] == NO_SPACE
    assert device.arrived(ALPHA) >= 600_000
    device.disk.others = 0
    asked = len(device.shelf.asked)
    assert device.poll(1_000_000)["alpha"] == "installed"
    (line,) = [
        line for line in device.shelf.asked[asked:] if line.startswith("blob alpha") and " 0" not in line
    ]
    assert int(line.split()[-1]) >= 600_000


def test_where_the_reserve_is_not_free_for_longer_downloads_give_it_back_without_network_too(
    device: Device,
) -> None:
    device.document["reserveBytes"] = 200_000
    device.publish(ALPHA, model="alpha")
    device.publish(ENDLESS, model="beta")
    assert device.poll(600_000)["alpha"] == "network"
    stranger = device.store.staging(ENDLESS.digest)
    stranger.mkdir()
    (stranger / "model.onnx.part").write_bytes(os.urandom(200_000))
    os.utime(stranger, (2e9, 2e9))
    device.leave(100_000)
    device.poll()
    device.shelf.down = True
    device.poll()
    assert not stranger.exists(), "what was told not to fit goes first"
    assert device.arrived(ALPHA) >= 600_000, "and that was enough"
    device.leave(0)
    device.poll()
    assert device.arrived(ALPHA) == 0


class Stubborn(Calls):
    """A disk on which some names cannot be removed."""

    def __init__(self, *names: str) -> None:
        self.names = set(names)

    def unlink(self, path: Path) -> None:
        if self.names & {path.name, path.parent.name}:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        super().unlink(path)

    def rmdir(self, path: Path) -> None:
        if path.name in self.names:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().rmdir(path)


def test_garbage_that_cannot_be_removed_is_told_and_holds_back_no_update(tmp_path: Path) -> None:
    one, two, three = (make_artifact(f"{number}.0.0", size=5000) for number in (1, 2, 3))
    calls = Stubborn("garbage", "built by root")
    bench = Bench(tmp_path, calls=calls)
    bench.publish(one)
    assert bench.codes() == ["installed"]
    (bench.state / "store" / "garbage").mkdir()
    foreign = bench.store.engines / "built by root"
    foreign.mkdir(parents=True)
    (foreign / "a.engine").write_bytes(b"x")
    bench.publish(two)
    report = bench.once()
    assert ([o.code for o in report.outcomes], report.exit_code) == (["installed"], 0)
    assert "not removed  engines/built by root (not-permitted: cannot remove" in report.text()
    assert [*json.loads(report.json_lines().splitlines()[-1])["stuck"]] == [
        "engines/built by root",
        "store/garbage",
    ]
    assert bench.once().poll.code == "not-modified"
    told = gather(bench.config, bench.ledger, bench.store, bench.now)
    assert told.document()["stuck"]["store/garbage"].startswith("io-error: cannot remove")
    assert "garbage    store/garbage cannot be removed, io-error" in told.text()
    calls.names.clear()
    bench.publish(three)
    assert bench.codes() == ["installed"]
    assert gather(bench.config, bench.ledger, bench.store, bench.now).document()["stuck"] == {}


def test_a_damaged_entry_that_cannot_be_removed_ends_no_poll(tmp_path: Path) -> None:
    one, two, three = (make_artifact(f"{number}.0.0", size=5000) for number in (1, 2, 3))
    calls = Stubborn()
    bench = Bench(tmp_path, calls=calls)
    for made in (one, two):
        bench.publish(made)
        assert bench.codes() == ["installed"]
    entry = bench.store.path(one.digest)
    (entry / "model.onnx").write_bytes(b"x" * 5000)
    calls.names.add(entry.name)
    bench.publish(three)
    assert bench.codes(force=True) == ["installed"]
    assert bench.running() == "3.0.0"


def test_the_place_for_what_providers_build_is_made_before_the_trial_and_again_when_it_is_lost(
    tmp_path: Path,
) -> None:
    keeps = {
        "version": 1, "versions": ">=1", "providers": ["TensorrtExecutionProvider"], "threads": 1, "arena": True,
        "graphOptimization": "all",
        "providerOptions": {"TensorrtExecutionProvider": {"trt_engine_cache_enable": "True"}},
    }  # fmt: skip
    made = make_artifact(
        "1.0.0",
        files={
            "model.onnx": b"m",
            "runtime.json": json.dumps(keeps).encode(),
            "golden.json": b'{"version":1,"for":"1.0.0"}',
        },
    )
    bench = Bench(tmp_path)
    place = bench.store.engines / bench.store.path(made.digest).name
    found: list[bool] = []
    check = bench.doctor.__call__

    class Looking(type(bench.doctor)):  # type: ignore[misc]
        def __call__(self, *given: object, **named: object) -> object:
            found.append(place.is_dir())
            return check(*given, **named)  # type: ignore[arg-type]

    bench.doctor = Looking()
    bench.publish(made)
    assert bench.codes() == ["installed"]
    assert found == [True]
    place.rmdir()
    bench.once()
    assert place.is_dir()
    assert MODEL in bench.store.links()


def test_an_experiment_that_cannot_be_told_holds_back_no_other_model(tmp_path: Path) -> None:
    class NoExperiments(Calls):
        on = False

        def open(self, path: Path, flags: int) -> int:
            if self.on and path.parent.name == "experiments":
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return super().open(path, flags)

    calls = NoExperiments()
    bench = Bench(tmp_path, calls=calls)
    alpha, beside = (make_artifact(f"{number}.0.0", model="alpha", size=5000) for number in (1, 2))
    beta, newer = (make_artifact(f"{number}.0.0", model="beta", size=5000) for number in (1, 2))
    bench.publish(alpha, model="alpha")
    bench.publish(beta, model="beta")
    bench.shelf.put(beside, "alpha")
    bench.trust.targets["alpha", PI, beside.digest] = len(beside.body)
    bench.trust.sequences["alpha", PI, beside.digest] = 1
    groups = bench.trust.assignment["groups"]
    experiment = {
        "name": "e1", "kind": "shadow", "share": 0.5, "digest": beside.digest, "size": len(beside.body),
        "modelVersion": "2.0.0",
    }  # fmt: skip
    groups[0]["models"]["alpha"]["artifacts"][PI]["experiment"] = experiment
    bench.assign(groups)
    assert bench.codes() == ["installed", "installed"]
    experiment["share"] = 0.7
    bench.publish(newer, model="beta")
    calls.on = True
    report = bench.once()
    assert (report.poll.code, report.exit_code) == ("ok", 3)
    assert bench.running("beta") == "2.0.0"
    assert "experiment: not-permitted (cannot open" in report.outcomes[0].message
    calls.on = False
    assert bench.once().exit_code == 0
