"""One step asked for by itself, as somebody does in the Dagster UI: it may not do more than a whole run would."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from edgewright.assets.factory import bring
from edgewright.errors import EdgewrightError, EnvironmentFault
from edgewright.plan.cache import Cache
from edgewright.plan.lane import StepId
from edgewright.plan.resolve import resolve
from edgewright.publish import push, version
from edgewright.spec.load import load_fleet
from unit.plan.filled import fill

PI = "raspberry-pi-4"
INDEX = StepId("index", "digit-reader")
PUBLISHED = StepId("published", "digit-reader", PI)


@pytest.fixture
def fleet(workspace: Path) -> Path:
    keys = workspace / ".edgewright" / "keys"
    keys.mkdir(parents=True)
    (keys / "signing.pub").write_text("public key")
    return workspace


def filled(fleet: Path, failing: frozenset[str] = frozenset()) -> Cache:
    cache = Cache(fleet / "cache")
    fill(load_fleet(fleet), cache, fleet / "scratch", failing)
    return cache


def forget(fleet: Path, cache: Cache, *steps: StepId) -> None:
    records = resolve(load_fleet(fleet), cache).records
    for step in steps:
        cache.forget(records[step].key)


def test_an_index_waits_for_every_lane_that_is_still_to_be_published(fleet: Path) -> None:
    cache = filled(fleet)
    forget(fleet, cache, PUBLISHED, INDEX)
    with pytest.raises(EdgewrightError, match=f"{PUBLISHED} has not been built"):
        bring(load_fleet(fleet), cache, INDEX, print)


def test_an_index_leaves_out_a_lane_that_its_gate_blocks(
    fleet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = filled(fleet, frozenset({PI}))
    forget(fleet, cache, INDEX)
    asked: list[list[str]] = []

    def stop(job: version.Job) -> None:
        asked.append(version.passed_classes(job))
        raise EdgewrightError("seen enough")

    monkeypatch.setattr(version, "run", stop)
    with pytest.raises(EdgewrightError, match="seen enough"):
        bring(load_fleet(fleet), cache, INDEX, print)
    others = [name for name in load_fleet(fleet).classes_of("digit-reader") if name != PI]
    assert asked == [others]


def test_a_full_disk_inside_a_stage_is_one_sentence_and_leaves_no_scratch(
    fleet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = filled(fleet)
    forget(fleet, cache, PUBLISHED)

    def full(job: push.Job) -> None:
        (job.out / "half").write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device", "/somewhere/model.onnx")

    monkeypatch.setattr(push, "run", full)
    with pytest.raises(
        EnvironmentFault, match=rf"{PUBLISHED} stopped: No space left .*/somewhere/model\.onnx"
    ):
        bring(load_fleet(fleet), cache, PUBLISHED, print)
    assert list((cache.folder / "scratch").iterdir()) == []
    assert PUBLISHED not in resolve(load_fleet(fleet), cache).records
