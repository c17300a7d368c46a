"""What verified metadata makes of a record: floors, fleet, sequences and policy, before anything acts on it.

>>> record = accepted(ledger.record, desired, config.device, uptime())  # doctest: +SKIP
>>> approval_of(desired, target, record, config.device).sequence        # doctest: +SKIP
7

Pure functions; `Update` makes the result durable.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgewright_agent.clock import Uptime
from edgewright_agent.config import Device
from edgewright_agent.contract import class_role, selector_matches
from edgewright_agent.errors import TrustError
from edgewright_agent.floor import rotated
from edgewright_agent.record import Record
from edgewright_agent.trust.approval import Approval
from edgewright_agent.trust.assignment import Assigned, assigned
from edgewright_agent.update_policy import bounded

if TYPE_CHECKING:
    from edgewright_agent.desired import Desired

MAX_MODELS = 64  # on one device; the record of so many fits its slot
MAX_LANES = 256  # whose sequence is remembered


def accepted(record: Record, desired: Desired, device: Device, up: Uptime) -> Record:
    """Return the record of a device that goes by `desired` from now on.

    Raises:
        TrustError: `wrong-fleet` when that is the state of another fleet; `bad-metadata` when it assigns too much.
    """
    fleet = desired.assignment["fleet"]
    if record.fleet not in (None, fleet):
        raise TrustError(
            "wrong-fleet",
            f"this device belongs to the fleet {record.fleet}, the source has the state of {fleet}: correct "
            f"source.url, or, if the fleet was renamed, run `edgewright-agent reanchor --fleet {fleet}`",
        )
    role = class_role(device.hardware_class)
    if rotated(record.floor_keys.get(role), desired.floor.keys.get(role)):
        record = replace(record, sequences=_released(record.sequences, desired, device))
    # The ETag goes with the metadata it was for: whoever loses the newest copy of the record and is shown that metadata
    # again must find it too old, not "not modified".
    record = replace(record, fleet=fleet, expires=dict(desired.expires), seen=None).with_floor(
        desired.floor, up
    )
    record = record.with_sequences(_sequences(desired, record, device))
    return replace(
        record,
        sequences=_remembered(record.sequences, desired, device),
        policy=_policy(desired, device, record.policy),
    )


def approval_of(desired: Desired, target: Assigned, record: Record, device: Device) -> Approval:
    """Return what the device's class role signed about an artifact, which is none that was withdrawn.

    Raises:
        TrustError: `not-a-target`, `artifact-rollback`, `bad-metadata`.
    """
    approval = desired.require_artifact(target.model, device.hardware_class, target.digest)
    floor = record.sequences.get(_lane(device, target.model), 0)
    approval.require_sequence(floor, what=f"{target.model} {target.model_version}")
    return approval


def named(assignment: Mapping[str, Any], device: Device) -> set[str]:
    """Return the models that any of the device's groups names, whether or not its class has an artifact."""
    groups = assignment["groups"]
    mine = [g for g in groups if selector_matches(g["selector"]["matchLabels"], dict(device.labels))]
    return {model for group in mine for model in group["models"]}


def _policy(desired: Desired, device: Device, before: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the class's sheet says about updates; as before where nothing is assigned that could carry it.

    Every artifact of a class carries the same. If a signer says otherwise, the first model's by name counts.
    """
    targets = assigned(desired.assignment, hardware_class=device.hardware_class, labels=device.labels)
    for _, target in sorted(targets.items()):
        return bounded(target.update_policy)
    return before


def _sequences(desired: Desired, record: Record, device: Device) -> dict[str, int]:
    """Return the sequence of every assigned artifact that may be used here, by lane."""
    if len(named(desired.assignment, device)) > MAX_MODELS:
        raise TrustError("bad-metadata", f"more than {MAX_MODELS} models are assigned to this device")
    found: dict[str, int] = {}
    for target in assigned(
        desired.assignment, hardware_class=device.hardware_class, labels=device.labels
    ).values():
        with contextlib.suppress(TrustError):  # told when its turn comes
            found[_lane(device, target.model)] = approval_of(desired, target, record, device).sequence
    return found


def _remembered(sequences: Mapping[str, int], desired: Desired, device: Device) -> Mapping[str, int]:
    """Return the sequence floors that a record has room for: those of all that is assigned now come first.

    Whoever stole a class's key could list ever new models, until the record was full and took no honest state either.
    """
    if len(sequences) <= MAX_LANES:
        return sequences
    targets = assigned(desired.assignment, hardware_class=device.hardware_class, labels=device.labels)
    now = {_lane(device, model) for model in targets}
    first = sorted(sequences, key=lambda lane: (lane not in now, lane))
    return {lane: sequences[lane] for lane in first[:MAX_LANES]}


def _released(sequences: Mapping[str, int], desired: Desired, device: Device) -> dict[str, int]:
    """Return sequence floors after the class's role got other keys: none above what the new keys have signed.

    What a thief of the old key made of them goes; what is withdrawn stays withdrawn, as its sequence is a lower one.
    """
    released = dict(sequences)
    for lane, floor in sequences.items():
        hardware_class, _, model = lane.partition("/")
        highest = desired.highest_sequence(model) if hardware_class == device.hardware_class else None
        released[lane] = floor if highest is None else min(floor, highest)
    return released


def _lane(device: Device, model: str) -> str:
    return f"{device.hardware_class}/{model}"
