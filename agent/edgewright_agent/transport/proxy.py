"""Proxies between a device and its registries: CONNECT for https, the absolute form for http (RFC 9110 9.3.6, 7.1).

>>> parse_proxy("http://proxy.site.example:3128").place
'proxy.site.example:3128'
>>> said = Environment({"HTTPS_PROXY": "proxy:3128", "NO_PROXY": "corp.example"})
>>> said.towards("https", "registry.example", 443).place
'proxy:3128'

A proxy is as untrusted as everything else on the way. Through a tunnel TLS goes from the device to the registry, whose
certificate is verified as without a proxy; what the proxy itself says is bounded in size and time.
"""

from __future__ import annotations

import base64
import re
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

from edgewright_agent.errors import ConfigError, TransportError

_MAX_HEAD_BYTES = 16 * 1024
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})[ \r]")
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]")

Connect = Callable[[tuple[str, int], float], socket.socket]


@dataclass(frozen=True)
class Proxy:
    """One proxy.

    Attributes:
        host: Its name or address, without brackets.
        port: Its port.
        authorization: Value of `Proxy-Authorization`, if it asks for one.
    """

    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)

    @property
    def place(self) -> str:
        """`host:port`, for messages."""
        return _place(self.host, self.port)

    def towards(self, _scheme: str, _host: str, _port: int) -> Proxy | None:
        """Return what stands between us and a server: this one, for all of them."""
        return self

    def with_login(self, username: str, password: str) -> Proxy:
        """Return this proxy with a log-in (RFC 7617)."""
        pair = base64.b64encode(f"{username}:{password}".encode()).decode()
        return replace(self, authorization=f"Basic {pair}")

    def headers(self) -> dict[str, str]:
        """Return what requests to the proxy itself carry."""
        return {"Proxy-Authorization": self.authorization} if self.authorization else {}

    def reach(self, connect: Connect, timeout_s: float) -> socket.socket:
        """Connect to the proxy.

        Raises:
            TransportError: `network`.
        """
        try:
            return connect((self.host, self.port), timeout_s)
        except (OSError, UnicodeError) as error:
            raise TransportError("network", f"the proxy {self.place} cannot be reached: {error}") from error

    def tunnel(self, connect: Connect, address: tuple[str, int], timeout_s: float) -> socket.socket:
        """Return a connection through the proxy to a server.

        Raises:
            TransportError: `network`: the proxy or, it says, the server cannot be reached; `denied`: it wants a log-in;
                `bad-response`.
        """
        place = _place(*address)
        connected = self.reach(connect, timeout_s)
        try:
            lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}"]
            lines += [f"{name}: {value}" for name, value in self.headers().items()]
            connected.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
            self._accept(_read_head(connected, self.place, timeout_s), place)
            connected.settimeout(timeout_s)
        except TransportError:
            connected.close()
            raise
        except (OSError, UnicodeError) as error:
            connected.close()
            raise TransportError("network", f"the proxy {self.place} does not answer: {error}") from error
        return connected

    def _accept(self, head: bytes, place: str) -> None:
        found = _STATUS.match(head)
        status = int(found[1]) if found else 0
        if 200 <= status < 300:
            return
        if status == 407:
            raise TransportError(
                "denied",
                f"the proxy {self.place} wants a log-in; say in proxyUsername and proxyPassword where it is",
            )
        if not status:
            raise TransportError("bad-response", f"the proxy {self.place} does not speak HTTP")
        raise TransportError("network", f"the proxy {self.place} does not connect to {place}: {status}")


@dataclass(frozen=True)
class Environment:
    """The proxies that `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` name, small letters first, as curl reads them."""

    variables: Mapping[str, str]

    def towards(self, scheme: str, host: str, port: int) -> Proxy | None:
        """Return the proxy to a server; None when it is reached directly, as this machine itself always is.

        Raises:
            ConfigError: `bad-source`: the variable names none that can be used.
        """
        from edgewright_agent.transport.host import is_loopback

        url = self._variable(f"{scheme}_proxy")
        if not url or is_loopback(host) or self._passed_by(host, port):
            return None
        try:
            return parse_proxy(url if "://" in url else f"http://{url}", login=True)
        except ValueError as error:
            raise ConfigError("bad-source", f"the environment's {scheme}_proxy {error}") from None

    def _passed_by(self, host: str, port: int) -> bool:
        for entry in self._variable("no_proxy").split(","):
            name, its_port = _name_and_port(entry.strip().lower())
            name = name.removeprefix("*").removeprefix(".")
            if entry.strip() == "*":
                return True
            if its_port and its_port != str(port):
                continue
            if name and (host.lower() == name or host.lower().endswith(f".{name}")):
                return True
        return False

    def _variable(self, name: str) -> str:
        return self.variables.get(name) or self.variables.get(name.upper()) or ""


Route: TypeAlias = Proxy | Environment
"""How servers are reached, where it is not directly."""


def parse_proxy(url: str, *, login: bool = False) -> Proxy:
    """Read `http://HOST:PORT`.

    Args:
        url: The proxy.
        login: Whether it may carry a user name and password, as in an environment variable.

    Raises:
        ValueError: what is wrong with it, never quoting a password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("is no http://HOST:PORT") from None
    if "@" in parts.netloc and not login:
        raise ValueError("must not carry a password: say in proxyUsername and proxyPassword where they are")
    bare = parts.netloc.rpartition("@")[2]
    name = bare.rpartition(":")[0] if port is not None else bare
    usable = parts.scheme == "http" and _HOST.fullmatch(name) is not None and port != 0
    if (
        not usable
        or parts.path not in ("", "/")
        or parts.query
        or parts.fragment
        or (port is None and not login)
    ):
        raise ValueError("is no http://HOST:PORT")
    proxy = Proxy(parts.hostname or "", 80 if port is None else port)
    if parts.username is not None:
        proxy = proxy.with_login(unquote(parts.username), unquote(parts.password or ""))
    return proxy


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _name_and_port(entry: str) -> tuple[str, str]:
    """Split an entry of NO_PROXY; an IPv6 address has colons of its own, and stands in brackets before a port."""
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        return name, rest.removeprefix(":")
    if entry.count(":") > 1:
        return entry, ""
    name, _, port = entry.partition(":")
    return name, port


def _read_head(connected: socket.socket, place: str, timeout_s: float) -> bytes:
    """Read the proxy's answer, and not a byte of what follows: that belongs to TLS."""
    head, until_s = bytearray(), time.monotonic() + timeout_s
    while not head.endswith(b"\r\n\r\n"):
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        if len(head) >= _MAX_HEAD_BYTES:
            raise TransportError("too-large", f"the answer of the proxy {place} does not end")
        connected.settimeout(left_s)
        byte = connected.recv(1)
        if not byte:
            raise TransportError("network", f"the proxy {place} hung up before it answered")
        head += byte
    return bytes(head)
