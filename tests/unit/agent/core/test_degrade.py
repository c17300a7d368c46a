"""The ladder: every step is entered at once, left with hysteresis, reported with its code, and written down."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright_agent import degrade
from edgewright_agent.degrade import Look, Reserve, from_beats, observe, stand
from edgewright_agent.files import Free
from edgewright_agent.ladder import LADDER, LOOKS, RUNGS, SPARE_INODES, step, table
from edgewright_agent.model_state import ModelState, Rung
from real import ROOT

MIB = 2**20
AT, LATER = "2030-01-01T00:00:00Z", "2030-01-02T00:00:00Z"
ROOMY = Free(2048 * MIB, 90_000)
RESERVE = Reserve(64 * MIB, 64)
GOOD = Look(verified=True, fresh_s=86_400.0, free=ROOMY, reserve=RESERVE, margin_s=900)


def after(*looks: Look, rungs: dict[str, Rung] | None = None) -> list[str]:
    """The device's rungs after looks in a row."""
    rungs = dict(rungs or {})
    for seen in looks:
        rungs = observe(rungs, seen, AT)
    return list(rungs)


def test_the_readme_shows_the_ladder_as_the_code_has_it() -> None:
    assert table() in (ROOT / "agent/README.md").read_text()


def test_every_step_has_a_code_of_its_own_and_says_how_it_ends() -> None:
    codes = [one.code for one in LADDER]
    assert len(set(codes)) == len(LADDER)
    assert all(one.entered and one.left and one.meanwhile for one in LADDER)
    assert RUNGS[0] == "normal"


def test_a_healthy_device_stands_on_no_step() -> None:
    assert after(GOOD) == []


def test_ended_metadata_is_stale_at_once_and_until_fresh_metadata_has_been_verified() -> None:
    ended = replace(GOOD, stale=("timestamp",), verified=False, fresh_s=-1.0)
    assert after(GOOD, ended) == ["stale"]
    assert after(ended, replace(GOOD, verified=False)) == ["stale"], "a clock set back is no news"
    assert after(ended, replace(GOOD, fresh_s=899.0)) == ["stale"], (
        "it would be stale again before the next poll"
    )
    assert after(ended, GOOD) == []


def test_a_step_keeps_the_time_and_the_reason_it_was_entered_with() -> None:
    ended = replace(GOOD, stale=("timestamp",), fresh_s=-1.0)
    first = observe({}, ended, AT)
    assert observe(first, replace(ended, stale=("root", "timestamp")), LATER) == first
    assert first["stale"] == Rung("stale", "expired-metadata", AT, "timestamp ended")


@pytest.mark.parametrize(
    ("free", "reason"),
    [
        (Free(64 * MIB - 1, 90_000), f"{64 * MIB - 1} bytes are free, the reserve is {64 * MIB}"),
        (Free(2048 * MIB, 63), "63 inodes are free, the reserve is 64"),
    ],
)
def test_a_disk_below_its_reserve_of_bytes_or_inodes_is_short(free: Free, reason: str) -> None:
    found = observe({}, replace(GOOD, free=free), AT)
    assert (found["no-space"].code, found["no-space"].reason) == ("no-space", reason)


def test_a_write_that_found_no_room_counts_whatever_the_disk_says_of_itself() -> None:
    assert after(replace(GOOD, fault="cannot write x: Disk quota exceeded")) == ["no-space"]


def test_a_disk_is_short_until_two_looks_in_a_row_find_room_above_the_reserve() -> None:
    short = replace(GOOD, free=Free(0, 0))
    assert after(short, GOOD) == ["no-space"]
    assert after(short, GOOD, short, GOOD) == ["no-space"]
    assert after(short, GOOD, GOOD) == []
    barely = replace(GOOD, free=Free(64 * MIB + 16 * MIB - 1, 90_000))
    assert after(short, barely, barely, barely) == ["no-space"], "within the margin"
    assert after(short, GOOD, barely, GOOD) == ["no-space"], "in a row"
    few = replace(GOOD, free=Free(2048 * MIB, 64 + SPARE_INODES - 1))
    assert after(short, few, few) == ["no-space"]


def test_the_margin_above_a_large_reserve_is_a_tenth_of_it() -> None:
    large = Reserve(1000 * MIB, 0)
    short = replace(GOOD, free=Free(0, 0), reserve=large)
    assert after(short, *2 * [replace(GOOD, free=Free(1099 * MIB, 1000), reserve=large)]) == ["no-space"]
    assert after(short, *2 * [replace(GOOD, free=Free(1100 * MIB, 1000), reserve=large)]) == []


def test_a_disk_that_does_not_count_inodes_or_says_nothing_changes_nothing() -> None:
    assert after(replace(GOOD, free=Free(2048 * MIB, None))) == []
    assert after(replace(GOOD, free=None)) == []
    assert after(replace(GOOD, free=Free(0, 0)), *3 * [replace(GOOD, free=None)]) == ["no-space"]


@given(
    st.lists(
        st.builds(
            Look,
            stale=st.sampled_from([(), ("root",)]),
            verified=st.booleans(),
            fresh_s=st.sampled_from([None, -1.0, 100.0, 1e6]),
            free=st.sampled_from([None, Free(0, 0), Free(70 * MIB, 500), ROOMY]),
            reserve=st.just(RESERVE),
            fault=st.sampled_from(["", "full"]),
            margin_s=st.just(900.0),
        ),
        max_size=12,
    )
)
def test_no_history_keeps_a_device_down_once_it_looks_well_often_enough(history: list[Look]) -> None:
    assert after(*history, *LOOKS * [GOOD]) == []


def test_a_step_is_not_rewritten_at_every_look() -> None:
    short = replace(GOOD, free=Free(5, 90_000))
    first = observe({}, short, AT)
    assert observe(first, replace(short, free=Free(4, 90_000)), LATER) == first


def beat(rung: str, **more: Any) -> dict[str, Any]:
    return {"event": "beat", "rung": rung, "code": "", "providers": ["CPUExecutionProvider"], **more}


def rung_after(state: ModelState, *rounds: list[dict[str, Any]]) -> str:
    for beats in rounds:
        state = from_beats(state, beats, AT)
    return state.rung.name if state.rung else "normal"


@pytest.mark.parametrize("rung", [one.rung for one in LADDER if one.about == "model"])
def test_a_model_goes_down_with_the_first_session_that_does_and_up_when_all_have_twice(rung: str) -> None:
    down = from_beats(ModelState(), [beat("normal"), beat(rung, code="inference-failed")], AT)
    assert down.rung == Rung(rung, step(rung).code, AT, "session: inference-failed on CPUExecutionProvider")
    assert rung_after(down, [beat("normal")]) == rung
    assert rung_after(down, [beat("normal")], [beat("normal")]) == "normal"
    assert rung_after(down, [beat("normal")], [beat(rung)], [beat("normal")]) == rung
    assert rung_after(down, [beat("normal")], [beat("normal"), beat(rung)]) == rung


def test_a_model_comes_up_no_further_than_its_sessions_stand() -> None:
    down = from_beats(ModelState(), [beat("safe-output")], AT)
    assert rung_after(down, *2 * [[beat("cpu-model")]]) == "cpu-model"
    assert rung_after(down, *2 * [[beat("cpu-model")]], *2 * [[beat("normal")]]) == "normal"


def test_sessions_that_end_or_say_nonsense_change_nothing() -> None:
    down = from_beats(ModelState(), [beat("previous")], AT)
    for told in ([], [beat("normal", event="close")], [beat("stale")], [beat("?")], [{"rung": ["x"]}], [{}]):
        assert from_beats(from_beats(down, told, AT), told, AT) == down


def test_no_session_ends_what_the_agent_itself_has_put_in_place_of_a_damaged_model() -> None:
    mended = stand(ModelState(), "factory", "2.0.0 is damaged on disk", AT)
    assert rung_after(mended, *3 * [[beat("normal")]]) == "factory"
    assert rung_after(mended, [beat("safe-output")]) == "safe-output"
    assert degrade.settled(mended).rung is None


def test_a_trial_on_another_provider_than_the_first_is_told_and_a_session_on_the_first_ends_it() -> None:
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    down = degrade.proved(ModelState(), wanted, wanted[1:], AT)
    assert down.rung == Rung(
        "next-provider", "provider-down", AT, "CUDAExecutionProvider did not start, CPUExecutionProvider did"
    )
    assert degrade.proved(down, wanted, wanted, AT).rung is None
    assert rung_after(down, *2 * [[beat("normal")]]) == "normal"


def test_looking_never_fails(tmp_path: Path) -> None:
    from unit.agent.core.workbench import NOW, Bench

    bench = Bench(tmp_path)
    seen = degrade.look(bench.config, bench.ledger.record, bench.store.disk, NOW)
    assert seen.free and not seen.short
    bench.document["reserveBytes"] = 1 << 60
    assert degrade.look(bench.config, bench.ledger.record, bench.store.disk, NOW).short
