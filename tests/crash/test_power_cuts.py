"""Power cuts on a disk that promises nothing but what was synced: at every operation of every story."""

from __future__ import annotations

import json

import pytest

from crash.invariants import BROKEN, LOST
from crash.model_check import explore
from crash.stories import STORIES, named, share
from crash.story import Story
from crash.summary import PROPERTY
from edgewright_agent.model_state import ModelState, Pin, Slot, Trial
from edgewright_agent.record import Record
from unit.agent.core.workbench import MODEL

STATES = 10_000  # in all; `python -m crash --states N` looks at more


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_no_power_cut_breaks_a_model_or_loses_what_was_acknowledged_or_needs_a_person(
    story: Story, record_property: pytest.RecordProperty
) -> None:
    states = share(story, STATES)
    explored = explore(story, states=states)
    record_property(PROPERTY, json.dumps({"what": "states", "points": explored.states, **explored.count}))
    assert not explored.faults, "\n".join(explored.faults)
    assert explored.states > 0.8 * states, "or the story has become too short to say anything"


@pytest.mark.parametrize("forgotten", ["sync", "sync_dir"])
@pytest.mark.parametrize("name", ["update", "root rotation"])
def test_an_agent_that_did_not_sync_would_be_found_out(name: str, forgotten: str) -> None:
    explored = explore(named(name), states=120, careless=[forgotten])
    assert explored.count[BROKEN] and explored.count[LOST]
    assert explored.faults[0].startswith(f"{name}, after operation ")


@pytest.mark.parametrize(
    ("name", "forgotten", "words"),
    [
        ("spool", "sync", "was durable and is lost"),
        ("acknowledge", "sync_dir", "was acknowledged is lost"),
        ("metered", "sync_dir", "was said of the link"),
    ],
)
def test_what_is_in_no_record_would_be_missed_too(name: str, forgotten: str, words: str) -> None:
    found = explore(named(name), states=80, careless=[forgotten], keep=1000)
    assert any("lost: " in fault and words in fault for fault in found.faults)


SLOT = Slot("sha256:" + "2" * 64, "2.0.0", "2030-01-01T00:00:00Z")
TRIAL = Trial(SLOT.digest, "2.0.0", 3, SLOT.since, 5)


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("waiting", ModelState(waiting=TRIAL)),
        ("factory", ModelState(factory=SLOT)),
        ("pin", ModelState(active=SLOT, pin=Pin(SLOT.digest, "2.0.0", SLOT.since))),
    ],
)
def test_what_a_record_has_forgotten_is_told(name: str, state: ModelState) -> None:
    before = Record().with_model(MODEL, state)
    assert named(name).forgotten(before, Record().with_model(MODEL, ModelState(active=None)))
    assert not named(name).forgotten(before, before)
