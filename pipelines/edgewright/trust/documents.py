"""What the `targets` role itself signs beside its delegations: the documents that say whom devices believe.

>>> sorted(trust_documents(workspace))      # doctest: +SKIP
['trust/policy.json']
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgewright.errors import TrustError
from edgewright_agent.contract import POLICY_TARGET, canonical_json

if TYPE_CHECKING:
    from edgewright.spec.load import Workspace


def trust_documents(workspace: Workspace) -> dict[str, bytes]:
    """Return target path → bytes of every document that `targets` signs.

    Raises:
        TrustError: a public key that the policy names cannot be read.
    """
    return {POLICY_TARGET: policy_document(workspace)}


def policy_document(workspace: Workspace) -> bytes:
    """Return the policy that devices of this fleet follow (see `edgewright_agent.trust.policy`)."""
    path = workspace.root / workspace.fleet.signing.public_key
    try:
        pem = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise TrustError(
            f"the public key {path} cannot be read: {error}", hint="edgewright keys init"
        ) from error
    signers = {"release": {"publicKey": pem}}
    demands = [{"attestation": name, "signers": ["release"]} for name in ("signature", "gate-report")]
    return canonical_json({"version": 1, "signers": signers, "demands": demands})
