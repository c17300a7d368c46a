"""What the `targets` role itself signs beside its delegations: the documents that say whom devices believe.

>>> sorted(trust_documents(workspace))      # doctest: +SKIP
['trust/policy.json']
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgewright.errors import TrustError
from edgewright.trust.instance import load_trust_config, trusted_root_document
from edgewright_agent.contract import POLICY_TARGET, TRUSTED_ROOT_TARGET, canonical_json

if TYPE_CHECKING:
    from edgewright.spec.load import Workspace


def trust_documents(workspace: Workspace) -> dict[str, bytes]:
    """Return target path → bytes of every document that `targets` signs.

    Raises:
        TrustError: a public key that the policy names, or the trust configuration, cannot be read.
        NetworkError: that of sigstore.dev cannot be fetched.
    """
    documents = {POLICY_TARGET: policy_document(workspace)}
    signing = workspace.fleet.signing
    if signing.mode == "keyless":
        text = load_trust_config(str(signing.trust_config), workspace.root)
        documents[TRUSTED_ROOT_TARGET] = trusted_root_document(text)
    return documents


def policy_document(workspace: Workspace) -> bytes:
    """Return the policy that devices of this fleet follow (see `edgewright_agent.trust.policy`)."""
    signers = {"release": own_signer(workspace)}
    demands = [{"attestation": name, "signers": ["release"]} for name in ("signature", "gate-report")]
    return canonical_json({"version": 1, "signers": signers, "demands": demands})


def own_signer(workspace: Workspace) -> dict[str, str]:
    """Return the fleet's own signer, from `signing`, as a policy names it.

    Raises:
        TrustError: its public key cannot be read.
    """
    signing = workspace.fleet.signing
    if signing.mode == "keyless":
        who = {
            "issuer": signing.issuer,
            "identity": signing.identity,
            "identityPattern": signing.identity_pattern,
        }
        return {key: value for key, value in who.items() if value is not None}
    path = workspace.root / signing.public_key
    try:
        return {"publicKey": path.read_text()}
    except (OSError, UnicodeDecodeError) as error:
        raise TrustError(
            f"the public key {path} cannot be read: {error}", hint="edgewright keys init"
        ) from error
