"""Attacks with stolen keys: what each of them, alone or together, does not let anybody install."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from attacks.fleet import CART, MODEL, PI
from attacks.forgery import ABOVE, ALL_BUT_ROOT, ONLINE, PI_ROLE, Forgery
from attacks.scene import Scene
from attacks.table import attack
from edgewright.trust.keys import create_key
from edgewright.trust.publication import refresh
from edgewright.trust.rotation import rotate
from edgewright_agent.contract import POLICY_TARGET, canonical_json, class_role, digest_of
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


@attack("stolen artifacts key", has="the key that approves artifacts", refused="bad-signature", honest=3)
def stolen_artifacts(scene: Scene) -> Iterator[None]:
    _sign_all(scene, "artifacts")
    yield


@attack(
    "stolen targets key: a policy and delegations of the attacker's own",
    has="the targets key",
    refused="bad-signature",
    honest=3,
)
def stolen_targets_alone(scene: Scene) -> Iterator[None]:
    forgery = scene.forgery("targets")
    _believe_anybody(scene, forgery)
    forgery.publish(scene.tuf, "snapshot", "timestamp")
    yield


@attack(
    "stolen targets and online keys: a policy that believes the attacker",
    has="every TUF key but root's; the device pins the fleet's signers",
    refused="unsigned",
    floor_kept=False,
)
def own_policy(scene: Scene) -> Iterator[None]:
    """What a device pins holds beside any policy; the owner gives `targets` another key and goes on."""
    malware = scene.malware()
    forgery = scene.forgery(*ALL_BUT_ROOT)
    _believe_anybody(scene, forgery)
    forgery.approve(MODEL, PI, malware.manifest)
    _choose(forgery, malware)
    forgery.publish(scene.tuf, "snapshot", "timestamp")
    yield
    _recover(scene, "targets", "artifacts", *ONLINE)


def _recover(scene: Scene, *roles: str) -> None:
    owner = scene.owner()
    rotate(owner.workspace, list(roles), now=owner.now)
    refresh(owner.workspace, now=owner.now, recover=True)
    scene.keep()


def _believe_anybody(scene: Scene, forgery: Forgery) -> None:
    key = scene.folder / "workshop/keys/signing.pub"
    own = key.read_text() if key.exists() else (scene.fleet.keys / "signing.pub").read_text()
    demands = [{"attestation": name, "signers": ["me"]} for name in ("signature", "gate-report")]
    policy = {"version": 1, "signers": {"me": {"publicKey": own}}, "demands": demands}
    forgery.document("targets", POLICY_TARGET, canonical_json(policy))


@attack(
    "a class's key approves for another class",
    has="the key of another hardware class, and the rollout, snapshot and timestamp keys",
    refused="not-a-target",
    floor_kept=False,
)
def another_class_key(scene: Scene) -> Iterator[None]:
    malware, forgery = scene.malware(), scene.forgery(*ONLINE, "cart")
    honest = scene.forgery("artifacts")
    honest.approve(MODEL, PI, malware.manifest)
    targets = honest.roles[PI_ROLE].signed.targets
    path = next(path for path in targets if path.endswith(malware.digest.removeprefix("sha256:")))
    forgery.change(class_role(CART)).targets[path] = targets[path]
    _choose(forgery, malware)
    forgery.publish(scene.tuf, "snapshot", "timestamp")
    yield
    owner = scene.owner()
    create_key(owner.keys, "cart-b", None)
    owner.trust["roles"]["classes"][CART] = {"keys": ("cart-b",)}  # as people change fleet.yaml
    _recover(scene, class_role(CART), *ONLINE)


@attack(
    "a class's key signs another class's role",
    has="the key of another hardware class, and the rollout, snapshot and timestamp keys",
    refused="bad-signature",
    honest=3,
)
def another_class_role(scene: Scene) -> Iterator[None]:
    malware, forgery = scene.malware(), scene.forgery(*ONLINE)
    forgery.stolen["cart"] = scene.forgery("cart").stolen["cart"]
    forgery.approve(MODEL, PI, malware.manifest)
    forgery.roles[PI_ROLE].signatures.clear()
    _choose(forgery, malware)
    forgery.publish(scene.tuf, "snapshot", "timestamp")
    yield


@attack(
    "rollback of the artifact with a compromised rollout key",
    has="the rollout, snapshot and timestamp keys",
    refused="artifact-rollback",
    seen=2,
    floor_kept=False,
)
def artifact_rollback(scene: Scene) -> Iterator[None]:
    _bring_back(scene, 1)
    yield
    _recover(scene, *ONLINE)


def _bring_back(scene: Scene, number: int) -> None:
    forgery = scene.forgery(*ONLINE)
    old = scene.fleet.releases[number].lanes[MODEL][PI]
    forgery.choose(MODEL, PI, digest=old.digest, size=old.size, version=old.model_version)
    forgery.publish(scene.tuf, "snapshot", "timestamp")


def _after_revocation(scene: Scene, *, roles: tuple[str, ...]) -> Iterator[None]:
    """The owner has given these roles other keys; the thief still has every key there was, and wants them to count."""
    owner = scene.owner()
    rotate(owner.workspace, list(roles), now=owner.now)
    refresh(owner.workspace, now=owner.now)
    scene.keep()
    told = scene.poll()
    assert told.exit_code == 0, told.text
    scene.remember_floor()
    malware, forgery = scene.malware(), scene.forgery(*ALL_BUT_ROOT)
    # What the thief can sign with keys that still count would be accepted: only the revoked role is forged.
    for role in (PI_ROLE if role == "artifacts" else role for role in roles):
        forgery.change(role)
    if "artifacts" in roles:
        forgery.approve(MODEL, PI, malware.manifest)
    if "rollout" in roles:
        _choose(forgery, malware)
    forgery.publish(scene.tuf, *(role for role in ABOVE[forgery.changed[0]] if role not in forgery.changed))
    yield


_EACH = [("timestamp",), ("snapshot",), ("rollout",), ("artifacts",), ("targets",)]
for _roles in [*_EACH, ("timestamp", "snapshot", "rollout", "artifacts", "targets")]:
    _name = f"{_roles[0]} key" if len(_roles) == 1 else "keys of every role but root"
    attack(
        f"stolen {_name}, after `edgewright trust rotate`",
        has="every TUF key but root's, as they were before",
        refused="bad-signature",
    )(functools.partial(_after_revocation, roles=_roles))


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
