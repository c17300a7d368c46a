"""What `targets` signs beside its delegations: the policy, and for keyless fleets the Sigstore trusted root."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgewright.errors import TrustError
from edgewright.spec.fleet import Fleet
from edgewright.trust.documents import trust_documents
from edgewright_agent.contract import POLICY_TARGET, TRUSTED_ROOT_TARGET, canonical_json
from edgewright_agent.trust.policy import IdentitySigner, KeySigner, parse_policy
from private_sigstore.instance import IDENTITY, PrivateSigstore
from unit.publish.lane import write_key


def workspace(root: Path, **signing: Any) -> Any:
    fleet = Fleet.model_validate(
        {"version": 1, "name": "edge", "registry": {"url": "oci:dist"}, "signing": signing}
    )
    return SimpleNamespace(root=root, fleet=fleet, hardware={}, models={})


def keyless(root: Path, sigstore: PrivateSigstore, **who: str) -> Any:
    (root / "trust.json").write_text(json.dumps(sigstore.client_trust_config(), indent=2))
    return workspace(root, mode="keyless", trustConfig="trust.json", issuer=sigstore.issuer, **who)


def test_a_fleet_with_a_key_pins_its_key_and_has_no_trusted_root(tmp_path: Path) -> None:
    write_key(tmp_path)
    documents = trust_documents(workspace(tmp_path, publicKey="signing.pub"))
    assert list(documents) == [POLICY_TARGET]
    assert isinstance(parse_policy(documents[POLICY_TARGET]).signers["release"], KeySigner)


def test_a_fleet_with_a_key_whose_policy_names_an_identity_gives_devices_the_trusted_root(
    tmp_path: Path, private_sigstore: PrivateSigstore
) -> None:
    """On the way from keyless to a key, say: artifacts of before are still assigned."""
    write_key(tmp_path)
    fleet = keyless(tmp_path, private_sigstore, identity=IDENTITY)
    after = workspace(tmp_path, publicKey="signing.pub", trustConfig="trust.json")
    assert trust_documents(after)[TRUSTED_ROOT_TARGET] == trust_documents(fleet)[TRUSTED_ROOT_TARGET]


def test_a_keyless_fleet_pins_an_identity_and_gives_devices_the_trusted_root(
    tmp_path: Path, private_sigstore: PrivateSigstore
) -> None:
    documents = trust_documents(keyless(tmp_path, private_sigstore, identity=IDENTITY))
    assert documents[TRUSTED_ROOT_TARGET] == canonical_json(private_sigstore.trusted_root())
    signer = parse_policy(documents[POLICY_TARGET]).signers["release"]
    assert signer == IdentitySigner("release", private_sigstore.issuer, identity=IDENTITY)


def test_a_pattern_reaches_devices_as_a_pattern(tmp_path: Path, private_sigstore: PrivateSigstore) -> None:
    documents = trust_documents(keyless(tmp_path, private_sigstore, identityPattern="a@.*"))
    signer = parse_policy(documents[POLICY_TARGET]).signers["release"]
    assert signer == IdentitySigner("release", private_sigstore.issuer, pattern="a@.*")


def test_layout_of_the_file_does_not_change_what_is_signed(
    tmp_path: Path, private_sigstore: PrivateSigstore
) -> None:
    fleet = keyless(tmp_path, private_sigstore, identity=IDENTITY)
    first = trust_documents(fleet)
    (tmp_path / "trust.json").write_text(json.dumps(private_sigstore.client_trust_config()))
    assert trust_documents(fleet) == first


def test_a_trusted_root_larger_than_devices_read_is_refused(
    tmp_path: Path, private_sigstore: PrivateSigstore
) -> None:
    fleet = keyless(tmp_path, private_sigstore, identity=IDENTITY)
    config = private_sigstore.client_trust_config()
    config["trustedRoot"]["tlogs"] *= 2000
    (tmp_path / "trust.json").write_text(json.dumps(config))
    with pytest.raises(TrustError, match="more than devices read"):
        trust_documents(fleet)
