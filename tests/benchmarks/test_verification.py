"""What a device pays to check a new release, in both signing modes, beside cosign on the same artifact.

$ make bench PYTEST_ARGS='-k checking_a_release'

A device checks more than `cosign verify` does: six TUF roles and their documents, the signature, and what the policy
demands.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from benchmarks.test_costs import Cost, cost, say
from e2e.conftest import built_once  # noqa: F401 - a fixture
from e2e.journey import MODEL, Journey
from private_sigstore.instance import IDENTITY, WORKFLOW, PrivateSigstore
from real import Registry, Tool, require

CHECK = str(Path(__file__).with_name("check_release.py"))
POLICY = """policy:
  signers:
    - {name: release, SIGNER}
  demands:
    - {attestation: provenance}
    - {attestation: bom}
"""


def published(folder: Path, built: Journey, registry: Registry, prefix: str) -> Journey:
    """Return a copy of the built fleet that publishes to a registry and demands all four attestations."""
    journey = built.copy(folder)
    journey.edit("fleet.yaml", r"url: .*$", f"url: {registry.url}/{prefix}")
    return journey


def demand(journey: Journey, signer: str, signing: str = "") -> None:
    fleet = journey.fleet / "fleet.yaml"
    fleet.write_text(fleet.read_text() + signing + POLICY.replace("SIGNER", signer))
    journey.release()


def check(journey: Journey, device: str) -> Cost:
    """Cost of a check from nothing: the cache of metadata is removed before each."""
    cache = journey.config(device).parent / "state/tuf"

    def words() -> list[str]:
        shutil.rmtree(cache, ignore_errors=True)
        return [sys.executable, CHECK, str(journey.config(device))]

    return cost(words, journey.fleet)


def row(name: str, mine: Cost, peer: Cost) -> tuple[str, str, str]:
    ratios = f"{mine.cpu_s / peer.cpu_s:.2f} × CPU, {mine.peak_mib / peer.peak_mib:.2f} × peak"
    return name, f"{mine.cpu_s:.2f} CPU-s  {mine.peak_mib:.0f} MiB", ratios


def test_checking_a_release_beside_cosign(
    built_once: Journey,  # noqa: F811
    registry: Registry,
    cosign: Tool,
    private_sigstore: PrivateSigstore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = str(require("cosign"))

    def theirs(journey: Journey, *trust: str, prefix: str) -> Cost:
        reference = f"{registry.host}/{prefix}/{MODEL}@{journey.digest()}"
        with monkeypatch.context() as patched:
            patched.setenv("HOME", str(tmp_path))  # cosign keeps a cache in its home
            return cost(
                lambda: [program, "verify", "--allow-http-registry", *trust, reference], journey.fleet
            )

    by_key = published(tmp_path / "key", built_once, registry, "key")
    demand(by_key, "publicKey: .edgewright/keys/signing.pub")
    device = by_key.enroll("bench-key", source=f"{registry.url}/key")
    key = str(by_key.fleet / ".edgewright/keys/signing.pub")
    cosign_key = theirs(by_key, "--key", key, "--insecure-ignore-tlog=true", prefix="key")
    agent_key = check(by_key, device)

    keyless = published(tmp_path / "keyless", built_once, registry, "keyless")
    (keyless.fleet / "trust.json").write_text(json.dumps(private_sigstore.client_trust_config()))
    (keyless.fleet / "token").write_text(private_sigstore.tokens.token(WORKFLOW))
    who = f"issuer: {private_sigstore.issuer}, identity: '{IDENTITY}'"
    signing = f"signing: {{mode: keyless, trustConfig: trust.json, identityToken: 'file:token', {who}}}\n"
    demand(keyless, who, signing)
    device = keyless.enroll("bench-keyless", source=f"{registry.url}/keyless")
    # Whom to believe comes with the policy that `targets` signed; the pinned key would refuse every certificate.
    config = json.loads(keyless.config(device).read_text())
    del config["trust"]["keys"]
    keyless.config(device).write_text(json.dumps(config))
    root = tmp_path / "trusted-root.json"
    root.write_text(json.dumps(private_sigstore.trusted_root()))
    pins = ("--certificate-identity", IDENTITY, "--certificate-oidc-issuer", private_sigstore.issuer)
    cosign_keyless = theirs(keyless, "--trusted-root", str(root), *pins, prefix="keyless")
    agent_keyless = check(keyless, device)

    say(
        "Checking a new release: a device (TUF from nothing, then four attestations) beside cosign verify (one)",
        [
            ("cosign verify, key", f"{cosign_key.cpu_s:.2f} CPU-s  {cosign_key.peak_mib:.0f} MiB", "1.0 ×"),
            row("a device, key", agent_key, cosign_key),
            (
                "cosign verify, keyless",
                f"{cosign_keyless.cpu_s:.2f} CPU-s  {cosign_keyless.peak_mib:.0f} MiB",
                "1.0 ×",
            ),
            row("a device, keyless", agent_keyless, cosign_keyless),
        ],
    )
