"""Attacks with stolen keys: what each of them, alone or together, does not let anybody install."""

from __future__ import annotations

from collections.abc import Iterator

from attacks.fleet import CART, MODEL, PI
from attacks.forgery import ALL_BUT_ROOT, ONLINE, Forgery
from attacks.scene import Scene
from attacks.table import attack
from unit.publish.lane import LaneFiles


def _choose(forgery: Forgery, malware: LaneFiles) -> None:
    forgery.choose(
        MODEL, PI, digest=malware.digest, size=len(malware.manifest), version=malware.model_version
    )


def _sign_all(scene: Scene, *stolen: str) -> None:
    """Approve and assign the attacker's own model, and sign as far as the stolen keys go."""
    malware = scene.malware()
    forgery = scene.forgery(*stolen)
    forgery.approve(MODEL, PI, malware.manifest)
    _choose(forgery, malware)
    forgery.publish(scene.tuf, "snapshot", "timestamp")


@attack("stolen timestamp key", has="the timestamp key", refused="bad-signature", honest=3)
def stolen_timestamp(scene: Scene) -> Iterator[None]:
    _sign_all(scene, "timestamp")
    yield


@attack("stolen snapshot key", has="the snapshot key", refused="bad-signature", honest=3)
def stolen_snapshot(scene: Scene) -> Iterator[None]:
    _sign_all(scene, "snapshot")
    yield


@attack("stolen snapshot and timestamp keys", has="both", refused="bad-signature", honest=3)
def stolen_snapshot_and_timestamp(scene: Scene) -> Iterator[None]:
    _sign_all(scene, "snapshot", "timestamp")
    yield


@attack("stolen rollout key", has="the rollout key", refused="bad-signature", honest=3)
def stolen_rollout(scene: Scene) -> Iterator[None]:
    _sign_all(scene, "rollout")
    yield


@attack(
    "stolen online keys: rollout chooses what targets never approved",
    has="the rollout, snapshot and timestamp keys",
    refused="not-a-target",
    honest=3,
    floor_kept=False,
)
def stolen_online_keys(scene: Scene) -> Iterator[None]:
    forgery = scene.forgery(*ONLINE)
    _choose(forgery, scene.malware())
    forgery.publish(scene.tuf, "snapshot", "timestamp")
    yield


@attack(
    "stolen online keys: rollout is given artifacts of its own",
    has="the rollout, snapshot and timestamp keys",
    refused="not-a-target",
    honest=3,
    floor_kept=False,
)
def rollout_approves_itself(scene: Scene) -> Iterator[None]:
    malware, forgery = scene.malware(), scene.forgery(*ONLINE)
    honest = scene.forgery("targets")
    honest.approve(MODEL, PI, malware.manifest)
    path, target = next(
        (path, target)
        for metadata in honest.roles.values()
        for path, target in getattr(metadata.signed, "targets", {}).items()
        if path.endswith(malware.digest.removeprefix("sha256:"))
    )
    forgery.change("rollout").targets[path] = target
    _choose(forgery, malware)
    forgery.publish(scene.tuf, "snapshot", "timestamp")
    yield


@attack("stolen targets key", has="the keys that approve artifacts", refused="bad-signature", honest=3)
def stolen_targets(scene: Scene) -> Iterator[None]:
    _sign_all(scene, "targets", "artifacts")
    yield


@attack(
    "wrong key: every TUF key but root, an artifact signed by the attacker",
    has="every TUF key but root's; not the key that signs artifacts",
    refused="bad-signature",
    honest=3,
    floor_kept=False,
)
def every_key_but_the_signing_key(scene: Scene) -> Iterator[None]:
    _sign_all(scene, *ALL_BUT_ROOT)
    yield


@attack(
    "arbitrary software: every TUF key but root, an unsigned artifact",
    has="every TUF key but root's; not the key that signs artifacts",
    refused="unsigned",
    honest=3,
    floor_kept=False,
)
def an_unsigned_artifact(scene: Scene) -> Iterator[None]:
    _sign_all(scene, *ALL_BUT_ROOT)
    malware = next((scene.folder / "workshop").rglob("manifest.json")).read_bytes()
    from edgewright_agent.contract import digest_of

    scene.list_referrers(digest_of(malware))
    yield


@attack(
    "wrong hardware class: approved for this class, made for another",
    has="every TUF key but root's",
    refused="wrong-class",
    honest=3,
    floor_kept=False,
)
def approved_for_the_wrong_class(scene: Scene) -> Iterator[None]:
    forgery = scene.forgery(*ALL_BUT_ROOT)
    theirs = forgery.assignment["groups"][-1]["models"][MODEL]["artifacts"][CART]
    body = scene.repository.get_manifest(theirs["digest"])
    assert body is not None
    forgery.approve(MODEL, PI, body)
    forgery.choose(MODEL, PI, digest=theirs["digest"], size=theirs["size"], version=theirs["modelVersion"])
    forgery.publish(scene.tuf, "snapshot", "timestamp")
    yield
