"""Every attack of the table against a device that runs a model: refused, for the reason given, and nothing stops.

After the attack the registry is honest again, and the device must install what is then released: no attack may leave a
device that has to be visited, unless the attack's own definition says how it is brought back.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attacks.device import Device
from attacks.fleet import MODEL, Fleet
from attacks.scene import Scene, played
from attacks.summary import PROPERTY
from attacks.table import Attack, load


@pytest.mark.parametrize("attack", load(), ids=str)
def test_the_device_refuses(
    attack: Attack,
    fleet: Fleet,
    devices: dict[int, Device],
    scene_of: list[Scene],
    tmp_path: Path,
    record_property: pytest.RecordProperty,
) -> None:
    scene = Scene(fleet, devices[attack.seen].copy(tmp_path / "device"), tmp_path)
    scene_of.append(scene)
    scene.serve(attack.seen)
    device = scene.device
    golden, before, slots = device.answer(), device.installed(), device.slots()
    scene.remember_floor()
    assert golden is not None
    assert golden["digest"] == fleet.releases[attack.seen].digest

    with played(attack.play(scene)):
        told = scene.poll(as_a_process=attack.process)
        interrupted = device.answer() != golden
        verdict = {"exit": told.exit_code, "codes": told.codes, "interrupted": interrupted}
        record_property(PROPERTY, json.dumps({"name": attack.name, "has": attack.has, **verdict}))

        assert not interrupted, "the active model no longer answers as before"
        assert told.exit_code == attack.exit_code, told.text
        if attack.code:
            assert attack.code in told.codes, told.text
        assert "Traceback" not in told.text
        assert device.installed() == before, "something was installed"
        if not device.record.quarantined:
            assert device.slots() == slots, "the record points at something else"
            assert attack.floor_kept <= (dict(device.record.floor) == scene.floor), "the floor has moved"

    scene.serve_honestly(attack.honest)
    told = scene.poll()
    assert told.exit_code == 0, f"the honest release is refused after the attack: {told.text}"
    active = device.record.model(MODEL).active
    assert active is not None and active.digest == fleet.releases[attack.honest].digest
    answer = device.answer()
    assert answer is not None and answer["digest"] == active.digest
