"""The update transaction: what is installed, what is refused, and that what runs keeps running."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from edgewright_agent.acceptance import MAX_LANES, MAX_MODELS, accepted
from edgewright_agent.artifact import parse
from edgewright_agent.clock import Uptime, to_text
from edgewright_agent.contract import ANNOTATION_TITLE
from edgewright_agent.engine import EngineError
from edgewright_agent.errors import HealthError, StorageError, TransportError, TrustError
from edgewright_agent.factory import scrub
from edgewright_agent.files import Calls
from edgewright_agent.model_state import ModelState, Tombstone, Verdict
from edgewright_agent.status import gather
from edgewright_agent.trust.approval import Runtime
from unit.agent.core.workbench import MODEL, NOW, PI, BadSectors, Bench, Made, make_artifact

ONE, TWO, THREE = (make_artifact(f"{number}.0.0") for number in (1, 2, 3))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def running(bench: Bench) -> Bench:
    """A device that runs 1.0.0."""
    bench.publish(ONE)
    assert bench.codes() == ["installed"]
    return bench


def test_the_first_boot_installs_what_is_assigned(bench: Bench) -> None:
    bench.publish(ONE)
    report = bench.once()
    assert [(o.code, o.version, o.digest) for o in report.outcomes] == [("installed", "1.0.0", ONE.digest)]
    assert report.exit_code == 0
    assert bench.running() == "1.0.0"


def test_nothing_assigned_is_fine(bench: Bench) -> None:
    report = bench.once()
    assert (report.exit_code, report.outcomes) == (0, ())


def test_an_update_replaces_the_active_model_and_keeps_the_previous_one(running: Bench) -> None:
    running.publish(TWO)
    assert running.codes() == ["installed"]
    assert running.running() == "2.0.0"
    state = running.ledger.record.model(MODEL)
    assert state.previous and state.previous.version == "1.0.0"
    assert running.store.verify(ONE.digest).version == "1.0.0"


def test_a_third_version_lets_the_first_one_go(running: Bench) -> None:
    running.publish(TWO)
    running.once()
    running.publish(make_artifact("3.0.0"))
    assert running.codes() == ["installed"]
    assert sorted(p.name for p in (running.state / "store").iterdir()) == sorted(
        d.removeprefix("sha256:") for d in (make_artifact("3.0.0").digest, TWO.digest)
    )


def test_nothing_new_is_one_conditional_request(running: Bench) -> None:
    running.shelf.asked.clear()
    refreshed = len(running.trust.refreshed_at)
    report = running.once()
    assert report.poll.code == "not-modified"
    assert running.shelf.asked == ["manifest tuf timestamp.json"]
    assert len(running.trust.refreshed_at) == refreshed


@pytest.mark.parametrize("why", ["labels", "key", "near expiry", "forced"])
def test_an_etag_does_not_answer_for_more_than_it_was_given_for(running: Bench, why: str) -> None:
    if why == "labels":
        running.document["device"]["labels"] = {"site": "roof"}
    elif why == "key":
        (running.folder / "signing.pub").write_text("another key")
    elif why == "near expiry":
        running.now = NOW + timedelta(days=7, seconds=-899)
    assert running.once(force=why == "forced").poll.code == "ok"


def test_force_reads_the_active_model_back_and_fetches_it_again_when_it_changed(running: Bench) -> None:
    file = running.state / "current" / MODEL / "model.onnx"
    good = file.read_bytes()
    file.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    report = running.once(force=True)
    assert [(outcome.code, outcome.exit_code) for outcome in report.outcomes] == [("repaired", 0)]
    assert "differs from the signed manifest" in report.outcomes[0].message
    assert file.read_bytes() == good
    assert [outcome.code for outcome in running.once(force=True).outcomes] == ["current"]


def test_a_source_that_says_not_modified_for_ever_does_not_freeze_the_device(running: Bench) -> None:
    running.now = NOW + timedelta(days=8)
    running.trust.refusal = TrustError("expired-metadata", "timestamp expired")
    report = running.once()
    assert (report.poll.code, report.exit_code) == ("expired-metadata", 2)
    assert running.running() == "1.0.0"


def spoil(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    return {"edit": change}


def drop_golden(document: dict[str, Any]) -> None:
    document["layers"] = document["layers"][:2]


def add_layers(document: dict[str, Any]) -> None:
    document["layers"] *= 30


def name_twice(document: dict[str, Any]) -> None:
    document["layers"].append(document["layers"][0])


def escape(document: dict[str, Any]) -> None:
    document["layers"][0]["annotations"][ANNOTATION_TITLE] = "../../etc/passwd"


def claim_manifest(document: dict[str, Any]) -> None:
    document["layers"].append({**document["layers"][0], "annotations": {ANNOTATION_TITLE: "manifest.json"}})


def huge(document: dict[str, Any]) -> None:
    document["layers"][0]["size"] = 1 << 60


def negative(document: dict[str, Any]) -> None:
    document["layers"][0]["size"] = -1


def no_digest(document: dict[str, Any]) -> None:
    document["layers"][0]["digest"] = "md5:0"


def other_type(document: dict[str, Any]) -> None:
    document["artifactType"] = "application/x-evil"


def test_a_manifest_nested_out_of_all_reason_is_refused_like_any_other_bad_one() -> None:
    with pytest.raises(TrustError) as refused:
        parse(b'{"layers":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    assert refused.value.code == "bad-manifest"


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (make_artifact("2.0.0", hardware_class="jetson"), "wrong-class"),
        (make_artifact("2.0.0", model="vibration-monitor"), "wrong-model"),
        *(
            (make_artifact("2.0.0", edit=edit), "bad-manifest")
            for edit in (
                *(drop_golden, add_layers, name_twice, escape, claim_manifest),
                *(huge, negative, no_digest, other_type),
            )
        ),
    ],
)
def test_a_signed_manifest_that_is_not_for_this_device_is_refused_before_any_blob(
    running: Bench, made: Any, code: str
) -> None:
    running.publish(made)
    running.shelf.asked.clear()
    report = running.once()
    assert [o.code for o in report.outcomes] == [code]
    assert report.exit_code == 2
    assert running.shelf.blob_requests() == []
    assert running.running() == "1.0.0"


@pytest.mark.parametrize(
    "code", ["unsigned", "bad-signature", "no-gate-report", "gate-failed", "wrong-class"]
)
def test_what_sigstore_refuses_is_not_even_downloaded(running: Bench, code: str) -> None:
    running.publish(TWO)
    running.trust.untrusted[TWO.digest] = code
    running.shelf.asked.clear()
    report = running.once()
    assert [(o.code, o.exit_code) for o in report.outcomes] == [(code, 2)]
    assert running.shelf.blob_requests() == []
    assert running.running() == "1.0.0"
    last = running.ledger.record.model(MODEL).last
    assert last and (last.code, last.digest) == (code, TWO.digest)


def test_an_assigned_artifact_that_targets_did_not_sign_is_refused(running: Bench) -> None:
    running.publish(TWO)
    running.trust.targets.clear()
    assert running.codes() == ["not-a-target"]
    assert running.running() == "1.0.0"


def test_a_manifest_of_another_length_or_digest_is_refused(running: Bench) -> None:
    running.publish(TWO)
    running.shelf.manifests[MODEL, TWO.digest] = TWO.body[:-1] + b" "
    assert running.codes() == ["digest-mismatch"]
    running.shelf.manifests[MODEL, TWO.digest] = TWO.body + b" "
    assert running.codes() == ["too-large"]
    assert running.running() == "1.0.0"


def test_a_refusal_is_asked_again_at_the_next_poll_and_recovers_when_signatures_arrive(
    running: Bench,
) -> None:
    running.publish(TWO)
    running.trust.untrusted[TWO.digest] = "unsigned"
    assert running.codes() == ["unsigned"]
    running.trust.untrusted.clear()
    assert running.codes() == ["installed"], (
        "a timestamp's ETag does not change when a signature arrives later"
    )


@pytest.mark.parametrize("code", ["expired-metadata", "metadata-rollback", "bad-signature"])
def test_refused_metadata_changes_nothing_but_the_last_poll(running: Bench, code: str) -> None:
    before = running.ledger.record
    running.publish(TWO)
    running.trust.refusal = TrustError(code, "no")
    report = running.once()
    after = running.ledger.record
    assert (report.exit_code, report.poll.code) == (2, code)
    assert (after.models, after.floor, after.clock_floor) == (before.models, before.floor, before.clock_floor)
    assert running.running() == "1.0.0"


def test_an_error_that_quotes_a_stranger_is_recorded_like_any_other(running: Bench) -> None:
    """A lone surrogate cannot be written as UTF-8: the poll ended unrecorded, so `status` told of the one before."""
    running.trust.refusal = TrustError("bad-metadata", "it says \ud800 and \x1b[2J")
    running.once(force=True)
    poll = running.ledger.record.poll
    assert poll is not None
    assert (poll.code, poll.message) == ("bad-metadata", "it says ? and ?[2J")


def test_an_unreachable_source_is_an_environment_fault_and_keeps_retry_after(running: Bench) -> None:
    class Busy(TransportError):
        retry_after_s = 77.0

    def busy(*_: object, **__: object) -> None:
        raise Busy("busy", "later")

    running.shelf.manifest = busy  # type: ignore[method-assign, assignment]
    report = running.once()
    assert (report.exit_code, report.poll.code, report.poll.retry_after_s) == (3, "busy", 77.0)
    assert running.running() == "1.0.0"


def test_the_floor_is_durable_before_a_manifest_is_asked_for(running: Bench) -> None:
    running.publish(TWO)
    floors: list[int] = []
    original = running.shelf.manifest

    def watched(repository: str, *args: Any, **kwargs: Any) -> Any:
        if repository == MODEL:
            floors.append(running.ledger.record.floor["timestamp"])
        return original(repository, *args, **kwargs)

    running.shelf.manifest = watched  # type: ignore[method-assign]
    running.once()
    assert floors == [running.trust.versions["timestamp"]]


def test_the_floor_never_sinks(running: Bench) -> None:
    high = dict(running.ledger.record.floor)
    running.trust.versions = dict.fromkeys(high, 1)
    running.once(force=True)
    assert running.ledger.record.floor == high
    assert running.trust.floors[-1].versions == high


def test_a_model_that_answers_wrongly_is_tombstoned_at_once_and_the_old_one_stays(running: Bench) -> None:
    running.publish(TWO)
    running.doctor.verdicts["2.0.0"] = HealthError("health-wrong-output", "scores is off by 3")
    report = running.once()
    assert [(o.code, o.exit_code) for o in report.outcomes] == [("health-wrong-output", 2)]
    assert running.doctor.seen == ["1.0.0", "2.0.0"]
    state = running.ledger.record.model(MODEL)
    assert state.active and state.active.version == "1.0.0"
    assert [stone.code for stone in state.tombstones] == ["health-wrong-output"]
    assert running.running() == "1.0.0"
    assert not running.store.path(TWO.digest).exists()


def test_what_was_given_up_is_neither_fetched_nor_tried_again_until_a_person_says_so(running: Bench) -> None:
    running.publish(TWO)
    running.doctor.verdicts["2.0.0"] = HealthError("health-wrong-output", "no")
    running.once()
    running.shelf.asked.clear()
    report = running.once()
    assert [(o.code, o.exit_code) for o in report.outcomes] == [("tombstoned", 0)]
    assert running.shelf.blob_requests() == []
    assert running.once().poll.code == "not-modified", (
        "a settled refusal needs no more than a conditional poll"
    )


@pytest.mark.parametrize("code", ["health-crash", "health-timeout", "health-over-budget"])
def test_crashes_hangs_and_slowness_get_every_attempt_counted_before_it_begins(
    running: Bench, code: str
) -> None:
    running.doctor.state = running.state
    running.publish(TWO, attempts=3)
    running.doctor.verdicts["2.0.0"] = HealthError(code, "no")
    assert running.codes() == [code]
    assert running.doctor.attempts_left == [2, 1, 0]
    assert running.running() == "1.0.0"


def test_the_first_model_ever_that_fails_leaves_nothing_running(bench: Bench) -> None:
    bench.publish(ONE)
    bench.doctor.verdicts["1.0.0"] = HealthError("health-wrong-output", "no")
    assert bench.codes() == ["health-wrong-output"]
    assert bench.running() is None
    assert bench.store.links() == {}


@pytest.mark.parametrize("code", ["runtime-missing", "runtime-version"])
def test_a_missing_engine_is_not_held_against_the_model(running: Bench, code: str) -> None:
    running.publish(TWO, attempts=1)
    running.doctor.verdicts["2.0.0"] = EngineError(code, "no engine")
    for _ in range(3):
        report = running.once()
        assert [(o.code, o.exit_code) for o in report.outcomes] == [(code, 3)]
    state = running.ledger.record.model(MODEL)
    assert state.trial and state.trial.attempts_left == 1
    assert state.tombstones == ()
    running.doctor.verdicts.clear()
    running.shelf.asked.clear()
    assert running.codes() == ["installed"]
    assert running.shelf.blob_requests() == []


@pytest.mark.parametrize("how", ["vanished", "bad sector"])
def test_a_trial_that_waits_for_its_engine_and_whose_files_are_lost_is_fetched_again(
    running: Bench, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    running.publish(TWO)
    running.doctor.verdicts["2.0.0"] = EngineError("runtime-missing", "no engine")
    assert running.codes() == ["runtime-missing"]
    file = running.store.path(TWO.digest) / "model.onnx"
    if how == "vanished":
        file.unlink()
    else:
        bad = BadSectors(monkeypatch)
        bad.under(file)
        running.shelf.down = True
        assert running.codes() == ["damaged"]
        running.shelf.down = False
        bad.files.clear()  # the new file lies elsewhere on the disk
    running.doctor.verdicts.clear()
    assert running.codes() == ["installed"]
    assert running.running() == "2.0.0"


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, errno.EACCES])
def test_a_process_that_cannot_read_takes_no_model_for_damaged(
    running: Bench, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refused(*_: int) -> None:
        raise OSError(number, "not now")

    with monkeypatch.context() as patched:
        patched.setattr("os.posix_fadvise", refused)
        with pytest.raises(StorageError) as failed:
            running.store.verify(ONE.digest)
        assert failed.value.code != "damaged"
        assert scrub(running.ledger.record, running.store, active=True) == frozenset()
    assert running.running() == "1.0.0"


def test_a_newer_assignment_replaces_a_trial_that_waits(running: Bench) -> None:
    running.publish(TWO)
    running.doctor.verdicts["2.0.0"] = EngineError("runtime-version", "too old")
    running.once()
    running.publish(make_artifact("3.0.0"))
    assert running.codes() == ["installed"]
    assert running.running() == "3.0.0"


@pytest.mark.parametrize("how", ["unassigned", "not-offered"])
def test_a_trial_that_waits_is_withdrawn_with_its_assignment(running: Bench, how: str) -> None:
    running.publish(TWO)
    running.doctor.verdicts["2.0.0"] = EngineError("runtime-version", "too old")
    running.once()
    entry = {"repository": MODEL, "modelVersion": "3.0.0", "artifacts": {}}
    models = {MODEL: entry} if how == "not-offered" else {}
    running.assign([{"name": "all", "selector": {"matchLabels": {}}, "models": models}])
    report = running.once()
    assert [(o.code, o.exit_code) for o in report.outcomes] == [(how, 0)]
    running.doctor.verdicts.clear()
    assert running.once().poll.code == "not-modified"
    assert running.running() == "1.0.0"
    assert not running.store.path(TWO.digest).exists()


def test_one_models_failure_does_not_stop_the_others(bench: Bench) -> None:
    bad = make_artifact("1.0.0", model="a-broken-one")
    bench.publish(bad, model="a-broken-one")
    bench.publish(ONE)
    bench.trust.untrusted[bad.digest] = "unsigned"
    report = bench.once()
    assert [(o.model, o.code) for o in report.outcomes] == [
        ("a-broken-one", "unsigned"),
        (MODEL, "installed"),
    ]
    assert report.exit_code == 2
    assert bench.running() == "1.0.0"


def test_a_withdrawn_model_keeps_running(running: Bench) -> None:
    running.assign([])
    assert running.codes() == ["unassigned"]
    assert running.running() == "1.0.0"


def test_a_version_without_an_artifact_for_this_class_changes_nothing(running: Bench) -> None:
    groups = running.trust.assignment["groups"]
    groups[0]["models"][MODEL] = {"repository": MODEL, "modelVersion": "2.0.0", "artifacts": {}}
    running.assign(groups)
    assert running.codes() == ["not-offered"]
    assert running.running() == "1.0.0"


def test_going_back_to_the_previous_version_needs_no_download(running: Bench) -> None:
    running.publish(TWO)
    running.once()
    running.shelf.asked.clear()
    running.publish(ONE)
    assert running.codes() == ["installed"]
    assert running.shelf.blob_requests() == []
    assert running.running() == "1.0.0"


def test_no_space_refuses_before_a_byte_is_fetched_and_recovers_when_there_is(running: Bench) -> None:
    running.publish(TWO)
    running.document["reserveBytes"] = 1 << 60
    asked_before = running.shelf.blob_requests()
    report = running.once()
    assert [(o.code, o.exit_code) for o in report.outcomes] == [("no-space", 3)]
    assert running.shelf.blob_requests() == asked_before
    assert not running.store.staging(TWO.digest).exists()
    assert running.running() == "1.0.0"
    running.document["reserveBytes"] = 0
    assert running.codes() == ["installed"]


def test_an_active_model_damaged_on_disk_is_replaced_by_the_previous_one_and_fetched_again(
    running: Bench,
) -> None:
    running.publish(TWO)
    running.once()
    (running.store.path(TWO.digest) / "model.onnx").write_bytes(b"")
    running.shelf.down = True
    report = running.once()
    assert [o.code for o in report.outcomes] == ["damaged"]
    assert running.running() == "1.0.0"
    running.shelf.down = False
    assert running.codes() == ["installed"]
    assert running.running() == "2.0.0"


def test_a_link_that_was_lost_or_bent_is_derived_again(running: Bench) -> None:
    link = running.state / "current" / MODEL
    link.unlink()
    running.once()
    assert running.running() == "1.0.0"
    link.unlink()
    link.symlink_to("../store/" + "0" * 64)
    running.once()
    assert running.running() == "1.0.0"


def test_with_both_record_slots_damaged_nothing_is_installed_and_everything_runs(running: Bench) -> None:
    running.publish(TWO)
    for slot in ("state.0", "state.1"):
        (running.state / slot).write_bytes(b"\xff" * 65536)
    with pytest.raises(StorageError) as refused:
        running.once()
    assert refused.value.code == "state-damaged"
    assert running.running() == "1.0.0"
    assert not running.store.path(TWO.digest).exists()


def test_a_link_that_cannot_be_written_does_not_stop_the_agent_and_is_made_later(running: Bench) -> None:
    class NoInodes(Calls):
        def symlink(self, link: Path, target: str) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    running.publish(TWO)
    running.calls = NoInodes()
    for _ in range(2):
        report = running.once()
        assert [(o.code, o.exit_code) for o in report.outcomes] == [("no-space", 3)]
        assert report.poll.code == "ok"
        assert running.running() == "1.0.0"
    running.calls = None
    assert running.codes() == ["current"]
    assert running.running() == "2.0.0"


def test_a_model_that_never_ran_and_is_withdrawn_is_forgotten(bench: Bench) -> None:
    bench.publish(ONE)
    bench.trust.untrusted[ONE.digest] = "unsigned"
    bench.once()
    bench.assign([])
    assert bench.codes() == ["unassigned"]
    assert bench.ledger.record.models == {}


def test_what_failed_here_stays_in_mind_when_it_is_withdrawn_and_assigned_again(bench: Bench) -> None:
    bench.doctor.verdicts["1.0.0"] = HealthError("health-wrong-output", "7 instead of 3")
    bench.publish(ONE)
    groups = bench.trust.assignment["groups"]
    assert bench.codes() == ["health-wrong-output"]
    bench.assign([])
    assert bench.codes() == ["unassigned"]
    found = gather(bench.config, bench.ledger, bench.store, bench.now)
    assert (found.state, found.models) == ("ok", ()), "it is nobody's any more"
    assert bench.once().poll.code == "not-modified"
    bench.assign(groups)
    assert bench.codes() == ["tombstoned"]


def test_ever_new_models_that_fail_and_go_do_not_fill_the_record(bench: Bench) -> None:
    stone = Tombstone(ONE.digest, "1.0.0", "health-crash", "died", to_text(NOW))
    gone = ModelState(tombstones=(stone,), last=Verdict("unassigned", "gone", to_text(NOW)))
    old = replace(gone, tombstones=(replace(stone, at="2020-01-01T00:00:00Z"),))
    models = {"oldest": old} | {f"model-{number}": gone for number in range(MAX_MODELS - 1)}
    bench.ledger.commit(replace(bench.ledger.record, models=models))
    bench.publish(TWO)
    assert "installed" in bench.codes()
    kept = bench.ledger.record.models
    assert len(kept) == MAX_MODELS
    assert "oldest" not in kept and MODEL in kept


def test_the_reserve_of_the_class_counts_as_well_as_the_devices_own(running: Bench) -> None:
    running.publish(TWO)
    groups = running.trust.assignment["groups"]
    groups[0]["models"][MODEL]["artifacts"][PI]["updatePolicy"] = {"diskReserveBytes": 1 << 60}
    running.assign(groups)
    assert running.codes() == ["no-space"]
    assert running.running() == "1.0.0"


def test_signers_are_judged_by_the_policy_that_came_with_this_very_metadata(running: Bench) -> None:
    running.trust.policy = b'{"version":1}'
    running.publish(TWO)
    running.once()
    assert running.trust.policies[-1] == b'{"version":1}'
    (running.state / "current" / MODEL / "model.onnx").write_bytes(b"x" * len(TWO.files["model.onnx"]))
    running.trust.policy = b'{"version":1,"demands":[]}'
    assert running.codes(force=True) == ["repaired"]
    assert running.trust.policies[-1] == b'{"version":1,"demands":[]}'


# --- sequence, runtime, agent -------------------------------------------------------------


def assign_again(bench: Bench, made: Made) -> None:
    """Assign an artifact as the holder of the rollout key alone can: its class's role signs nothing new."""
    sequences = dict(bench.trust.sequences)
    bench.publish(made)
    bench.trust.sequences = sequences


def test_what_was_withdrawn_is_not_installed_again_by_a_stolen_rollout_key(running: Bench) -> None:
    running.publish(TWO)
    running.once()
    assign_again(running, ONE)
    running.shelf.asked.clear()
    report = running.once()
    assert [(o.code, o.exit_code) for o in report.outcomes] == [("artifact-rollback", 2)]
    assert running.running() == "2.0.0"
    assert running.shelf.asked == ["manifest tuf timestamp.json"]


def test_a_device_that_has_lost_its_models_is_not_rolled_back_either(running: Bench) -> None:
    running.publish(TWO)
    running.once()
    running.assign([])
    running.once()
    assign_again(running, ONE)
    assert running.codes() == ["artifact-rollback"]


def test_a_higher_sequence_that_points_at_an_older_artifact_is_an_intended_rollback(running: Bench) -> None:
    running.publish(TWO)
    running.once()
    running.publish(ONE)
    assert running.codes() == ["installed"]
    assert running.running() == "1.0.0"


def test_the_active_artifact_raises_the_sequence_as_well(running: Bench) -> None:
    """Another version of the lane was withdrawn: what stays has a higher number now."""
    running.publish(TWO)
    assign_again(running, ONE)
    running.trust.sequences[MODEL, PI, ONE.digest] = 3
    assert running.codes() == ["current"]
    assert running.ledger.record.sequences == {f"{PI}/{MODEL}": 3}
    assign_again(running, TWO)
    assert running.codes() == ["artifact-rollback"]
    assert running.running() == "1.0.0"


def test_the_sequence_is_durable_before_a_manifest_is_asked_for(running: Bench) -> None:
    running.publish(TWO)
    seen: list[int] = []
    original = running.shelf.manifest

    def watched(repository: str, *args: Any, **kwargs: Any) -> Any:
        if repository == MODEL:
            seen.append(running.ledger.record.sequences[f"{PI}/{MODEL}"])
        return original(repository, *args, **kwargs)

    running.shelf.manifest = watched  # type: ignore[method-assign]
    running.once()
    assert seen == [2]


def test_a_trial_that_waits_ends_when_what_is_assigned_is_refused(running: Bench) -> None:
    running.publish(TWO)
    running.doctor.verdicts["2.0.0"] = EngineError("runtime-version", "too old")
    running.once()
    assign_again(running, ONE)
    assert running.codes() == ["artifact-rollback"]
    running.doctor.verdicts.clear()
    running.once()
    assert running.running() == "1.0.0"
    assert running.ledger.record.model(MODEL).trial is None


def test_a_fast_forwarded_sequence_ends_with_the_class_key_and_releases_nothing_else(running: Bench) -> None:
    running.publish(TWO)
    running.once()
    lane, role = f"{PI}/{MODEL}", f"class-{PI}"
    running.trust.keys = {role: "1:stolen"}
    running.publish(THREE)
    running.trust.sequences[MODEL, PI, THREE.digest] = 2**53 - 1
    running.once()
    assert running.ledger.record.sequences == {lane: 2**53 - 1}
    running.trust.keys = {role: "1:fresh"}
    del running.trust.targets[MODEL, PI, THREE.digest]
    running.trust.sequences = {(MODEL, PI, ONE.digest): 1, (MODEL, PI, TWO.digest): 3}
    assign_again(running, ONE)
    assert running.codes() == ["artifact-rollback"], (
        "the floor falls to what the new key has signed, not to nothing"
    )
    assert running.ledger.record.sequences == {lane: 3}
    assign_again(running, TWO)
    assert running.codes() == ["installed"]


@pytest.mark.parametrize(
    ("approval", "code"),
    [
        ({"min_agent": "99.0"}, "agent-too-old"),
        ({"runtime": Runtime("onnxruntime", ">=99")}, "wrong-runtime"),
        ({"runtime": Runtime("another-engine", ">=1")}, "wrong-runtime"),
    ],
)
def test_what_this_agent_or_its_engine_cannot_run_is_refused_before_a_manifest_is_asked_for(
    running: Bench, approval: dict[str, Any], code: str
) -> None:
    running.publish(TWO)
    running.trust.demands[TWO.digest] = approval
    running.shelf.asked.clear()
    report = running.once()
    assert [(o.code, o.exit_code) for o in report.outcomes] == [(code, 2)]
    assert running.shelf.asked == ["manifest tuf timestamp.json"]
    assert running.running() == "1.0.0"
    running.trust.demands.clear()
    assert running.codes() == ["installed"]


def test_what_is_active_keeps_running_on_an_agent_that_became_too_old_for_it(running: Bench) -> None:
    running.trust.demands[ONE.digest] = {"min_agent": "99.0"}
    assert [(o.code, o.exit_code) for o in running.once(force=True).outcomes] == [("current", 0)]


# --- fleet and groups ---------------------------------------------------------------------


def test_the_state_of_another_fleet_is_refused_and_leaves_no_trace(running: Bench) -> None:
    before = running.ledger.record
    assert before.fleet == "f"
    running.trust.assignment = {**running.trust.assignment, "fleet": "another"}
    running.publish(TWO)
    report = running.once()
    assert (report.poll.code, report.exit_code) == ("wrong-fleet", 2)
    after = running.ledger.record
    assert (after.floor, after.sequences, after.fleet) == (before.floor, before.sequences, "f")
    assert running.running() == "1.0.0"


def test_an_assignment_for_other_devices_changes_nothing_here(running: Bench) -> None:
    entry = {"repository": MODEL, "modelVersion": "9.0.0", "artifacts": {}}
    other = {"name": "roof", "selector": {"matchLabels": {"site": "roof"}}, "models": {MODEL: entry}}
    running.assign([other, *running.trust.assignment["groups"]])
    assert running.codes() == ["current"]
    assert running.running() == "1.0.0"


def test_a_device_whose_labels_match_no_group_runs_on_unchanged(running: Bench) -> None:
    running.document["device"]["labels"] = {"site": "nowhere"}
    groups = running.trust.assignment["groups"]
    groups[0]["selector"] = {"matchLabels": {"site": "lab"}}
    running.publish(TWO)
    running.shelf.asked.clear()
    report = running.once()
    assert [(o.code, o.exit_code) for o in report.outcomes] == [("unassigned", 0)]
    assert running.running() == "1.0.0"
    assert running.shelf.asked == ["manifest tuf timestamp.json"]


def test_more_models_than_a_record_can_hold_are_refused_whole(running: Bench) -> None:
    entry = {"repository": MODEL, "modelVersion": "1.0.0", "artifacts": {}}
    models = {f"model-{number}": entry for number in range(MAX_MODELS + 1)}
    running.assign([{"name": "all", "selector": {"matchLabels": {}}, "models": models}])
    assert running.once().poll.code == "bad-metadata"
    assert set(running.ledger.record.models) == {MODEL}


def test_a_thief_of_keys_cannot_fill_the_record_with_models_for_ever(running: Bench) -> None:
    """It took no more metadata then, not even what would have revoked the keys."""
    made = make_artifact("1.0.0")
    for wave in range(20):
        names = [f"{'m' * 40}-{wave}-{number}" for number in range(MAX_MODELS - 1)]
        for name in names:
            running.trust.targets[name, PI, made.digest] = len(made.body)
        entry = {"digest": made.digest, "modelVersion": "1.0.0", "size": len(made.body)}
        release = {"repository": MODEL, "modelVersion": "1.0.0", "artifacts": {PI: entry}}
        groups = running.trust.assignment["groups"]
        running.assign(
            [{**groups[0], "models": {MODEL: groups[0]["models"][MODEL]} | dict.fromkeys(names, release)}]
        )
        desired = running.trust.refresh(None, floor=running.ledger.record.lowest(running.up), now=NOW)
        ledger = running.ledger
        ledger.commit(accepted(ledger.record, desired, running.config.device, running.up))
    kept = running.ledger.record.sequences
    assert len(kept) == MAX_LANES
    assert {f"{PI}/{MODEL}", *(f"{PI}/{name}" for name in names)} <= set(kept), (
        "what is assigned is remembered"
    )
    running.assign([{**groups[0], "models": {MODEL: groups[0]["models"][MODEL]}}])
    assert running.once().poll.code == "ok"


# --- the clock ----------------------------------------------------------------------------


def test_the_devices_own_clock_never_becomes_the_clock_floor(running: Bench) -> None:
    running.now = NOW + timedelta(days=5)
    running.once(force=True)
    assert running.ledger.record.clock_floor is None
    running.trust.issued = NOW
    running.once(force=True)
    assert running.ledger.record.clock_floor == to_text(NOW)


def test_metadata_is_judged_by_the_clock_and_the_floor_whichever_is_later(running: Bench) -> None:
    running.trust.issued = NOW
    running.once(force=True)
    running.now = NOW - timedelta(days=3000)
    running.once(force=True)
    given, clock = running.trust.floors[-1], running.trust.refreshed_at[-1]
    assert given.time(clock) == NOW


def test_expired_metadata_is_stale_and_works_again_when_a_wrong_clock_is_set_right(running: Bench) -> None:
    running.publish(TWO)
    running.now = NOW + timedelta(days=4000)
    running.trust.refusal = TrustError("expired-metadata", "timestamp expired")
    assert running.once().exit_code == 2
    assert running.running() == "1.0.0"
    running.now, running.trust.refusal = NOW, None
    assert running.codes() == ["installed"]


@pytest.mark.parametrize(
    ("up", "passed"),
    [
        (Uptime("first boot", 60 + 86_400), timedelta(days=1)),
        (Uptime("second boot", 3_600), timedelta(hours=1)),
        (Uptime("first boot", 60), timedelta(0)),
    ],
)
def test_a_device_without_a_clock_counts_on_from_the_signed_time_so_nobody_can_freeze_it(
    running: Bench, up: Uptime, passed: timedelta
) -> None:
    running.now = datetime(1970, 1, 1, tzinfo=timezone.utc)
    running.trust.issued = NOW
    running.once(force=True)
    running.up = up
    running.once(force=True)
    assert running.trust.floors[-1].clock == to_text(NOW + passed)
    running.once(force=True)
    assert running.trust.floors[-1].clock == to_text(NOW + passed), "what has passed counts once"


def test_time_that_a_device_was_up_for_is_not_lost_with_a_boot(running: Bench) -> None:
    """Turned off every day, with no clock and a source that never changes, it would never see that anything ended."""
    running.now = datetime(1970, 1, 1, tzinfo=timezone.utc)
    running.trust.issued = NOW
    running.once(force=True)
    for day in range(3):
        for hours in (1, 6):
            running.up = Uptime(f"boot of day {day}", hours * 3600)
            assert running.once().poll.code == "not-modified"
    assert running.ledger.record.clock_floor == to_text(NOW + timedelta(hours=3 * 6))
