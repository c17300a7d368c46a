"""What a device's owner says about its link: whether bytes cost money, how many there may be, and when.

>>> Network().metered
'ask'

Whether the link is metered may change with the network the device is on. Who knows (NetworkManager, a modem's script,
a person) says so with `edgewright-agent metered on|off`; that is kept in one small file beside the record, so that it
can be said while an update is under way.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgewright_agent.section import Section

if TYPE_CHECKING:
    from edgewright_agent.files import Disk

METERED = ("yes", "no", "ask")
LINK_FILE = "link.json"
_MAX_LINK_BYTES = 256


@dataclass(frozen=True)
class Network:
    """The `network` section of the configuration.

    Attributes:
        metered: `yes`, `no`, or `ask`: as `edgewright-agent metered on|off` said last, else as the class's sheet says.
        bandwidth_bits_per_s: Most that models may take; the class's signed cap counts when it is lower.
        download: Windows in which models may be loaded; they replace the signed ones.
        activation: Windows in which models may be tried and activated; likewise.
        time_zone: `local` or `utc`; for these windows.
    """

    metered: str = "ask"
    bandwidth_bits_per_s: int | None = None
    download: tuple[str, ...] = ()
    activation: tuple[str, ...] = ()
    time_zone: str = "local"


def network_of(top: Section, base: Path) -> Network:
    """Read the section; absent: as the fleet says."""
    section = top.section("network", optional=True)
    metered = section.text("metered", "ask")
    if metered not in METERED:
        section.problem("metered", f"must be one of {', '.join(METERED)}")
    cap = section.number("bandwidthBitsPerS", 0, low=1000)
    windows = section.section("windows", optional=True)
    found = {kind: windows.texts(kind, optional=True) for kind in ("download", "activation")}
    zone = windows.text("timeZone", "local")
    if "windows" in section:
        _check_windows(windows, found, zone)
    windows.finish()
    section.finish()
    return Network(metered, int(cap) or None, found["download"], found["activation"], zone)


def _check_windows(section: Section, found: dict[str, tuple[str, ...]], zone: str) -> None:
    from edgewright_agent.update_policy import ZONES
    from edgewright_agent.windows import MAX_WINDOWS, parse_window

    if zone not in ZONES:
        section.problem("timeZone", f"must be one of {', '.join(ZONES)}")
    for kind, texts in found.items():
        if len(texts) > MAX_WINDOWS:
            section.problem(kind, f"must be at most {MAX_WINDOWS} windows")
        for text in texts:
            try:
                parse_window(text)
            except ValueError as error:
                section.problem(kind, f"are wrong: {error}")


def is_metered(network: Network, state: Path, *, signed: bool) -> bool:
    """Whether bytes cost money now.

    Args:
        network: The configuration.
        state: The state directory.
        signed: What the class's sheet says of its devices' links.
    """
    if network.metered != "ask":
        return network.metered == "yes"
    told = told_metered(state)
    return signed if told is None else told


def told_metered(state: Path) -> bool | None:
    """Return what was said last; None when nothing was, or it cannot be read any more."""
    from edgewright_agent.transport.document import parse_json

    try:
        with (state / LINK_FILE).open("rb") as file:
            document = parse_json(file.read(_MAX_LINK_BYTES), LINK_FILE)
    except (OSError, ValueError):
        return None
    told = document.get("metered") if isinstance(document, dict) else None
    return told if isinstance(told, bool) else None


def tell_metered(state: Path, disk: Disk, metered: bool | None) -> None:
    """Keep what is said about the link; None forgets it.

    Raises:
        StorageError: the disk refused.
    """
    from edgewright_agent.contract import canonical_json

    if metered is None:
        if (state / LINK_FILE).exists():
            disk.remove(state / LINK_FILE)
            disk.sync_dir(state)
        return
    disk.make_dir(state)
    disk.replace_file(state / LINK_FILE, canonical_json({"version": 1, "metered": metered}))
