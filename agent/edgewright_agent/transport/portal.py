"""Captive portals: networks that answer for every server until somebody has logged in to them.

>>> refuse_portal(response, "registry.example")     # doctest: +SKIP
edgewright_agent.errors.TransportError: a captive portal answers instead of registry.example: log in to this network …

No registry answers HTML with a good status, and 511 says it outright (RFC 6585 6). Over https a portal cannot answer:
it shows as a certificate that is not trusted, or not at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgewright_agent.errors import TransportError

if TYPE_CHECKING:  # a device that takes its updates from a stick needs no TLS
    from edgewright_agent.transport.wire import Response

CAPTIVE_PORTAL = "captive-portal"
_PAGES = ("text/html", "application/xhtml+xml")


def refuse_portal(response: Response, host: str) -> None:
    """Refuse an answer that is a login page.

    Raises:
        TransportError: `captive-portal`.
    """
    kind = (response.header("Content-Type") or "").partition(";")[0].strip().lower()
    if response.status == 511 or (200 <= response.status < 300 and kind in _PAGES):
        raise TransportError(
            CAPTIVE_PORTAL,
            f"a captive portal (login page) answers instead of {host}: "
            "log in to this network, or let the device through",
        )
