"""Hosts as URLs name them: which is which, and which may see a secret.

>>> from urllib.parse import urlsplit
>>> origin(urlsplit("https://Registry.example/acme"))
'https://registry.example:443'
>>> may_carry_secrets(urlsplit("http://registry.local:5000"))
False
"""

from __future__ import annotations

from urllib.parse import SplitResult


def origin(parts: SplitResult) -> str:
    """Return scheme, host and port of a URL in one spelling (RFC 6454)."""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{parts.hostname}:{port}"


def is_loopback(host: str) -> bool:
    """Whether a host of a URL is this machine itself, by its name alone: nothing is resolved."""
    if host == "localhost":
        return True
    import ipaddress  # a device that talks https never needs it

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def may_carry_secrets(parts: SplitResult) -> bool:
    """Whether a password or token may be sent to a URL: over TLS, or without leaving this machine."""
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
