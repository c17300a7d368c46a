"""Rules of enrolled devices: their class exists, and no two of them share a key."""

from __future__ import annotations

from collections.abc import Iterator

from edgewright.spec.device import DEVICES, Device
from edgewright.spec.problem import did_you_mean
from edgewright.spec.rules import Context, Finding, rule


@rule(Device, "hardware_class")
def the_class_of_a_device_exists(device: Device, context: Context) -> Iterator[Finding]:
    """A device of a class nobody builds for would wait for ever."""
    if device.hardware_class not in context.draft.hardware:
        message = (
            f"there is no hardware class '{device.hardware_class}' (hardware/{device.hardware_class}.yaml)"
        )
        hint = did_you_mean(device.hardware_class, context.draft.hardware, "classes are")
        yield Finding(("hardwareClass",), message, hint)


@rule(Device, "public_key")
def the_key_of_a_device_is_a_point_of_the_curve(device: Device, context: Context) -> Iterator[Finding]:
    """One that is not would stop `devices certify`, and with it the revocation list of the whole fleet."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        load_pem_public_key(device.public_key.encode())
    except ValueError:
        message, hint = "this has the form of a key and is none", "enroll the device again"
        yield Finding(("publicKey",), message, hint, value=False)


@rule(Device, "public_key")
def every_device_has_its_own_key(device: Device, context: Context) -> Iterator[Finding]:
    """Whoever holds a shared key is both devices, and a revoked key stays revoked under another name."""
    for name, other in context.draft.devices.items():
        if name == context.loaded.name:
            return  # the later file, by name, is the one told
        if other.has("public_key") and other.document.public_key.strip() == device.public_key.strip():
            yield Finding(
                ("publicKey",),
                f"this is the key of {DEVICES}/{name}.yaml",
                "make a key on each device: edgewright-agent identity create",
                value=False,
            )
