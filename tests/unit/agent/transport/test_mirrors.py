"""Several mirrors: a liar first in the list stops nobody, and a quiet poll stays one request."""

from __future__ import annotations

import json
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from edgewright_agent.clock import to_text, utc_now
from edgewright_agent.config import Mirror as Place
from edgewright_agent.config import Origin, parse
from edgewright_agent.contract import OCI_MANIFEST, TUF_REPOSITORY, canonical_json, digest_of
from edgewright_agent.errors import ConfigError, TransportError, TrustError
from edgewright_agent.files import Disk
from edgewright_agent.floor import Floor
from edgewright_agent.metered import Traffic
from edgewright_agent.poll import ask, judged, with_mirrors
from edgewright_agent.record import Ledger, Record, Seen
from edgewright_agent.report import Report
from edgewright_agent.status import gather
from edgewright_agent.store import Store
from edgewright_agent.transport import BusyError, Manifest, Source, open_source
from edgewright_agent.transport.mirrors import THOROUGH_EVERY, Mirrors, freshest, in_turn, is_thorough
from edgewright_agent.transport.pace import Pace
from edgewright_agent.transport.registry import RegistrySource
from edgewright_agent.trust.tuf import Desired, refresh
from edgewright_agent.update import Update
from real import Registry, closed_port
from unit.agent.core.running import Running
from unit.agent.core.workbench import MODEL, Bench, Made, Shelf, Signed, make_artifact
from unit.agent.transport import shelf as layouts
from unit.agent.transport.liar import Liar, answer
from unit.agent.transport.test_lying_server import Ticking, endless
from unit.agent.trust.tuf_fleet import DIGEST, NOW, PI, TufFleet, assignment

NEAR, FAR = "https://near.example", "https://far.example"


# --- a device with two mirrors, in memory --------------------------------------------------------------------


@dataclass
class Reading(Signed):
    """Trust that believes what a mirror shows, unless it is older than what it has seen."""

    newest: int = 0
    signed_at: set[str] | None = None
    """Mirrors' shelves with signatures; None: all have them."""

    def refresh(self, source: Any, *, floor: Floor, now: datetime) -> Reading:
        found = source.manifest(TUF_REPOSITORY, "timestamp.json")
        shown = json.loads(found.body)
        if shown["version"] < self.newest:
            raise TrustError("metadata-rollback", f"version {shown['version']} after {self.newest}")
        self.newest = shown["version"]
        self.versions = dict.fromkeys(self.versions, self.newest)
        self.assignment = shown["assignment"]
        super().refresh(source, floor=floor, now=now)
        return self

    def verify(self, source: Any, repository: str, digest: str, *, model: str, desired: Signed) -> None:
        if not source.referrers(repository, digest):
            raise TrustError("unsigned", f"{model} has no signature")


@dataclass
class Mirror(Shelf):
    """A shelf with a timestamp that tests set, and signatures that may be missing."""

    signed: bool = True
    spoiled: bool = False
    """Gives every blob with its last byte changed."""

    def referrers(self, _repository: str, _digest: str) -> list[dict[str, Any]]:
        self._count("referrers")
        return [{}] if self.signed else []

    def blob(self, repository: str, digest: str, *, size: int, offset: int = 0) -> Iterator[bytes]:
        chunks = list(super().blob(repository, digest, size=size, offset=offset))
        yield from (*chunks[:-1], chunks[-1][:-1] + b"?") if self.spoiled else chunks

    def polls(self) -> int:
        return sum("timestamp.json" in line for line in self.asked)


@dataclass
class Fleet:
    """A device on the bench whose source is two mirrors; every `once` is a process of its own."""

    bench: Bench
    near: Mirror = field(default_factory=Mirror)
    far: Mirror = field(default_factory=Mirror)
    polled: int = 0

    def __post_init__(self) -> None:
        self.trust = Reading(**vars(self.bench.trust))
        self.bench.trust = self.trust
        self.bench.document["source"] = {"url": NEAR, "mirrors": [FAR]}

    def release(self, made: Made, *, version: int, on: tuple[Mirror, ...]) -> None:
        self.bench.publish(made)
        self.trust.targets[MODEL, "raspberry-pi-4", made.digest] = len(made.body)
        for mirror in on:
            mirror.put(made)
            body = {"mediaType": OCI_MANIFEST, "version": version, "assignment": self.trust.assignment}
            mirror.manifests[TUF_REPOSITORY, "timestamp.json"] = canonical_json(body)

    def once(self) -> Report:
        ledger = Ledger(self.bench.state, Disk())
        for mirror in (self.near, self.far):
            mirror.asked.clear()
        source = Mirrors(
            {NEAR: self.near, FAR: self.far}, thorough=is_thorough(ledger.record.counters.get("polls", 0))
        )
        store = Store(self.bench.state, Disk())
        return Update(
            self.bench.config,
            ledger,
            store,
            source,
            self.trust,
            check=self.bench.doctor,
            now=lambda: self.bench.now,
            uptime=lambda: self.bench.up,
        ).run()

    def asked(self) -> tuple[int, int]:
        return self.near.polls(), self.far.polls()


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(Bench(tmp_path))


ONE, TWO = make_artifact("1.0.0"), make_artifact("2.0.0")


def installed(report: Report) -> str | None:
    return next((outcome.version for outcome in report.outcomes if outcome.code == "installed"), None)


def test_a_quiet_poll_is_one_request_to_the_first_mirror_and_now_and_then_one_to_each(fleet: Fleet) -> None:
    fleet.release(ONE, version=1, on=(fleet.near, fleet.far))
    assert installed(fleet.once()) == "1.0.0"
    polls = []
    for _ in range(2 * THOROUGH_EVERY):
        assert fleet.once().poll.code == "not-modified"
        assert fleet.near.requests + fleet.far.requests > 0
        polls.append(fleet.asked())
    assert polls.count((1, 0)) == 2 * THOROUGH_EVERY - 2
    assert polls.count((1, 1)) == 2


def test_when_the_first_is_unreachable_the_next_is_asked_in_the_same_poll(fleet: Fleet) -> None:
    fleet.release(ONE, version=1, on=(fleet.near, fleet.far))
    fleet.once()
    fleet.near.down = True
    assert fleet.once().poll.code == "not-modified"
    fleet.release(TWO, version=2, on=(fleet.far,))
    assert installed(fleet.once()) == "2.0.0"
    fleet.far.down = True
    failed = fleet.once()
    assert (failed.poll.code, failed.exit_code) == ("network", 3)


def test_a_first_mirror_that_withholds_news_delays_them_by_few_polls(fleet: Fleet) -> None:
    fleet.release(ONE, version=1, on=(fleet.near, fleet.far))
    fleet.once()
    fleet.release(TWO, version=2, on=(fleet.far,))
    reports = [fleet.once() for _ in range(THOROUGH_EVERY)]
    assert [installed(report) for report in reports].count("2.0.0") == 1


def test_a_mirror_known_to_be_late_is_passed_over_until_it_shows_something_else(fleet: Fleet) -> None:
    fleet.release(ONE, version=1, on=(fleet.near, fleet.far))
    fleet.release(TWO, version=2, on=(fleet.far,))
    assert installed(fleet.once()) == "2.0.0"
    assert fleet.once().poll.code == "not-modified"
    assert fleet.asked() == (1, 1)
    three = make_artifact("3.0.0")
    fleet.release(three, version=3, on=(fleet.far,))
    assert installed(fleet.once()) == "3.0.0"
    # It catches up: what it shows is verified again, and from then on it settles a poll alone.
    fleet.near.manifests.update(fleet.far.manifests)
    fleet.once()
    assert fleet.once().poll.code == "not-modified"


def test_a_first_poll_takes_the_newest_state_that_any_mirror_shows(fleet: Fleet) -> None:
    fleet.release(ONE, version=1, on=(fleet.near,))
    fleet.release(TWO, version=2, on=(fleet.far,))
    assert installed(fleet.once()) == "2.0.0"


def test_an_etag_of_one_mirror_is_never_sent_to_another(fleet: Fleet) -> None:
    sent: dict[str, list[str | None]] = {"near": [], "far": []}
    for name in sent:
        mirror = getattr(fleet, name)
        original = mirror.manifest

        def manifest(
            repository: str,
            reference: str,
            *,
            limit: int = 10**6,
            etag: str | None = None,
            name: str = name,
            original: Callable[..., Manifest | None] = original,
        ) -> Manifest | None:
            found = original(repository, reference, limit=limit)
            if reference != "timestamp.json" or found is None:
                return found
            sent[name].append(etag)
            own = f'"{name}-{found.digest[-8:]}"'
            return None if etag == own else Manifest(found.digest, found.media_type, found.body, own)

        mirror.manifest = manifest
    fleet.release(ONE, version=1, on=(fleet.near, fleet.far))
    for _ in range(THOROUGH_EVERY + 1):
        fleet.once()
    for name, etags in sent.items():
        assert {etag.partition("-")[0] for etag in etags if etag} <= {f'"{name}'}
        assert any(etags)


@pytest.mark.parametrize("harm", ["spoiled", "unsigned", "empty", "down-for-blobs"])
def test_content_that_the_first_mirror_spoils_or_lacks_comes_from_the_next(fleet: Fleet, harm: str) -> None:
    fleet.release(ONE, version=1, on=(fleet.near, fleet.far))
    if harm == "spoiled":
        fleet.near.spoiled = True
    elif harm == "unsigned":
        fleet.near.signed = False
    elif harm == "empty":
        fleet.near.manifests.pop((MODEL, ONE.digest))
    else:
        fleet.near.cut_after = 0
    assert installed(fleet.once()) == "1.0.0"
    assert fleet.bench.running() == "1.0.0"


def test_garbage_that_breaks_off_does_not_make_the_next_mirror_look_guilty(fleet: Fleet) -> None:
    fleet.release(ONE, version=1, on=(fleet.near, fleet.far))
    digest = digest_of(ONE.files["model.onnx"])
    fleet.near.blobs[digest] = b"\0" * 1000 + ONE.files["model.onnx"][1000:]
    fleet.near.chunk, fleet.near.cut_after = 1000, 5000
    original = fleet.near.blob

    def blob(repository: str, wanted: str, *, size: int, offset: int = 0) -> Iterator[bytes]:
        if offset:
            raise TransportError("network", "reset by peer")
        yield from original(repository, wanted, size=size)

    fleet.near.blob = blob  # type: ignore[method-assign]
    fleet.near.chunk = 1000
    assert installed(fleet.once()) == "1.0.0"
    assert fleet.bench.running() == "1.0.0"


def test_when_every_mirror_spoils_it_the_active_model_keeps_running(fleet: Fleet) -> None:
    fleet.release(ONE, version=1, on=(fleet.near, fleet.far))
    fleet.once()
    fleet.near.spoiled = fleet.far.spoiled = True
    fleet.release(TWO, version=2, on=(fleet.near, fleet.far))
    report = fleet.once()
    assert [outcome.code for outcome in report.outcomes] == ["digest-mismatch"]
    assert fleet.bench.running() == "1.0.0"
    fleet.far.spoiled = False
    assert installed(fleet.once()) == "2.0.0"


# --- what is told when none of them will do -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (TransportError("network", "no route"), TrustError("expired-metadata", "old"), "expired-metadata"),
        (TrustError("metadata-rollback", "older"), TransportError("too-slow", "drip"), "metadata-rollback"),
        (TrustError("expired-metadata", "old"), TrustError("bad-signature", "forged"), "bad-signature"),
        (TransportError("network", "no route"), BusyError("later", retry_after_s=60), "busy"),
        (TransportError("denied", "no password"), TransportError("not-found", "gone"), "denied"),
    ],
)
def test_the_most_telling_reason_is_reported_with_the_others_beside_it(
    first: Exception, second: Exception, told: str
) -> None:
    troubles = iter([first, second])

    def action(_place: Source) -> None:
        raise next(troubles)

    with pytest.raises((TransportError, TrustError)) as caught:
        in_turn(Mirrors({NEAR: Shelf(), FAR: Shelf()}), action)
    assert caught.value.code == told
    other = second if caught.value is first else first
    assert f"also tried {NEAR if other is first else FAR}: {other.code}" in str(caught.value)  # type: ignore[attr-defined]


# --- real metadata: a first mirror of every bad kind -----------------------------------------------------------


@dataclass
class Device:
    """What counts here of a device: provisioned root, cache, highest versions."""

    root: bytes
    cache: Path
    floor: Floor = field(default_factory=Floor)

    def follow(self, source: Source, *, now: datetime = NOW) -> Desired:
        found = freshest(
            source,
            lambda place: refresh(
                place,
                cache=self.cache,
                root=self.root,
                hardware_class=PI,
                floor=self.floor,
                now=now,
            ),
        )
        self.floor = found.floor
        return found


@pytest.fixture
def made(tmp_path: Path) -> TufFleet:
    fleet = TufFleet(layouts.Shelf(tmp_path / "honest"))
    fleet.publish()
    return fleet


@pytest.fixture
def device(made: TufFleet, tmp_path: Path) -> Device:
    return Device(made.root_bytes, tmp_path / "cache")


def honest(made: TufFleet) -> Source:
    return open_source(f"oci:{made.shelf.root}")


def test_a_first_mirror_with_an_older_or_expired_or_foreign_state_hides_nothing(
    made: TufFleet, device: Device, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(made.shelf.root, old)
    other = TufFleet(layouts.Shelf(tmp_path / "foreign"))
    other.bump("timestamp", "snapshot")
    other.publish()
    made.release(assignment(2))
    device.follow(honest(made))
    later = NOW + timedelta(hours=36)
    for role in (made.targets, *made.classes.values(), made.rollout, made.snapshot, made.timestamp):
        role.expires = later + timedelta(days=1)
        role.version += 1
    made.assign(assignment(3))
    made.publish()
    for thorough in (False, True):
        for first in (old, other.shelf.root, tmp_path / "nothing"):
            mirrors = Mirrors({NEAR: open_source(f"oci:{first}"), FAR: honest(made)}, thorough=thorough)
            assert device.follow(mirrors, now=later).assignment["sequence"] == 3


def test_an_old_but_valid_state_is_followed_by_the_newer_one_when_all_are_asked(
    made: TufFleet, device: Device, tmp_path: Path
) -> None:
    shutil.copytree(made.shelf.root, tmp_path / "old")
    made.release(assignment(2))
    old = open_source(f"oci:{tmp_path / 'old'}")
    assert device.follow(Mirrors({NEAR: old, FAR: honest(made)}, thorough=False)).assignment["sequence"] == 1
    assert device.follow(Mirrors({NEAR: old, FAR: honest(made)}, thorough=True)).assignment["sequence"] == 2
    # From now on the first one is refused: this device has seen better.
    assert device.follow(Mirrors({NEAR: old, FAR: honest(made)}, thorough=False)).assignment["sequence"] == 2


TIMESTAMP_AT = "/v2/tuf/manifests/timestamp.json"


@pytest.mark.parametrize(
    "lie", ["silent", "stalls", "drip", "endless", "noise", "login page", "refuses", "circle", "gzip"]
)
def test_a_first_mirror_that_lies_stalls_drips_or_never_ends_stops_nobody(
    made: TufFleet, device: Device, liar: Liar, lie: str
) -> None:
    released = threading.Event()
    head = f"HTTP/1.1 200 X\r\nContent-Type: {OCI_MANIFEST}\r\n\r\n".encode()
    scripts: dict[str, Any] = {
        "silent": b"",
        "stalls": lambda _headers: (head for _ in range(1) if not released.wait(20)),
        "drip": lambda _headers: endless(head, piece=b"x"),
        "endless": lambda _headers: endless(head),
        "noise": b"SSH-2.0-OpenSSH_9.2\r\n",
        "login page": answer(200, b"<html>", Content_Type="text/html"),
        "refuses": answer(401, WWW_Authenticate='Bearer realm="https://evil.invalid/token"'),
        "circle": answer(302, Location=TIMESTAMP_AT),
        "gzip": answer(200, b"\x1f\x8b", Content_Type=OCI_MANIFEST, Content_Encoding="gzip"),
    }
    for path in (TIMESTAMP_AT, "/v2/tuf/manifests/2.root.json"):
        liar.says(path, scripts[lie])
    # On this clock every look costs a second, so a drip of single bytes is noticed at once.
    first = RegistrySource(liar.url, timeout_s=0.3, pace=Pace(window_s=20, clock=Ticking()))
    try:
        assert device.follow(Mirrors({NEAR: first, FAR: honest(made)})).assignment == assignment()
    finally:
        released.set()
    assert liar.requests


def test_a_first_mirror_that_nobody_reaches_stops_nobody(made: TufFleet, device: Device) -> None:
    with closed_port() as port:
        first = open_source(f"http://127.0.0.1:{port}")
        assert device.follow(Mirrors({NEAR: first, FAR: honest(made)})).assignment == assignment()


def test_a_mirror_that_failed_is_asked_last_for_the_rest_of_the_session(made: TufFleet, liar: Liar) -> None:
    mirrors = Mirrors({NEAR: open_source(liar.url), FAR: honest(made)})
    for entry in made.shelf.index(TUF_REPOSITORY)["manifests"]:
        assert mirrors.manifest(TUF_REPOSITORY, entry["digest"]) is not None
    assert len(liar.requests) == 1


def test_small_content_is_checked_before_it_is_handed_on(made: TufFleet, liar: Liar) -> None:
    digest = made.shelf.blob(TUF_REPOSITORY, b"as signed")
    liar.says(f"/v2/tuf/blobs/{digest}", answer(200, b"otherwise"))
    mirrors = Mirrors({NEAR: open_source(liar.url), FAR: honest(made)})
    assert b"".join(mirrors.blob(TUF_REPOSITORY, digest, size=9)) == b"as signed"


def test_large_content_goes_on_where_a_mirror_broke_off(made: TufFleet, liar: Liar) -> None:
    data = bytes(range(251)) * 6000
    digest = made.shelf.blob(MODEL, data)
    liar.says(f"/v2/{MODEL}/blobs/{digest}", answer(200, data[:300_000], length=len(data)))
    mirrors = Mirrors({NEAR: open_source(liar.url), FAR: honest(made)})
    assert b"".join(mirrors.blob(MODEL, digest, size=len(data))) == data


# --- who sees whose password ------------------------------------------------------------------------------------


def test_the_password_of_one_mirror_is_never_sent_to_another(
    made: TufFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEAR_USER", "near")
    monkeypatch.setenv("NEAR_PASSWORD", "near-secret")
    asks = answer(401, WWW_Authenticate='Basic realm="x"')
    with Liar() as near, Liar() as far, Liar() as third:
        for liar in (near, far, third):
            liar.says(TIMESTAMP_AT, asks)
        document = {
            "url": near.url,
            "username": "env:NEAR_USER",
            "password": "env:NEAR_PASSWORD",
            "mirrors": [far.url, {"url": third.url}, f"oci:{made.shelf.root}"],
        }
        source = parse(configuration(document), base=tmp_path).origin.open()
        assert source.manifest(TUF_REPOSITORY, "timestamp.json") is not None
        source.close()
        assert any("Authorization" in headers for _, headers in near.requests)
        for liar in (far, third):
            assert liar.requests
            assert all("Authorization" not in headers for _, headers in liar.requests)


def test_a_password_that_cannot_be_read_is_told_before_anything_is_asked(tmp_path: Path, liar: Liar) -> None:
    document = {"url": liar.url, "username": "env:HOME", "password": "file:lost"}
    with pytest.raises(ConfigError, match=r"source\.password: file:.*lost cannot be read"):
        parse(configuration(document), base=tmp_path).origin.open()
    assert liar.requests == []


# --- real registries, the configuration, the daemon ---------------------------------------------------------------


def configuration(source: dict[str, object]) -> dict[str, object]:
    return {
        "version": 1,
        "device": {"id": "pi-7", "class": "raspberry-pi-4"},
        "source": source,
        "trust": {"root": "root.json", "keys": ["signing.pub"]},
    }


def test_a_real_registry_behind_liars_serves_a_device(
    made: TufFleet, device: Device, registry: Registry, liar: Liar, tmp_path: Path
) -> None:
    made.shelf.push(f"{registry.url}/acme")
    mirrors = [f"oci:{tmp_path / 'lost'}", f"{registry.url}/acme"]
    source = parse(configuration({"url": liar.url, "mirrors": mirrors}), base=tmp_path).origin.open()
    assert device.follow(source).assignment == assignment()
    assert liar.requests
    source.close()


def test_every_eighth_poll_is_thorough_by_the_count_in_the_record(tmp_path: Path) -> None:
    origin = parse(configuration({"url": "oci:a", "mirrors": ["oci:b"]}), base=tmp_path).origin
    opened = [origin.open(polls=polls) for polls in range(17)]
    assert [getattr(source, "thorough", None) for source in opened].count(True) == 3
    assert [polls for polls, source in enumerate(opened) if getattr(source, "thorough", None)] == [0, 8, 16]


def test_a_single_source_is_opened_as_it_is(tmp_path: Path) -> None:
    opened = parse(configuration({"url": f"oci:{tmp_path}"}), base=tmp_path).origin.open()
    assert not isinstance(opened, Mirrors)


def test_all_mirrors_together_are_counted(made: TufFleet, liar: Liar, tmp_path: Path) -> None:
    traffic = Traffic()
    source = {"url": liar.url, "mirrors": [f"oci:{made.shelf.root}"]}
    opened = parse(configuration(source), base=tmp_path).origin.open(traffic=traffic)
    found = opened.manifest(TUF_REPOSITORY, "timestamp.json")
    assert found is not None
    assert traffic.document() == {"requests": 2, "bytes_received": len(found.body)}


def test_an_idle_daemon_asks_the_next_mirror_in_the_same_poll(tmp_path: Path) -> None:
    with closed_port() as port, Liar() as near:
        bench = Bench(tmp_path)
        bench.document["source"] = {"url": f"http://127.0.0.1:{port}", "mirrors": [near.url]}
        near.says(TIMESTAMP_AT, answer(304), keep=True)
        seen = json.dumps([DIGEST, {near.url: [DIGEST, '"known"']}])
        record = Record(
            seen=Seen(seen, bench.config.fingerprint()),
            expires={"timestamp": to_text(utc_now() + timedelta(days=7))},
            counters={"polls": 1},
        )
        bench.ledger.commit(record)
        running = Running(bench, f"http://127.0.0.1:{port}")
        try:
            running.until("sleep")
            running.signal(signal.SIGHUP)
            running.until("not-modified")
            running.until("sleep")
        finally:
            running.end()
        assert [headers.get("If-None-Match") for _, headers in near.requests] == ['"known"']
        poll = bench.ledger.record.poll
        assert poll is not None
        assert poll.code == "not-modified"
        assert list(poll.mirrors) == [f"http://127.0.0.1:{port}"]


# --- mirrors that fail, while others answer ---------------------------------------------------------------------------


def told_of(fleet: Fleet) -> dict[str, str]:
    """Return what the status says of mirrors that fail."""
    poll = fleet.bench.ledger.record.poll
    assert poll is not None
    return dict(poll.mirrors)


def test_a_mirror_that_fails_is_in_the_status_although_another_answers(fleet: Fleet) -> None:
    fleet.release(ONE, version=1, on=(fleet.near, fleet.far))
    fleet.near.down = True
    assert fleet.once().exit_code == 0
    told = told_of(fleet)
    assert set(told) == {NEAR}
    assert "network: no route to host" in told[NEAR]
    bench = fleet.bench
    text = gather(bench.config, bench.ledger, bench.store, bench.now).text()
    assert f"mirror     {NEAR} failed " in text
    assert fleet.once().poll.code == "not-modified"
    assert set(told_of(fleet)) == {NEAR}
    fleet.near.down = False
    fleet.once()
    assert told_of(fleet) == {}


def test_a_mirror_that_was_not_asked_keeps_what_is_known_of_it(fleet: Fleet) -> None:
    fleet.release(ONE, version=1, on=(fleet.near, fleet.far))
    fleet.far.down = True
    fleet.once()  # the first poll is a thorough one
    assert set(told_of(fleet)) == {FAR}
    for _ in range(THOROUGH_EVERY - 1):
        fleet.once()
        assert set(told_of(fleet)) == {FAR}
    fleet.far.down = False
    fleet.once()
    assert told_of(fleet) == {}


def test_a_mirror_that_is_taken_out_of_the_configuration_is_forgotten(fleet: Fleet) -> None:
    fleet.release(ONE, version=1, on=(fleet.near, fleet.far))
    fleet.near.down = True
    fleet.once()
    poll = fleet.bench.ledger.record.poll
    assert poll is not None
    again = with_mirrors(replace(poll, mirrors={}), poll, judged(Mirrors({FAR: fleet.far})))
    assert again.mirrors == {}


def test_hostile_mirrors_together_cannot_outlast_the_time_for_a_poll() -> None:
    """Eight mirrors that drip for ever: each has its share, and the honest one behind them is still asked."""

    def dripping(_headers: dict[str, str]) -> Iterator[bytes]:
        while True:
            yield b"H"
            time.sleep(0.01)  # this is the attack

    with ExitStack() as stack:
        liars = [stack.enter_context(Liar()) for _ in range(8)]
        at = f"/v2/{TUF_REPOSITORY}/manifests/timestamp.json"
        for liar in liars[:-1]:
            liar.says(at, dripping)
        liars[-1].says(at, answer(200, b"{}", Content_Type=OCI_MANIFEST))
        origin = Origin(tuple(Place(liar.url) for liar in liars))
        source = origin.open(polls=0, within_s=1.6)
        found = ask(source, json.dumps([digest_of(b"old"), {}]))
        assert found is not None
        assert isinstance(source, Mirrors)
        assert sorted(url for url, error in source.judged.items() if error is None) == [liars[-1].url]
        assert {error.code for error in source.judged.values() if error} <= {"too-slow", "network"}
        assert all(len(liar.requests) <= 1 for liar in liars)
        source.close()
