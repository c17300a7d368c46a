"""What `edgewright-agent identity …` and `edgewright-agent report` do.

$ edgewright-agent identity create
/var/lib/edgewright/identity/device.key  ecdsa-p256 6f0c…
next: edgewright-agent identity request --out pi-7.csr
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Any

from edgewright_agent import report_signing
from edgewright_agent.clock import to_text
from edgewright_agent.config import Config, Identity
from edgewright_agent.contract import MAX_CERTIFICATE_BYTES
from edgewright_agent.errors import AgentError, ConfigError, TrustError
from edgewright_agent.files import Disk
from edgewright_agent.identity import certificate
from edgewright_agent.identity.key import DeviceKey, create, load, request
from edgewright_agent.identity.validity import validity
from edgewright_agent.lock import exclusive
from edgewright_agent.owner import as_owner
from edgewright_agent.poll import trusted_now
from edgewright_agent.record import Ledger
from edgewright_agent.status import gather
from edgewright_agent.store import Store
from edgewright_agent.work import at_work


def identity_of(config: Config) -> Identity:
    """Return the configured identity.

    Raises:
        ConfigError: `no-identity`.
    """
    if config.identity is None:
        raise ConfigError(
            "no-identity",
            'the configuration has no identity; add "identity": {"key": FILE, "certificate": FILE, "ca": FILE}',
        )
    return config.identity


def create_key(path: Path, provider: str | None) -> str:
    """Make the device's key; returns what to tell."""
    made = create(path, Disk(), provider=provider)
    where = f" kept by {provider}" if provider else ""
    return (
        f"{path}  ecdsa-p256 {fingerprint(made)}{where}\nnext: edgewright-agent identity request --out FILE"
    )


def write_request(config: Config, out: Path) -> str:
    """Write a certificate request; returns what to tell."""
    pem = request(load(identity_of(config).key), config.device.id)
    Disk().replace_file(out.absolute(), pem)
    device = config.device
    return (
        f"wrote {out}; next, in the fleet's repository: edgewright devices enroll {out.name} "
        f"--class {device.hardware_class}"
        + "".join(f" --label {name}={value}" for name, value in sorted(device.labels.items()))
    )


def install(config: Config, file: Path, now: datetime) -> str:
    """Check a certificate and put it in place; returns what to tell."""
    identity = identity_of(config)
    pem = _read(file)  # as who calls: the agent's user may not read it
    with at_work(config) as (ledger, _store), as_owner(identity.certificate.parent):
        found = certificate.check(
            pem,
            key=load(identity.key),
            device_id=config.device.id,
            authorities=_read(identity.ca) if identity.ca else None,
            current=_read(identity.certificate) if identity.certificate.exists() else None,
        )
        moment = trusted_now(ledger.record, now)
        if found.end <= moment:
            raise TrustError("certificate-expired", f"the certificate ended {to_text(found.end)}")
        certificate.install(identity.certificate, found, Disk())
    return f"{identity.certificate}  valid until {to_text(found.end)}"


def describe(config: Config, now: datetime) -> dict[str, Any]:
    """Return key, certificate and when that renews, as JSON values."""
    identity = identity_of(config)
    key = load(identity.key)
    told: dict[str, Any] = {
        "device": config.device.id,
        "key": {"file": str(identity.key), "algorithm": "ecdsa-p256", "fingerprint": fingerprint(key)},
        "certificate": None,
        "renewal": "by itself" if identity.ca else "by hand: there is no identity.ca",
    }
    if identity.certificate.exists():
        pem = _read(identity.certificate)
        told["certificate"] = {"file": str(identity.certificate), **_state(config, key, pem, now)}
    return told


def in_words(told: dict[str, Any]) -> str:
    """Return what `describe` found, for a terminal."""
    lines = [
        f"device       {told['device']}",
        f"key          {told['key']['algorithm']} {told['key']['fingerprint']}",
        f"             {told['key']['file']}",
    ]
    found = told["certificate"]
    if found is None:
        then = (
            "edgewright-agent once --force"
            if told["renewal"] == "by itself"
            else "edgewright-agent identity install FILE"
        )
        return "\n".join(
            [
                *lines,
                "certificate  none yet; next: edgewright-agent identity request --out FILE",
                f"             once the fleet has certified it: {then}",
            ]
        )
    lines.append(f"certificate  {found['state']}")
    if "until" in found:
        lines.append(f"             {found['from']} to {found['until']}, serial {found['serial']}")
        lines.append(f"             issued by {found['issuer']}")
        lines.append(f"renews       {found['renews']}, {told['renewal']}")
    return "\n".join(lines)


def report(config: Config, now: datetime) -> bytes:
    """Return this device's signed report (a DSSE envelope)."""
    identity = identity_of(config)
    key, disk = load(identity.key), Disk()
    ledger = Ledger(config.state, disk)
    status = gather(config, ledger, Store(config.state, disk), now)
    with as_owner(config.state), exclusive(config.state / "report.lock"):
        number = report_signing.next_sequence(config.state, disk, now)
    document = report_signing.compose(
        status,
        certificate=_certificate(config, key),
        boot=report_signing.boot_id(),
        sequence=number,
        now=now,
        clock=report_signing.clock_quality(ledger.record.clock_floor, now),
    )
    return report_signing.sign(key, document)


def fingerprint(key: DeviceKey) -> str:
    """Return how people compare keys: sha256 of the SubjectPublicKeyInfo, hex."""
    return hashlib.sha256(key.public_der).hexdigest()


def as_json(told: dict[str, Any]) -> str:
    """Return what `describe` found, for programs."""
    return json.dumps(told, indent=2)


def _state(config: Config, key: DeviceKey, pem: bytes, now: datetime) -> dict[str, Any]:
    """Return what a certificate in place is worth; a bad one is told, not raised."""
    identity = identity_of(config)
    try:
        found = certificate.check(
            pem,
            key=key,
            device_id=config.device.id,
            authorities=_read(identity.ca) if identity.ca else None,
            current=None,
        )
    except AgentError as error:
        return {"state": f"unusable: {error}"}
    state = "expired" if found.end <= now else "not valid yet" if now < found.start else "valid"
    return {
        "state": state,
        "from": to_text(found.start),
        "until": to_text(found.end),
        "renews": to_text(validity(found.pem).renews),
        "serial": found.serial,
        "issuer": found.issuer,
        "fleet": found.fleet,
    }


def _certificate(config: Config, key: DeviceKey) -> certificate.Certificate | None:
    """Return this device's certificate; None before there is a good one."""
    identity = identity_of(config)
    if not identity.certificate.exists():
        return None
    try:
        return certificate.check(
            _read(identity.certificate),
            key=key,
            device_id=config.device.id,
            authorities=_read(identity.ca) if identity.ca else None,
            current=None,
        )
    except AgentError:
        return None  # a report must get out even if the certificate is bad; `identity show` says why


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_CERTIFICATE_BYTES + 1)
    except OSError as error:
        raise ConfigError("bad-config", f"cannot read {path}: {error.strerror}") from error
