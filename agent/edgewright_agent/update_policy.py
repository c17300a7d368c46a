"""What a class's signed `updatePolicy` may ask of a device: bounded, so that no signature silences one for ever.

>>> bounded({"poll": {"intervalS": 1e9, "jitter": 7}, "colour": "red"})
{'poll': {'intervalS': 86400.0, 'jitter': 1.0}}

A figure out of bounds becomes the bound; what makes no sense is left out, as is what this agent does not know. Refusing
the whole assignment instead would let one wrong word hold back every model, a repaired policy included.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgewright_agent.windows import MAX_WINDOWS, is_window

MIN_INTERVAL_S, MAX_INTERVAL_S = 10.0, 24 * 3600.0
MIN_BANDWIDTH_BITS_PER_S, MAX_BANDWIDTH_BITS_PER_S = 1000, 10**12  # slower than 1 kbit/s nothing ever arrives
METERED = ("metadata", "defer", "allow")
ZONES = ("local", "utc")
WINDOW_KINDS = ("download", "activation")
_MAX_RESERVE_BYTES = 2**53 - 1
_MAX_RESERVE_INODES = 2**31 - 1


def bounded(policy: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a signed policy that this device obeys."""
    kept: dict[str, Any] = {}
    if poll := _poll(policy.get("poll")):
        kept["poll"] = poll
    for key, low, high in (
        ("diskReserveBytes", 0, _MAX_RESERVE_BYTES),
        ("inodeReserve", 0, _MAX_RESERVE_INODES),
        ("bandwidthBitsPerS", MIN_BANDWIDTH_BITS_PER_S, MAX_BANDWIDTH_BITS_PER_S),
    ):
        if (number := _number(policy.get(key), low, high)) is not None:
            kept[key] = int(number)
    if windows := _windows(policy.get("windows")):
        kept["windows"] = windows
    if policy.get("metered") in METERED:
        kept["metered"] = policy["metered"]
    if policy.get("meteredLink") is True:
        kept["meteredLink"] = True
    return kept


def _poll(value: object) -> dict[str, float]:
    if not isinstance(value, dict):
        return {}
    limits = {
        "intervalS": (MIN_INTERVAL_S, MAX_INTERVAL_S),
        "jitter": (0.0, 1.0),
        "maxBackoffS": (MIN_INTERVAL_S, MAX_INTERVAL_S),
    }
    found = {key: _number(value.get(key), low, high) for key, (low, high) in limits.items()}
    return {key: number for key, number in found.items() if number is not None}


def _windows(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {}
    found: dict[str, Any] = {}
    for kind in WINDOW_KINDS:
        listed = value.get(kind)
        if isinstance(listed, list) and (
            readable := [text for text in listed[:MAX_WINDOWS] if is_window(text)]
        ):
            found[kind] = readable
    if found and value.get("timeZone") in ZONES:
        found["timeZone"] = value["timeZone"]
    return found


def _number(value: object, low: float, high: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return min(max(value, low), high)
