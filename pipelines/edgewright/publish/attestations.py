"""What is said of one artifact when it is signed: four in-toto predicates, in the order devices ask for them.

>>> [each.file for each in attestations(job, manifest, report)]       # doctest: +SKIP
['sign.sigstore.json', 'gate.sigstore.json', 'provenance.sigstore.json', 'bom.sigstore.json']
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgewright.plan.job import Job
from edgewright.publish.bom import bill_of_materials
from edgewright.publish.provenance import pinned_files, provenance
from edgewright.publish.worktree import look
from edgewright_agent.contract import (
    PREDICATE_BOM,
    PREDICATE_GATE_REPORT,
    PREDICATE_PROVENANCE,
    PREDICATE_SIGN,
    digest_of,
)

SIGN_BUNDLE = "sign.sigstore.json"
GATE_BUNDLE = "gate.sigstore.json"
PROVENANCE_BUNDLE = "provenance.sigstore.json"
BOM_BUNDLE = "bom.sigstore.json"

BUNDLES: tuple[tuple[str, str], ...] = (
    (SIGN_BUNDLE, PREDICATE_SIGN),
    (GATE_BUNDLE, PREDICATE_GATE_REPORT),
    (PROVENANCE_BUNDLE, PREDICATE_PROVENANCE),
    (BOM_BUNDLE, PREDICATE_BOM),
)
"""File of a bundle and the predicate type it holds: what `signed` writes and `published` attaches, all of it."""


@dataclass(frozen=True)
class Attestation:
    """One thing to be said, and the file its bundle goes to."""

    file: str
    predicate_type: str
    predicate: Mapping[str, Any]


def attestations(job: Job, manifest: bytes, report: bytes) -> list[Attestation]:
    """Return everything that is signed about one artifact.

    Args:
        job: The job that signs.
        manifest: The artifact's manifest.
        report: Its gate report, which has been found to pass.
    """
    gate = json.loads(report)
    worktree = look(job.root, pinned=pinned_files(job))
    said: dict[str, Mapping[str, Any]] = {
        PREDICATE_SIGN: {},
        PREDICATE_GATE_REPORT: gate,
        PREDICATE_PROVENANCE: provenance(job, worktree=worktree, report_digest=digest_of(report)),
        PREDICATE_BOM: bill_of_materials(job, manifest, gate),
    }
    return [Attestation(file, kind, said[kind]) for file, kind in BUNDLES]
