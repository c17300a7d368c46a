"""Power cuts on a disk that promises nothing but what was synced: at every operation of every story."""

from __future__ import annotations

import json

import pytest

from crash.invariants import BROKEN, LOST
from crash.model_check import explore
from crash.stories import STORIES, named, share
from crash.story import Story
from crash.summary import PROPERTY

STATES = 10_400  # in all; `python -m crash --states N` looks at more


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
