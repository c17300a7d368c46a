"""What waits: for a download window, for another link, for an activation window; and what ends the waiting."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from edgewright_agent.cli import main
from edgewright_agent.clock import Uptime, to_text, uptime
from edgewright_agent.config import parse
from edgewright_agent.errors import ConfigError, HealthError, TrustError
from edgewright_agent.files import Disk
from edgewright_agent.network import tell_metered, told_metered
from edgewright_agent.record import Record
from edgewright_agent.schedule import bandwidth_bits_per_s, due, link_wait, next_window_s, polling
from edgewright_agent.status import gather
from unit.agent.core.workbench import MODEL, PI, Bench, Made, make_artifact

ONE, TWO, THREE = (make_artifact(f"{number}.0.0") for number in (1, 2, 3))
NOON = datetime(2030, 1, 7, 12, tzinfo=timezone.utc)  # a Monday
NIGHT = NOON.replace(hour=22)
NIGHTS = {"timeZone": "utc", "download": ["22:00-05:00"]}
MORNINGS = {"timeZone": "utc", "activation": ["05:00-06:00"]}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A device that runs 1.0.0, at noon."""
    made = Bench(tmp_path)
    made.document["source"]["url"] = "https://registry.example/acme"  # the shelf answers all the same
    made.now = NOON
    made.trust.expires = {role: to_text(NOON + timedelta(days=70)) for role in ("root", "timestamp")}
    made.publish(ONE)
    assert made.codes() == ["installed"]
    return made


def release(bench: Bench, made: Made, **policy: Any) -> None:
    """Assign an artifact under a signed policy."""
    bench.publish(made)
    groups = bench.trust.assignment["groups"]
    groups[0]["models"][MODEL]["artifacts"][PI]["updatePolicy"] = policy
    bench.assign(groups)


def status(bench: Bench) -> dict[str, Any]:
    return gather(bench.config, bench.ledger, bench.store, bench.now).document()


def test_outside_the_download_window_polls_go_on_but_no_layer_is_fetched(bench: Bench) -> None:
    release(bench, TWO, windows=NIGHTS)
    fetched = len(bench.shelf.blob_requests())
    report = bench.once()
    (outcome,) = report.outcomes
    assert (outcome.code, outcome.exit_code, report.exit_code) == ("waits-for-window", 0, 0)
    assert "2.0.0 is loaded when the download window opens, at 2030-01-07T22:00:00Z" in outcome.message
    assert len(bench.shelf.blob_requests()) == fetched
    assert bench.running() == "1.0.0"
    assert bench.once().poll.code == "not-modified", "nothing new to ask for until the window opens"


def test_the_daemon_wakes_for_the_window_and_nothing_is_forgotten_behind_not_modified(bench: Bench) -> None:
    release(bench, TWO, windows=NIGHTS)
    bench.once()
    wait_s = next_window_s(bench.config, bench.ledger.record, bench.now)
    assert wait_s is not None
    assert 10 * 3600 < wait_s <= 10 * 3600 + 1 + 900
    bench.now += timedelta(seconds=wait_s)
    assert due(bench.config, bench.ledger.record, bench.now)
    assert bench.codes() == ["installed"]
    assert bench.running() == "2.0.0"
    assert next_window_s(bench.config, bench.ledger.record, bench.now) is None


def test_devices_do_not_all_come_when_the_window_opens(bench: Bench) -> None:
    release(bench, TWO, windows=NIGHTS)
    bench.once()
    waits = []
    for number in range(400):
        bench.document["device"]["id"] = f"pi-{number}"
        wait_s = next_window_s(bench.config, bench.ledger.record, bench.now)
        assert wait_s is not None
        waits.append(wait_s - 10 * 3600 - 1)
    assert min(waits) >= 0
    assert max(waits) < 900
    assert max(sum(start <= wait < start + 90 for wait in waits) for start in range(0, 900, 90)) < 2 * 40


def test_a_download_that_the_end_of_the_window_cuts_goes_on_from_there_the_next_night(bench: Bench) -> None:
    bench.now = NIGHT + timedelta(hours=7) - timedelta(seconds=1)
    release(bench, TWO, windows=NIGHTS)
    source, fetch = bench.shelf, bench.shelf.blob

    def slow(repository: str, digest: str, *, size: int, offset: int = 0) -> Iterator[bytes]:
        for chunk in fetch(repository, digest, size=size, offset=offset):
            update.permission.allowance.permit()  # as a registry's blobs do before every chunk
            bench.now += timedelta(seconds=0.4)
            yield chunk

    source.blob = slow  # type: ignore[method-assign]
    update = bench.update()
    assert [outcome.code for outcome in update.run().outcomes] == ["waits-for-window"]
    (part,) = bench.state.rglob("*.part")
    kept = part.stat().st_size
    assert kept > 0
    bench.now = NIGHT + timedelta(days=1)
    source.asked.clear()
    update = bench.update()
    assert [outcome.code for outcome in update.run().outcomes] == ["installed"]
    assert any(line.endswith(f" {kept}") for line in source.blob_requests()), source.blob_requests()


def test_a_stored_model_waits_for_its_activation_window_and_is_tried_without_network(bench: Bench) -> None:
    release(bench, TWO, windows=MORNINGS)
    report = bench.once()
    assert [(o.code, o.exit_code) for o in report.outcomes] == [("waits-for-window", 0)]
    assert (
        "2.0.0 is stored, and tried when the activation window opens, at 2030-01-08T05:00:00Z"
        in report.text()
    )
    waiting = bench.ledger.record.model(MODEL).waiting
    assert waiting is not None
    assert waiting.digest == TWO.digest
    assert bench.store.verify(TWO.digest).version == "2.0.0"
    assert bench.once().poll.code == "not-modified"
    bench.shelf.down = True
    assert bench.codes() == [], "no network, no window: nothing"
    assert bench.running() == "1.0.0"
    bench.now = NOON + timedelta(hours=17)
    assert due(bench.config, bench.ledger.record, bench.now)
    report = bench.once()
    assert [o.code for o in report.outcomes] == ["installed"]
    assert report.poll.code == "network"
    assert bench.running() == "2.0.0"
    assert bench.ledger.record.model(MODEL).waiting is None


def test_what_was_withdrawn_while_the_device_was_off_is_not_tried_when_it_starts_inside_the_window(
    bench: Bench,
) -> None:
    release(bench, TWO, windows=MORNINGS)
    assert bench.codes() == ["waits-for-window"]
    release(bench, THREE, windows=MORNINGS)
    bench.now = NOON + timedelta(hours=17, minutes=30)
    assert bench.codes() == ["installed"]
    assert bench.running() == "3.0.0"
    assert bench.doctor.seen == ["1.0.0", "3.0.0"]


@pytest.mark.parametrize("how", ["the line is down", "the newest metadata has ended too"])
def test_once_metadata_has_ended_what_waits_goes_on_waiting(bench: Bench, how: str) -> None:
    bench.trust.expires = dict.fromkeys(bench.trust.expires, to_text(NOON + timedelta(hours=7)))
    release(bench, TWO, windows=MORNINGS)
    assert bench.codes() == ["waits-for-window"]
    bench.now = NOON + timedelta(hours=17, minutes=30)
    bench.shelf.down = how == "the line is down"
    bench.trust.refusal = TrustError("expired-metadata", "timestamp ended")
    assert bench.codes() == []
    assert bench.running() == "1.0.0"
    bench.shelf.down, bench.trust.refusal = False, None
    bench.trust.expires = dict.fromkeys(bench.trust.expires, to_text(NOON + timedelta(days=70)))
    assert bench.codes() == ["installed"]


def test_ended_metadata_keeps_no_stored_model_from_a_device_that_damage_has_left_with_nothing(
    bench: Bench,
) -> None:
    bench.trust.expires = dict.fromkeys(bench.trust.expires, to_text(NOON + timedelta(hours=7)))
    release(bench, TWO, windows=MORNINGS)
    bench.once()
    (bench.store.path(ONE.digest) / "model.onnx").write_bytes(b"")
    bench.now = NOON + timedelta(hours=8)
    bench.shelf.down = True
    assert bench.codes() == ["damaged", "installed"]
    assert bench.running() == "2.0.0"


def test_metadata_that_is_refused_holds_back_no_more_than_a_line_that_is_down(bench: Bench) -> None:
    release(bench, TWO, windows=MORNINGS)
    bench.once()
    bench.now = NOON + timedelta(hours=17)
    bench.trust.refusal = TrustError("bad-signature", "somebody else's timestamp")
    report = bench.once()
    assert (report.poll.code, [o.code for o in report.outcomes]) == ("bad-signature", ["installed"])


def test_what_is_still_wanted_is_tried_though_the_line_drops_after_the_metadata(bench: Bench) -> None:
    release(bench, TWO, windows=MORNINGS)
    bench.once()
    bench.now = NOON + timedelta(hours=17)
    del bench.shelf.manifests[MODEL, TWO.digest]
    assert bench.codes() == ["installed"]


def test_what_waited_is_tried_under_the_terms_of_now(bench: Bench) -> None:
    release(bench, TWO, windows=MORNINGS)
    bench.once()
    bench.publish(TWO, policy={"trialSoakS": 7})
    bench.now = NOON + timedelta(hours=17)
    assert bench.codes() == ["installed"]
    assert bench.doctor.asked[-1]["soak_s"] == 7


def test_a_device_that_damage_has_left_with_nothing_waits_for_no_activation_window(bench: Bench) -> None:
    release(bench, ONE, windows=MORNINGS)
    bench.once()
    (bench.store.path(ONE.digest) / "model.onnx").write_bytes(b"")
    assert bench.codes() == ["installed"]
    assert bench.running() == "1.0.0"


def test_a_stored_model_is_tried_at_once_when_damage_leaves_nothing_else(bench: Bench) -> None:
    release(bench, TWO, windows=MORNINGS)
    assert bench.codes() == ["waits-for-window"]
    (bench.store.path(ONE.digest) / "model.onnx").write_bytes(b"")
    bench.shelf.down = True
    assert bench.codes() == ["damaged", "installed"]
    assert bench.running() == "2.0.0"


def test_what_waits_is_not_tried_against_itself_once_damage_has_brought_it_back(bench: Bench) -> None:
    bench.publish(TWO)
    bench.once()
    release(bench, ONE, windows=MORNINGS)
    assert bench.codes() == ["waits-for-window"]
    (bench.store.path(TWO.digest) / "model.onnx").write_bytes(b"")
    bench.doctor.verdicts["1.0.0"] = HealthError("health-timeout", "a bad moment")
    bench.once()
    bench.now = NOON + timedelta(hours=17)
    bench.once()
    state = bench.ledger.record.model(MODEL)
    assert (bench.running(), state.waiting, state.tombstones) == ("1.0.0", None, ())
    assert bench.once().poll.code == "not-modified"


def test_what_waits_and_is_damaged_is_fetched_again_before_its_window(bench: Bench) -> None:
    release(bench, TWO, windows=MORNINGS)
    bench.once()
    (bench.store.path(TWO.digest) / "model.onnx").write_bytes(b"")
    assert bench.codes() == ["waits-for-window"]
    assert bench.store.verify(TWO.digest)
    assert bench.once().poll.code == "not-modified"


def test_a_waiting_model_that_fails_when_its_time_comes_is_given_up(bench: Bench) -> None:
    release(bench, TWO, windows=MORNINGS)
    bench.once()
    bench.doctor.verdicts["2.0.0"] = HealthError("health-wrong-output", "7 instead of 3")
    bench.now = NOON + timedelta(hours=17)
    assert bench.codes() == ["health-wrong-output"]
    assert bench.running() == "1.0.0"
    assert bench.codes() == ["tombstoned"]


def test_a_waiting_model_survives_restarts_and_garbage_collection(bench: Bench) -> None:
    release(bench, TWO, windows=MORNINGS)
    bench.once()
    for _ in range(3):
        assert bench.codes(force=True) == ["waits-for-window"]
    assert bench.store.intact(TWO.digest)


def test_the_latest_wins_over_what_waits(bench: Bench) -> None:
    release(bench, TWO, windows=MORNINGS)
    bench.once()
    release(bench, THREE, windows=MORNINGS)
    assert bench.codes() == ["waits-for-window"]
    waiting = bench.ledger.record.model(MODEL).waiting
    assert waiting is not None
    assert waiting.version == "3.0.0"
    assert not bench.store.intact(TWO.digest), "nobody waits for it any more"
    bench.now = NOON + timedelta(hours=17)
    assert bench.codes() == ["installed"]
    assert bench.doctor.seen == ["1.0.0", "3.0.0"]


def _unassign(bench: Bench) -> None:
    bench.assign([])


def _back_to_the_first(bench: Bench) -> None:
    bench.publish(ONE)


def _refuse(bench: Bench) -> None:
    bench.trust.targets.pop((MODEL, PI, TWO.digest))
    bench.assign(bench.trust.assignment["groups"])


@pytest.mark.parametrize("withdraw", [_unassign, _back_to_the_first, _refuse])
def test_what_is_withdrawn_waits_no_longer(bench: Bench, withdraw: Callable[[Bench], None]) -> None:
    release(bench, TWO, windows=MORNINGS)
    bench.once()
    withdraw(bench)
    bench.once()
    assert bench.ledger.record.model(MODEL).waiting is None
    bench.now = NOON + timedelta(hours=17)
    bench.once()
    assert bench.running() == "1.0.0"
    assert "2.0.0" not in bench.doctor.seen


def test_a_waiting_model_whose_files_went_missing_is_fetched_again(bench: Bench) -> None:
    release(bench, TWO, windows=MORNINGS)
    bench.once()
    bench.store.discard(TWO.digest)
    bench.now = NOON + timedelta(hours=17)
    assert bench.codes() == ["installed"]
    assert bench.running() == "2.0.0"


def test_now_waits_for_nothing(bench: Bench) -> None:
    tell_metered(bench.state, Disk(), True)
    release(bench, TWO, windows={**NIGHTS, **MORNINGS})
    assert bench.codes() == ["waits-for-window"]
    assert [o.code for o in bench.update().run(at_once=True).outcomes] == ["installed"]
    release(bench, THREE, windows=MORNINGS, metered="allow")
    assert bench.codes() == ["waits-for-window"]
    assert [o.code for o in bench.update().run(at_once=True).outcomes] == ["installed"]


def test_now_is_a_word_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["once", "--help"])
    assert "--now" in capsys.readouterr().out


def test_a_refused_release_is_refused_inside_the_window_as_outside(bench: Bench) -> None:
    bench.trust.untrusted[TWO.digest] = "unsigned"
    release(bench, TWO, windows=MORNINGS)
    assert bench.codes() == ["unsigned"]
    bench.trust.refusal = TrustError("expired-metadata", "old")
    bench.now = NOON + timedelta(hours=17)
    bench.once()
    assert bench.running() == "1.0.0"


def test_the_devices_own_windows_replace_the_signed_ones_kind_by_kind(bench: Bench) -> None:
    signed = Record(policy={"windows": {**NIGHTS, **MORNINGS}})
    assert link_wait(bench.config, signed, NOON) is not None
    bench.document["network"] = {"windows": {"timeZone": "utc", "download": ["11:00-13:00"]}}
    assert link_wait(bench.config, signed, NOON) is None
    assert link_wait(bench.config, signed, NIGHT) is not None
    release(bench, TWO, windows={**NIGHTS, **MORNINGS})
    assert bench.codes() == ["waits-for-window"]
    assert bench.ledger.record.model(MODEL).waiting is not None, "loaded; the signed activation window counts"


def test_a_clock_below_the_signed_floor_is_not_what_windows_go_by(bench: Bench) -> None:
    up = uptime()
    floor = dataclasses.replace(
        Record(policy={"windows": NIGHTS}),
        clock_floor=to_text(NIGHT),
        clock_since=Uptime(up.boot, up.seconds),
    )
    assert link_wait(bench.config, floor, NOON - timedelta(days=4000)) is None


def test_status_says_what_waits_and_until_when(bench: Bench) -> None:
    release(bench, TWO, windows=MORNINGS)
    bench.once()
    told = status(bench)
    assert told["state"] == "ok"
    assert told["models"][MODEL]["state"] == "waiting"
    assert told["models"][MODEL]["version"] == "1.0.0"
    assert told["models"][MODEL]["waiting"] == {
        "version": "2.0.0",
        "stored": True,
        "code": "waits-for-window",
        "until": "2030-01-08T05:00:00Z",
    }
    assert "2030-01-08T05:00:00Z" in gather(bench.config, bench.ledger, bench.store, bench.now).text()


def test_the_time_told_is_the_next_opening_not_the_first(bench: Bench) -> None:
    release(bench, TWO, windows=NIGHTS)
    bench.once()
    bench.now += timedelta(days=2)
    bench.once(force=True)
    last = bench.ledger.record.model(MODEL).last
    assert last is not None
    assert "2030-01-09T22:00:00Z" in last.message
    assert last.at == to_text(NOON)


# --- the metered link -----------------------------------------------------------------------------------------------


def test_over_a_metered_link_the_fleet_is_asked_but_no_model_is_loaded(bench: Bench) -> None:
    tell_metered(bench.state, Disk(), True)
    release(bench, TWO)
    report = bench.once()
    assert [(o.code, o.exit_code) for o in report.outcomes] == [("waits-for-link", 0)]
    assert "edgewright-agent metered off" in report.outcomes[0].message
    assert bench.once().poll.code == "not-modified"
    assert next_window_s(bench.config, bench.ledger.record, bench.now) is None
    tell_metered(bench.state, Disk(), False)
    assert bench.codes() == ["installed"]


def test_where_the_configuration_says_metered_no_command_is_recommended_that_changes_nothing(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.document["network"] = {"metered": "yes"}
    release(bench, TWO)
    (outcome,) = bench.once().outcomes
    assert "`network.metered`" in outcome.message
    assert "metered off" not in outcome.message
    (bench.folder / "agent.json").write_text(json.dumps(bench.document))
    assert main(["metered", "--config", str(bench.folder / "agent.json")]) == 0
    assert "network.metered in the configuration says so" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("policy", "own", "told", "loads"),
    [
        ({}, None, None, True),
        ({}, None, True, False),
        ({}, "yes", None, False),
        ({}, "no", True, True),
        ({"metered": "allow"}, None, True, True),
        ({"metered": "defer"}, None, True, False),
        ({"metered": "metadata", "meteredLink": True}, None, None, False),
        ({"metered": "metadata", "meteredLink": True}, None, False, True),
        ({"metered": "metadata", "meteredLink": True}, "no", None, True),
        ({"metered": "allow", "meteredLink": True}, None, None, True),
    ],
)
def test_who_says_what_about_the_link(
    bench: Bench, policy: dict[str, Any], own: str | None, told: bool | None, loads: bool
) -> None:
    if own:
        bench.document["network"] = {"metered": own}
    tell_metered(bench.state, Disk(), told)
    release(bench, TWO, **policy)
    assert bench.codes() == ["installed" if loads else "waits-for-link"]


def test_defer_asks_rarely_while_the_link_is_metered(bench: Bench) -> None:
    record = Record(policy={"metered": "defer", "poll": {"intervalS": 900.0}})
    assert polling(bench.config, record).interval_s == 900
    tell_metered(bench.state, Disk(), True)
    assert polling(bench.config, record).interval_s == 8 * 900
    slow = Record(policy={"metered": "defer", "poll": {"intervalS": 80_000.0}})
    assert polling(bench.config, slow).interval_s == 86_400


def test_what_was_said_of_the_link_survives_and_damage_to_it_is_no_word(tmp_path: Path) -> None:
    assert told_metered(tmp_path) is None
    for said in (True, False):
        tell_metered(tmp_path, Disk(), said)
        assert told_metered(tmp_path) is said
    for damage in (
        b"",
        b"{",
        b"\x00" * 64,
        b'{"metered":1}',
        b"[" * 200,
        b'{"metered":true}' + b" " * 300 + b"x",
    ):
        (tmp_path / "link.json").write_bytes(damage)
        assert told_metered(tmp_path) in (None, True)
    tell_metered(tmp_path, Disk(), None)
    assert told_metered(tmp_path) is None
    assert not (tmp_path / "link.json").exists()


def test_the_verb_says_it_and_shows_it(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    config = bench.folder / "agent.json"
    config.write_text(json.dumps(bench.document))

    def metered(*words: str) -> str:
        assert main(["metered", *words, "--config", str(config)]) == 0
        return capsys.readouterr().out

    assert metered().startswith("not metered")
    assert "next: edgewright-agent metered off" in metered("on")
    assert json.loads(metered("--json")) == {"metered": True, "policy": "metadata"}
    assert metered("auto").startswith("not metered")
    config.write_text(json.dumps({**bench.document, "network": {"metered": "yes"}}))
    assert main(["metered", "off", "--config", str(config)]) == 1
    assert "network.metered is 'yes'" in capsys.readouterr().err


def test_a_stick_is_no_link(tmp_path: Path) -> None:
    bench = Bench(tmp_path)  # its source is oci:
    bench.now = NOON
    tell_metered(bench.state, Disk(), True)
    bench.publish(ONE)
    release(bench, ONE, windows=NIGHTS)
    assert bench.codes() == ["installed"]


# --- the configuration ----------------------------------------------------------------------------------------------


def test_the_lower_cap_counts(bench: Bench) -> None:
    signed = Record(policy={"bandwidthBitsPerS": 2_000_000})
    assert bandwidth_bits_per_s(bench.config, Record()) is None
    assert bandwidth_bits_per_s(bench.config, signed) == 2_000_000
    for own, counts in ((1_000_000, 1_000_000), (9_000_000, 2_000_000)):
        bench.document["network"] = {"bandwidthBitsPerS": own}
        assert bandwidth_bits_per_s(bench.config, signed) == counts


def test_a_wrong_network_section_is_told_whole(bench: Bench) -> None:
    bench.document["network"] = {
        "metered": "maybe",
        "bandwidthBitsPerS": 10,
        "windows": {"download": ["25:00-26:00", "08:00-08:00"], "timeZone": "Mars", "upload": []},
        "colour": "red",
    }
    with pytest.raises(ConfigError) as refused:
        parse(bench.document, base=bench.folder)
    for what in (
        "network.metered must be one of yes, no, ask",
        "network.bandwidthBitsPerS must be a number from 1000",
        "network.windows.download are wrong: '25:00-26:00'",
        "network.windows.download are wrong: '08:00-08:00' is empty",
        "network.windows.timeZone must be one of local, utc",
        "network.windows.upload is unknown",
        "network.colour is unknown",
    ):
        assert what in str(refused.value)
