"""Every attack of the table against a device that runs a model: refused, for the reason given, and nothing stops.

After the attack the registry is honest again, and the device must install what is then released: no attack may leave a
device that has to be visited, unless the attack's own definition says how it is brought back.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from attacks.device import Device
from attacks.fleet import GROUPS, MODEL, Fleet
from attacks.scene import Scene, played
from attacks.summary import PROPERTY
from attacks.table import Attack, load, markdown
from real import ROOT


@pytest.fixture
def scene_for(
    fleet: Fleet,
    devices: dict[int, Device],
    scene_of: list[Scene],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Callable[[int], Scene]:
    """Set a scene in which the device runs a release, and the registry has it."""

    def make(number: int) -> Scene:
        scene = Scene(fleet, devices[number].copy(tmp_path / "device"), tmp_path)
        scene.sigstore = lambda: request.getfixturevalue("private_sigstore")
        scene_of.append(scene)
        scene.serve(number)
        return scene

    return make


@pytest.mark.parametrize("attack", load(), ids=str)
def test_the_device_refuses(
    attack: Attack, scene_for: Callable[[int], Scene], record_property: pytest.RecordProperty
) -> None:
    scene = scene_for(attack.seen)
    device, releases = scene.device, scene.fleet.releases
    golden, before, slots = device.answer(), device.installed(), device.slots()
    scene.remember_floor()
    assert golden is not None
    assert golden["digest"] == releases[attack.seen].digest

    with played(attack.play(scene)):
        told = scene.poll(as_a_process=attack.process)
        answer = device.answer()
        good = {attack.seen, attack.installs} - {0}
        interrupted = answer is None or (
            answer != golden
            and not (attack.installs and answer["digest"] in {releases[number].digest for number in good})
        )
        codes = (scene.collected or "",) if attack.collector else told.codes
        verdict = {"exit": told.exit_code, "codes": codes, "interrupted": interrupted}
        record_property(PROPERTY, json.dumps({"name": attack.name, "has": attack.has, **verdict}))

        assert not interrupted, "the active model no longer answers as before"
        assert told.exit_code == attack.exit_code, told.text
        if attack.code:
            assert attack.code in codes, told.text
        assert "Traceback" not in told.text
        if attack.installs:
            assert answer is not None and answer["digest"] == releases[attack.installs].digest, told.text
        else:
            assert device.installed() == before, "something was installed"
            if not device.record.quarantined:
                assert device.slots() == slots, "the record points at something else"
                assert attack.floor_kept <= (dict(device.record.floor) == scene.floor), "the floor has moved"

    scene.serve_honestly(attack.honest)
    told = scene.poll()
    assert told.exit_code == 0, f"the honest release is refused after the attack: {told.text}"
    active = device.record.model(MODEL).active
    assert active is not None and active.digest == releases[attack.honest].digest, told.text
    after = device.answer()
    assert after is not None and after["digest"] == active.digest


def test_a_rollback_that_the_owner_means_is_followed(scene_for: Callable[[int], Scene]) -> None:
    """Or the attacks that bring back a withdrawn version would be refused for a reason that is none."""
    scene = scene_for(2)
    owner = scene.owner()
    pinned = [
        {**entry, "pin": "1.0.0"} if entry["model"] == MODEL else entry for entry in GROUPS[-1]["models"]
    ]
    owner.groups = (GROUPS[0], {**GROUPS[-1], "models": tuple(pinned)})
    owner.release()
    told = scene.poll()
    assert told.exit_code == 0, told.text
    answer = scene.device.answer()
    assert answer is not None and answer["digest"] == scene.fleet.releases[1].digest


def test_the_documented_table_is_the_one_that_is_played() -> None:
    documented = (ROOT / "docs" / "attacks.md").read_text()
    assert documented.endswith(markdown()), (
        "python -m attacks.table prints what docs/attacks.md must end with"
    )
    assert f"[{len(load())} attacks]" in (ROOT / "docs" / "security.md").read_text()
