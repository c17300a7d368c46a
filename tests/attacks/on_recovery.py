"""Fast-forward: a thief makes devices believe versions, or a time, that honest signing would never reach.

What the thief signs is accepted, as it is signed by the keys that count. What is refused is the owner's own next
metadata; after `edgewright trust rotate` and `edgewright trust refresh --recover` devices follow again (TUF 5.3.11).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from attacks.forgery import ABOVE, ALL_BUT_ROOT, FAR, ONLINE, PI_ROLE, Forgery
from attacks.scene import Scene
from attacks.table import attack
from edgewright.errors import TrustError
from edgewright.trust.publication import refresh
from edgewright.trust.repository import MetadataFolder
from edgewright.trust.rotation import rotate
from edgewright_agent.clock import from_text, to_text
from edgewright_agent.contract import ISSUED_FIELD, TUF_REPOSITORY


def recover(scene: Scene, *roles: str) -> None:
    """Let the owner take keys away from a thief who has published with them, and publish again."""
    owner = scene.owner()
    rotate(owner.workspace, list(roles), now=owner.now)
    with pytest.raises(TrustError, match="somebody released from another copy"):
        refresh(owner.workspace, now=owner.now)  # never by accident
    refresh(owner.workspace, now=owner.now, recover=True)
    scene.keep()


def _believed(scene: Scene) -> None:
    """Let the device take what the thief has signed; then show it the owner's own metadata, one version on."""
    owner = scene.owner()
    thief = scene.poll()
    assert thief.exit_code == 0, thief.text
    scene.remember_floor()
    scene.take_back()
    scene.tamper(TUF_REPOSITORY)
    refresh(owner.workspace, now=owner.now)


def _fast_forward(scene: Scene, *, role: str, keys: tuple[str, ...]) -> Iterator[None]:
    scene.owner()
    scene.keep()
    forgery = scene.forgery(*keys)
    for name in (role, *ABOVE[role]):
        forgery.change(name).version = FAR
    forgery.publish(scene.tuf)
    _believed(scene)
    floor = scene.device.record.floor
    assert all(floor[name] == FAR for name in (role, *ABOVE[role]))
    yield
    # The registry shows what the thief left again: that is what the owner has to publish over.
    forgery.publish(scene.tuf, *forgery.last)
    recover(scene, *keys)


for _role, _keys in (
    ("timestamp", ("timestamp",)),
    ("snapshot", ("snapshot", "timestamp")),
    ("rollout", ("rollout", "snapshot", "timestamp")),
    (PI_ROLE, ("artifacts", "snapshot", "timestamp")),
    ("targets", ("targets", "snapshot", "timestamp")),
):
    attack(
        f"fast-forward of {_role}: the owner is refused, until the keys are replaced",
        has=" and ".join((", ".join(_keys[:-1]), _keys[-1])) + " keys" if _keys[1:] else "the timestamp key",
        refused="metadata-rollback",
    )(functools.partial(_fast_forward, role=_role, keys=_keys))


def _signed_later(forgery: Forgery, by: timedelta) -> None:
    timestamp = forgery.change("timestamp")
    moment = datetime.now(UTC).replace(microsecond=0) + by
    timestamp.expires = moment + timedelta(days=3650)
    timestamp.unrecognized_fields[ISSUED_FIELD] = to_text(moment)


@attack(
    "fast-forward of the clock: signed ten years from now",
    has="the timestamp key",
    refused="expired-metadata",
)
def far_future(scene: Scene) -> Iterator[None]:
    """Everything else has expired by then: nothing is believed, and nothing is kept."""
    forgery = scene.forgery("timestamp")
    _signed_later(forgery, timedelta(days=3650))
    forgery.publish(scene.tuf)
    yield
    scene.owner()
    recover(scene, "timestamp")


@attack(
    "fast-forward of the clock: the owner is refused, until the key is replaced",
    has="the timestamp key",
    refused="expired-metadata",
)
def near_future(scene: Scene) -> Iterator[None]:
    """As late as the snapshot lives, which is later than the owner's next timestamp does."""
    scene.owner()
    scene.keep()
    forgery = scene.forgery("timestamp")
    _signed_later(forgery, timedelta(days=12))
    forgery.publish(scene.tuf)
    thief = scene.poll()
    assert thief.exit_code == 0, thief.text
    scene.remember_floor()
    before = scene.device.record.clock_floor
    scene.take_back()
    owner = scene.owner()
    for _ in range(2):
        refresh(owner.workspace, now=owner.now)
    yield
    after = scene.device.record.clock_floor
    assert before and after  # it goes on with the device's own time, and with nothing else
    assert timedelta(0) <= from_text(after) - from_text(before) < timedelta(minutes=10)
    forgery.publish(scene.tuf, "timestamp")
    recover(scene, "timestamp")


@attack(
    "fast-forward past what versions may be",
    has="every TUF key but root's",
    refused="bad-metadata",
)
def beyond_numbers(scene: Scene) -> Iterator[None]:
    forgery = scene.forgery(*ALL_BUT_ROOT)
    for role in (*ONLINE, PI_ROLE):
        forgery.change(role).version = 2**60
    forgery.publish(scene.tuf)
    yield
    assert MetadataFolder(scene.owner().metadata).read() is not None
    recover(scene, "timestamp", "snapshot", "rollout", "artifacts")
