"""What the `targets` role itself signs beside its delegations: the documents that say whom devices believe.

>>> sorted(trust_documents(workspace))      # doctest: +SKIP
['trust/policy.json']
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edgewright.errors import TrustError
from edgewright.trust.instance import load_trust_config, trusted_root_document
from edgewright.trust.signing_key import load_public_key
from edgewright_agent.contract import MAX_POLICY_BYTES, POLICY_TARGET, TRUSTED_ROOT_TARGET, canonical_json

if TYPE_CHECKING:
    from edgewright.spec.fleet import PolicyDemand, PolicySigner
    from edgewright.spec.load import Workspace


def trust_documents(workspace: Workspace) -> dict[str, bytes]:
    """Return target path → bytes of every document that `targets` signs.

    Raises:
        TrustError: a public key that the policy names, or the trust configuration, cannot be read.
        NetworkError: that of sigstore.dev cannot be fetched.
    """
    documents = {POLICY_TARGET: policy_document(workspace)}
    signing = workspace.fleet.signing
    if signing.trust_config is not None:
        text = load_trust_config(signing.trust_config, workspace.root)
        documents[TRUSTED_ROOT_TARGET] = trusted_root_document(text)
    return documents


def policy_document(workspace: Workspace) -> bytes:
    """Return the policy that devices of this fleet follow (see `edgewright_agent.trust.policy`).

    Without `policy` in fleet.yaml the fleet's own signer, named `release`, must have signed artifact and gate report.

    Raises:
        TrustError: a public key cannot be read or is of a kind that devices do not accept, or there is too much.
    """
    fleet, root = workspace.fleet, workspace.root
    if fleet.policy is None:
        signers = {"release": own_signer(workspace)}
        demands: list[dict[str, Any]] = [
            {"attestation": name, "signers": ["release"]} for name in ("signature", "gate-report")
        ]
    else:
        signers = {signer.name: _signer(signer, root) for signer in fleet.policy.signers}
        demands = [_demand(demand, list(signers)) for demand in fleet.policy.demands]
    document = canonical_json({"version": 1, "signers": signers, "demands": demands})
    if len(document) > MAX_POLICY_BYTES:
        raise TrustError(
            f"the policy has {len(document)} bytes; devices read {MAX_POLICY_BYTES}",
            hint="name fewer signers, or one pattern for several identities",
        )
    return document


def own_signer(workspace: Workspace) -> dict[str, str]:
    """Return the fleet's own signer, as a policy writes it.

    Raises:
        TrustError: its public key cannot be read.
    """
    signing = workspace.fleet.signing
    if signing.mode == "key":
        return {"publicKey": _pem(workspace.root / signing.public_key)}
    who = {
        "issuer": signing.issuer,
        "identity": signing.identity,
        "identityPattern": signing.identity_pattern,
    }
    return {key: value for key, value in who.items() if value is not None}


def _signer(signer: PolicySigner, root: Path) -> dict[str, str]:
    if signer.public_key is not None:
        return {"publicKey": _pem(root / signer.public_key)}
    subject = (
        {"identity": signer.identity}
        if signer.identity is not None
        else {"identityPattern": str(signer.identity_pattern)}
    )
    return {"issuer": str(signer.issuer), **subject}


def _demand(demand: PolicyDemand, everybody: list[str]) -> dict[str, Any]:
    return {
        "attestation": demand.attestation,
        "signers": list(demand.signers or everybody),
        **({"classes": list(demand.classes)} if demand.classes is not None else {}),
        **({"builder": demand.builder} if demand.builder is not None else {}),
    }


def _pem(path: Path) -> str:
    """Return a public key as every device reads it: the same key gives the same text.

    Raises:
        TrustError: it cannot be read, or is not ECDSA P-256.
    """
    key = load_public_key(path)
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise TrustError(f"{path} is not an ECDSA P-256 key, the only kind devices accept")
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
