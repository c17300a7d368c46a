"""Attacks on what the fleet's policy demands: something is missing, or was made by somebody who may not make it.

From release 2 on the policy demands signature, gate report and provenance of the release key, and a bill of materials,
which an auditor may make as well; the device pins both keys.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator

from attacks.attestations import AUDITING, attach, bundles_of, predicate_type, signed, statement_of
from attacks.fleet import CART, OTHER_MODEL
from attacks.scene import Scene
from attacks.table import attack
from edgewright_agent.contract import (
    ATTESTATIONS,
    PREDICATE_BOM,
    PREDICATE_GATE_REPORT,
    PREDICATE_PROVENANCE,
    PREDICATE_SIGN,
)

REGISTRY = "the registry: everything in it can be replaced, no key"
AUDITOR = "the registry, and the key of an auditor, who may make bills of materials only"


def _without(scene: Scene, *, kind: str) -> Iterator[None]:
    digest = scene.serve(2).digest
    attach(scene, digest, *(one for one in bundles_of(scene, digest) if predicate_type(one) != kind))
    yield


def _by_the_auditor(scene: Scene, *, kind: str) -> Iterator[None]:
    digest = scene.serve(2).digest
    bundles = {predicate_type(one): one for one in bundles_of(scene, digest)}
    said = statement_of(bundles[kind])["predicate"]
    attach(scene, digest, *({**bundles, kind: signed(scene, digest, kind, said, AUDITING)}.values()))
    yield


for _kind, _code in (
    (PREDICATE_SIGN, "unsigned"),
    (PREDICATE_GATE_REPORT, "no-gate-report"),
    (PREDICATE_PROVENANCE, "no-provenance"),
    (PREDICATE_BOM, "no-bom"),
):
    _name = next(name for name, kind in ATTESTATIONS.items() if kind == _kind)
    attack(f"policy: the {_name} withheld", has=REGISTRY, refused=_code, floor_kept=False)(
        functools.partial(_without, kind=_kind)
    )
    if _kind != PREDICATE_BOM:
        attack(
            f"policy: the {_name} by a signer who may not",
            has=AUDITOR,
            refused=_code,
            floor_kept=False,
        )(functools.partial(_by_the_auditor, kind=_kind))


@attack(
    "policy: the bill of materials of another model",
    has=AUDITOR,
    refused="wrong-model",
    floor_kept=False,
)
def another_bill(scene: Scene) -> Iterator[None]:
    digest = scene.serve(2).digest
    bundles = {predicate_type(one): one for one in bundles_of(scene, digest)}
    said = copy.deepcopy(statement_of(bundles[PREDICATE_BOM])["predicate"])
    for entry in said["metadata"]["component"]["properties"]:
        if entry["name"] == "edgewright:model":
            entry["value"] = OTHER_MODEL
    attach(
        scene,
        digest,
        *({**bundles, PREDICATE_BOM: signed(scene, digest, PREDICATE_BOM, said, AUDITING)}.values()),
    )
    yield


@attack(
    "policy: provenance of another class",
    has="the registry, and a signer who was talked into it",
    refused="wrong-class",
    floor_kept=False,
)
def another_provenance(scene: Scene) -> Iterator[None]:
    digest = scene.serve(2).digest
    bundles = {predicate_type(one): one for one in bundles_of(scene, digest)}
    said = copy.deepcopy(statement_of(bundles[PREDICATE_PROVENANCE])["predicate"])
    said["buildDefinition"]["externalParameters"]["hardwareClass"] = CART
    attach(
        scene,
        digest,
        *({**bundles, PREDICATE_PROVENANCE: signed(scene, digest, PREDICATE_PROVENANCE, said)}.values()),
    )
    yield


@attack(
    "policy: provenance that names another builder",
    has="a developer's machine, and the release key on it",
    refused="wrong-builder",
    floor_kept=False,
)
def another_builder(scene: Scene) -> Iterator[None]:
    owner = scene.owner()
    before = owner.more.get("policy")
    demands = scene.fleet.releases[2].more["policy"]["demands"]
    builder = [
        {**one, "builder": "https://ci.example/acme"} for one in demands if one["attestation"] == "provenance"
    ]
    others = [one for one in demands if one["attestation"] != "provenance"]
    owner.more["policy"] = {**scene.fleet.releases[2].more["policy"], "demands": (*others, *builder)}
    scene.offer_artifacts(2)
    owner.release()
    scene.keep()
    yield
    owner.more.pop("policy")
    if before is not None:
        owner.more["policy"] = before
