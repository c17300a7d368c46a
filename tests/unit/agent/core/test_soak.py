"""The live soak: what is forgiven, what sends a model back, and that the last proved model is never lost."""

from __future__ import annotations

import json
import os
import shutil
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgewright_agent.clock import Uptime
from edgewright_agent.contract import LIVE_SOCKET
from edgewright_agent.evidence import Archive
from edgewright_agent.files import Calls, Disk
from edgewright_agent.live import Live, Seen
from edgewright_agent.manual import pin, rollback, unpin
from edgewright_agent.model_state import ModelState, Slot, Soak, Terms
from edgewright_agent.record import Ledger, from_bytes, to_bytes
from edgewright_agent.soak import (
    BOOTS,
    COUNT_EVERY_S,
    Failure,
    Fallen,
    Judged,
    Observation,
    begin,
    judge,
    left_s,
    observe,
)
from edgewright_agent.status import gather
from edgewright_agent.store import Store
from unit.agent.core import sessions
from unit.agent.core.beats import SESSION, beat
from unit.agent.core.workbench import MODEL, NOW, Bench, DyingCalls, PowerCut, make_artifact

ONE, TWO, THREE = (make_artifact(f"{n}.0.0", size=60_000) for n in (1, 2, 3))
HOUR = {"soakS": 3600}


def later(bench: Bench, seconds: int) -> None:
    bench.up = Uptime(bench.up.boot, bench.up.seconds + seconds)


def reboot(bench: Bench, *, up: int = 60) -> None:
    bench.up = Uptime(bench.up.boot + "'", up)


def judged(bench: Bench, calls: Calls | None = None, **seen: int) -> Judged:
    """What a judgement makes of something seen of what runs now."""
    state = bench.ledger.record.model(MODEL)
    assert state.active
    return judge(
        Ledger(bench.state, Disk(calls)),
        Store(bench.state, Disk(calls)),
        {MODEL: Observation(state.active.digest, **seen)},
        now=NOW,
        up=bench.up,
    )


def slots(bench: Bench) -> tuple[str | None, str | None]:
    """Versions of the active and the previous model."""
    state = bench.ledger.record.model(MODEL)
    return (
        state.active.version if state.active else None,
        state.previous.version if state.previous else None,
    )


def stones(bench: Bench) -> list[tuple[str, str]]:
    return [(stone.version, stone.code) for stone in bench.ledger.record.model(MODEL).tombstones]


def soak(bench: Bench) -> Soak:
    found = bench.ledger.record.model(MODEL).proving
    assert found
    return found


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A device that has proved 1.0.0 and soaks 2.0.0."""
    bench = Bench(tmp_path / "device")
    for made, policy in ((ONE, None), (TWO, HOUR)):
        bench.publish(made, policy=policy)
        assert bench.codes() == ["installed"]
    assert soak(bench).left_s == 3600
    return bench


def test_time_alone_ends_a_soak(bench: Bench) -> None:
    later(bench, COUNT_EVERY_S - 1)
    assert judged(bench).taken == frozenset(), "a write of the record is worth more than some minutes"
    later(bench, 1)
    assert judged(bench) == Judged(taken=frozenset({MODEL}))
    assert soak(bench).left_s == 3600 - COUNT_EVERY_S
    later(bench, 3600 - COUNT_EVERY_S)
    assert judged(bench).proved == (MODEL,)
    assert bench.ledger.record.model(MODEL).soak is None
    assert slots(bench) == ("2.0.0", "1.0.0")
    assert bench.codes(force=True) == ["current"]


def test_a_device_without_a_daemon_counts_at_every_poll(bench: Bench) -> None:
    later(bench, 3000)
    assert bench.codes() == []
    assert soak(bench).left_s == 600
    reboot(bench, up=700)
    bench.once()
    assert bench.ledger.record.model(MODEL).soak is None


@pytest.mark.parametrize(
    ("seen", "code", "words"),
    [
        ({"crashes": 3}, "soak-crash", "had to leave it 3 times"),
        ({"crashes": 2, "hangs": 1}, "soak-crash", "had to leave it 3 times"),
        ({"hangs": 2}, "soak-hang", "2 inferences of applications hung for more than 10 s"),
        ({"errors": 3, "inferences": 20}, "soak-errors", "3 of 20 inferences"),
        ({"boots": BOOTS + 1}, "soak-boots", "restarted too often"),
    ],
)
def test_what_comes_again_sends_a_model_back_with_evidence(
    bench: Bench, seen: dict[str, int], code: str, words: str
) -> None:
    (fallen,) = judged(bench, **seen).fallen
    assert (fallen.code, fallen.version) == (code, "2.0.0")
    assert words in fallen.message
    assert "1.0.0 runs again" in fallen.message
    assert (bench.running(), slots(bench), stones(bench)) == ("1.0.0", ("1.0.0", None), [("2.0.0", code)])
    state = bench.ledger.record.model(MODEL)
    (entry,) = Archive(bench.state, Disk()).entries()
    assert state.tombstones[0].evidence == entry.name
    assert entry.document()["soak"].items() >= {"crashes": 0, **seen}.items() - {("boots", BOOTS + 1)}
    assert (state.rung, state.soak) == (None, None), (
        "the last proved model runs as before: that is no emergency"
    )
    assert bench.ledger.record.seen is None, "the next poll is a whole one"
    assert bench.codes() == ["tombstoned"]
    assert bench.running() == "1.0.0"


@pytest.mark.parametrize(
    "seen",
    [
        {"crashes": 2},
        {"hangs": 1, "crashes": 1},
        {"errors": 2, "inferences": 20},
        {"errors": 19, "inferences": 19},
        {"boots": BOOTS},
    ],
)
def test_single_faults_are_forgiven(bench: Bench, seen: dict[str, int]) -> None:
    assert not judged(bench, **seen).fallen
    assert bench.running() == "2.0.0"


def test_faults_add_up_across_restarts_of_the_daemon(bench: Bench) -> None:
    for _ in range(2):
        assert judged(bench, crashes=1).taken == {MODEL}
    assert judged(bench).taken == frozenset()
    assert judged(bench, crashes=1).fallen


def test_another_models_faults_are_not_this_ones(bench: Bench) -> None:
    seen = {MODEL: Observation(ONE.digest, crashes=9, hangs=9)}
    assert not judge(bench.ledger, bench.store, seen, now=NOW, up=bench.up).fallen


def test_after_the_soak_faults_send_nothing_back(bench: Bench) -> None:
    later(bench, 3600)
    judged(bench)
    assert judged(bench, crashes=99).taken == {MODEL}
    assert bench.running() == "2.0.0"


class Applications:
    """One session, heard and judged as a daemon does it: every half minute, and again until it counts."""

    def __init__(self, bench: Bench, *, session: str = SESSION) -> None:
        self.bench = bench
        self.session, self.digest = session, soak(bench).digest
        self.good = self.bad = 0
        self.daemon()
        self.hear("open")

    def daemon(self) -> None:
        """Another daemon comes up, which knows nothing of the one before."""
        self.live = Live(lambda: float(self.bench.up.seconds))
        self.live.soaking = frozenset({self.digest})
        self._seen = Seen(self.digest)

    def hear(self, event: str = "beat", **changes: Any) -> None:
        told = {"digest": self.digest, "inferences": self.good, "errors": self.bad, **changes}
        assert not self.live.hear(beat(event, session=self.session, **told), 0)

    def judged(self) -> Judged:
        later(self.bench, 30)
        for one in self.live.observations():
            if one.digest == self.digest:
                had = self._seen
                self._seen = Seen(
                    one.digest,
                    had.crashes + one.crashes,
                    had.hangs + one.hangs,
                    had.errors + one.errors,
                    had.inferences + one.inferences,
                )
        seen = {MODEL: Observation(**vars(self._seen))}
        ledger = Ledger(self.bench.state, Disk())
        found = judge(ledger, Store(self.bench.state, Disk()), seen, now=NOW, up=self.bench.up)
        if MODEL in found.taken:
            self._seen = Seen(self.digest)
        return found

    def work(self, seconds: int, *, good: float = 0, bad: float = 0) -> Fallen | None:
        """Answer and fail so many requests in each half minute, until the model is sent back or the time is over."""
        for half_minute in range(1, seconds // 30 + 1):
            before = (half_minute - 1) * good, (half_minute - 1) * bad
            self.good += int(half_minute * good) - int(before[0])
            self.bad += int(half_minute * bad) - int(before[1])
            self.hear()
            if fallen := self.judged().fallen:
                return fallen[0]
        return None


@pytest.mark.parametrize(
    ("good", "bad"),
    [(0, 300), (0, 1), (0, 0.4), (3, 1), (290, 40)],
    ids=["all of many", "all of two a minute", "all of a few", "a quarter", "one in eight"],
)
def test_a_model_whose_inferences_fail_is_sent_back_however_few_there_are(
    bench: Bench, good: float, bad: float
) -> None:
    fallen = Applications(bench).work(3600, good=good, bad=bad)
    assert fallen
    assert (fallen.code, bench.running()) == ("soak-errors", "1.0.0")
    (entry,) = Archive(bench.state, Disk()).entries()
    found = entry.document()["soak"]
    assert found["errors"] * 10 > found["inferences"] >= 20
    assert f"{found['errors']} of {found['inferences']} inferences" in fallen.message


def test_failed_inferences_add_up_across_restarts_of_the_daemon(bench: Bench) -> None:
    applications = Applications(bench)
    assert not applications.work(300, bad=1)
    assert (soak(bench).errors, soak(bench).inferences) == (10, 10)
    applications.daemon()
    applications.hear()
    assert not applications.work(270, bad=1)
    assert applications.work(30, bad=1)


def test_a_tenth_that_fails_is_forgiven_for_as_long_as_a_soak_lasts(bench: Bench) -> None:
    applications = Applications(bench)
    assert not applications.work(3540, good=9, bad=1)
    assert (soak(bench).errors, soak(bench).inferences) == (110, 1100), "of the last whole five minutes"
    assert not applications.work(60, good=9, bad=1)
    assert bench.ledger.record.model(MODEL).soak is None
    assert bench.running() == "2.0.0"


def test_a_model_that_begins_to_fail_late_is_not_excused_by_what_it_did_before(bench: Bench) -> None:
    applications = Applications(bench)
    assert not applications.work(3000, good=3000)
    assert applications.work(60, bad=300)


def test_counts_of_an_application_that_lies_stay_in_bounds(bench: Bench) -> None:
    most = 2**53 - 1
    for _ in range(3):
        later(bench, COUNT_EVERY_S)
        assert not judged(bench, inferences=most).fallen
    assert soak(bench).inferences == most


def test_sessions_that_have_to_leave_a_model_three_times_send_it_back(bench: Bench) -> None:
    """After three failures a session leaves it for ever longer: what it tells of it is next to nothing."""
    applications = Applications(bench)
    for left in range(3):
        assert soak(bench).failures == left
        applications.bad += 3
        applications.hear()
        applications.hear(
            "swap", digest=ONE.digest, rung="previous", code="inference-failed", inferences=0, errors=0
        )
        applications.hear(
            digest=ONE.digest, rung="previous", code="inference-failed", inferences=90, errors=0
        )
        fallen = applications.judged().fallen
        applications.good = applications.bad = 0
        applications.hear("swap")
    assert [one.code for one in fallen] == ["soak-crash"]
    assert "had to leave it 3 times" in fallen[0].message
    assert bench.running() == "1.0.0"


def test_a_real_session_says_that_it_has_left_a_model_whose_inferences_fail(tmp_path: Path) -> None:
    device, loader = sessions.Device(tmp_path), sessions.Accelerated()
    for digest in (sessions.ONE, sessions.TWO):
        device.install(digest)
    device.activate(sessions.TWO, previous=sessions.ONE)
    loader.broken = {sessions.TWO}
    live = Live()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / LIVE_SOCKET))
        ear.settimeout(20)
        with device.session(loader=loader) as session:
            for _ in range(3):
                assert sessions.who(session.run(sessions.INPUTS)) == sessions.ONE
        while live.heard == 0 or len(live):
            live.hear(ear.recv(65536), os.getpid())
    (found,) = (one for one in live.observations() if one.digest == sessions.TWO)
    assert found == Seen(sessions.TWO, crashes=1, errors=3, inferences=3)


@pytest.mark.parametrize(
    ("changes", "leaves"),
    [
        ({"rung": "safe-output", "code": "non-finite-output"}, True),
        ({"digest": ONE.digest, "rung": "factory", "code": "health-wrong-output"}, True),
        ({"rung": "next-provider", "code": "inference-failed"}, False),
        ({"rung": "cpu-model", "code": "inference-failed"}, False),
        ({"digest": ONE.digest, "rung": "normal", "code": ""}, False),
        ({"digest": ONE.digest, "rung": "previous", "code": "damaged"}, False),
        ({"digest": ONE.digest, "rung": "previous", "code": "provider-down"}, False),
    ],
)
def test_a_session_leaves_a_model_where_its_inferences_fail_and_nothing_of_it_answers_any_more(
    bench: Bench, changes: dict[str, Any], leaves: bool
) -> None:
    applications = Applications(bench)
    for _ in range(2):  # once, however often it is told
        applications.hear(**changes)
    applications.judged()
    assert soak(bench).failures == leaves
    assert applications.live.totals()[MODEL]["crashed"] == 0, "no process has crashed"


def test_a_device_that_a_model_takes_down_again_and_again_goes_back_by_itself(bench: Bench) -> None:
    codes = []
    for _ in range(BOOTS + 1):
        reboot(bench)
        codes += bench.codes()
    assert codes == ["soak-boots"]
    assert (bench.running(), stones(bench)) == ("1.0.0", [("2.0.0", "soak-boots")])
    assert bench.codes() == ["tombstoned"]


def test_a_device_that_is_switched_off_every_evening_passes_a_soak_of_a_week(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.publish(ONE, policy={"soakS": 7 * 8 * 3600})
    bench.once()
    for _day in range(8):
        later(bench, 8 * 3600)
        bench.once()
        reboot(bench)
        bench.once()
    assert bench.ledger.record.model(MODEL).soak is None
    assert stones(bench) == []


def test_the_starts_of_one_boot_are_one(bench: Bench) -> None:
    reboot(bench)
    for _ in range(20):
        bench.once()
    assert soak(bench).boots_left == BOOTS - 1


def test_the_last_proved_model_outlives_a_newer_release_during_the_soak(bench: Bench) -> None:
    bench.publish(THREE, policy=HOUR)
    assert bench.codes() == ["installed"]
    assert slots(bench) == ("3.0.0", "1.0.0"), "2.0.0 has never proved itself"
    assert not bench.store.intact(TWO.digest), "and is collected"
    judged(bench, crashes=3)
    assert bench.running() == "1.0.0"


def test_a_proved_model_is_what_the_next_one_goes_back_to(bench: Bench) -> None:
    later(bench, 3600)
    bench.publish(THREE, policy=HOUR)
    bench.once()
    assert slots(bench) == ("3.0.0", "2.0.0")


def test_a_trial_that_fails_during_a_soak_leaves_the_soak_as_it_was(bench: Bench) -> None:
    from edgewright_agent.errors import HealthError

    bench.doctor.verdicts["3.0.0"] = HealthError("health-wrong-output", "off")
    bench.publish(THREE, policy=HOUR)
    assert bench.codes() == ["health-wrong-output"]
    assert (soak(bench).digest, slots(bench)) == (TWO.digest, ("2.0.0", "1.0.0"))


def test_a_release_that_goes_back_during_a_soak_keeps_the_doubtful_one_rather_than_none(bench: Bench) -> None:
    bench.publish(ONE)
    assert bench.codes() == ["installed"]
    assert slots(bench) == ("1.0.0", "2.0.0")
    assert bench.ledger.record.model(MODEL).soak is None, "the policy asks for none"


def test_the_only_model_is_never_taken_away(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.publish(ONE, policy=HOUR)
    bench.once()
    (fallen,) = judged(bench, hangs=2).fallen
    assert "nothing to go back to, so it runs on" in fallen.message
    assert bench.running() == "1.0.0"
    assert stones(bench) == []
    assert len(Archive(bench.state, Disk()).entries()) == 1
    assert not judged(bench, hangs=2).fallen, "told once"
    bench.once()
    (model,) = gather(bench.config, bench.ledger, bench.store, NOW, up=bench.up).models
    assert (model.state, model.document()["soak"]["failed"]) == ("unproved", "soak-hang")
    bench.publish(TWO, policy=HOUR)
    assert bench.codes() == ["installed"]
    assert slots(bench) == ("2.0.0", "1.0.0"), "better than nothing"


def test_a_damaged_previous_model_is_not_gone_back_to(bench: Bench) -> None:
    ledger, state = bench.ledger, bench.ledger.record.model(MODEL)
    (bench.store.path(ONE.digest) / "model.onnx").write_bytes(b"x" * len(ONE.files["model.onnx"]))
    (fallen,) = judged(bench, crashes=3).fallen
    assert "runs on" in fallen.message
    assert bench.running() == "2.0.0"
    # The factory model is the next to be asked.
    bench.shelf.put(THREE)
    three = bench.obtained(THREE)
    slot = Slot(three.digest, "3.0.0", "2029-01-01T00:00:00Z")
    ledger = bench.ledger
    ledger.commit(ledger.record.with_model(MODEL, replace(state, factory=slot)))
    (fallen,) = judged(bench, crashes=3).fallen
    assert bench.running() == "3.0.0"
    state = bench.ledger.record.model(MODEL)
    assert state.rung
    assert (state.rung.name, state.rung.code) == ("factory", "soak-crash")


def test_a_cut_at_every_operation_of_a_fall_is_recovered_from(bench: Bench, tmp_path: Path) -> None:
    calls = DyingCalls()
    whole = tmp_path / "whole"
    shutil.copytree(bench.folder, whole, symlinks=True)
    judged(Bench(whole), calls, crashes=3)
    assert calls.count > 8
    for dies_at in range(1, calls.count + 1):
        folder = tmp_path / "cut"
        shutil.copytree(bench.folder, folder, symlinks=True)
        device = Bench(folder)
        with pytest.raises(PowerCut):
            judged(device, DyingCalls(dies_at), crashes=3)
        assert device.running() in ("1.0.0", "2.0.0"), "what applications read is always whole"
        for made in (ONE, TWO):
            device.publish(made, policy=HOUR)
        device.once()
        if stones(device):
            assert device.running() == "1.0.0"
        else:  # nothing had been decided durably: what was seen is told again
            assert device.running() == "2.0.0"
            judged(device, crashes=3)
        assert (device.running(), stones(device)) == ("1.0.0", [("2.0.0", "soak-crash")])
        (stone,) = device.ledger.record.model(MODEL).tombstones
        assert stone.evidence in [entry.name for entry in Archive(device.state, Disk()).entries()]
        shutil.rmtree(folder)


def test_status_tells_how_long_a_soak_goes_on(bench: Bench) -> None:
    later(bench, 600)
    status = gather(bench.config, bench.ledger, bench.store, NOW, up=bench.up)
    (model,) = status.models
    assert (status.state, model.state) == ("ok", "soaking")
    assert json.loads(json.dumps(model.document()))["soak"] == {
        "leftS": 3000, "failures": 0, "hangs": 0, "errors": 0, "inferences": 0, "bootsLeft": BOOTS, "failed": None,
    }  # fmt: skip
    assert "its live soak goes on for 50 minutes" in status.text()


def test_after_a_fall_status_leads_to_the_evidence_and_not_to_another_poll(bench: Bench) -> None:
    judged(bench, crashes=3)
    status = gather(bench.config, bench.ledger, bench.store, NOW, up=bench.up)
    assert status.next_command() == f"edgewright-agent evidence {MODEL}"


def test_what_a_person_decides_ends_a_soak(bench: Bench) -> None:
    assert pin(bench.ledger, bench.store, MODEL, now=NOW).version == "2.0.0"
    assert bench.ledger.record.model(MODEL).soak is None
    unpin(bench.ledger, MODEL)
    rollback(bench.ledger, bench.store, MODEL, now=NOW)
    assert not judged(bench, crashes=99).fallen


def test_a_damaged_model_that_soaked_is_judged_no_more(bench: Bench) -> None:
    (bench.store.path(TWO.digest) / "model.onnx").write_bytes(b"")
    bench.shelf.down = True
    assert "damaged" in bench.codes()
    assert bench.running() == "1.0.0"
    assert not judged(bench, crashes=99).fallen


def test_a_record_from_before_soaks_is_read(bench: Bench) -> None:
    document = json.loads(to_bytes(bench.ledger.record))
    model = document["models"][MODEL]
    model["trial"] = {
        "digest": THREE.digest,
        "version": "3",
        "attempts_left": 1,
        "started": "x",
        "timeout_s": 5,
    }
    for name in ("hangs", "inference_timeout_s", "errors", "inferences"):
        del model["soak"][name]
    read = from_bytes(json.dumps(document).encode()).model(MODEL)
    assert read.trial
    assert (read.trial.terms, read.trial.boots) == (Terms(), None)
    assert read.proving
    assert from_bytes(to_bytes(bench.ledger.record)) == bench.ledger.record


def test_the_terms_of_a_trial_survive_a_power_cut(tmp_path: Path) -> None:
    from edgewright_agent.engine import EngineError

    bench = Bench(tmp_path)
    bench.doctor.verdicts["1.0.0"] = EngineError("runtime-missing", "not here yet")
    bench.publish(ONE, policy={**HOUR, "trialSoakS": 20, "budget": {"latencyMs": 7}, "inferenceTimeoutS": 3})
    bench.once()
    assert bench.ledger.record.model(MODEL).trial
    del bench.doctor.verdicts["1.0.0"]
    bench.document["budget"] = {"latencyMs": 9, "loadMs": 100}
    bench.shelf.down = True
    bench.once()
    assert soak(bench).inference_timeout_s == 3
    (asked,) = bench.doctor.asked[-1:]
    assert (asked["soak_s"], asked["inference_timeout_s"]) == (20, 3)
    budget = asked["budget"]
    assert (budget.latency_ms, budget.load_ms) == (7, 100), "the stricter of both"


def test_a_soak_is_pure_arithmetic() -> None:
    up = Uptime("b", 100)
    state = begin(ModelState(active=Slot("a", "1", "x")), "a", Terms(soak_s=50), up)
    assert state.soak
    assert left_s(state.soak, Uptime("b", 130)) == 20
    assert left_s(state.soak, Uptime("c", 45)) == 5
    assert begin(state, "a", Terms(), up).soak is None
    over = observe(state, Observation("a"), Uptime("b", 150))
    assert isinstance(over, ModelState)
    assert over.soak is None
    assert isinstance(observe(state, Observation("a", hangs=2), Uptime("b", 150)), Failure), (
        "in its last second"
    )
