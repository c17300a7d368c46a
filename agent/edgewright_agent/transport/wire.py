"""HTTP against a server that may lie, stall or never stop: http.client with a meter on the socket.

Redirects, authentication and the meaning of an answer are the caller's. Certificates are always verified, TLS 1.2
is the least, and the proxies of the environment (`HTTPS_PROXY`) are not used unless the configuration says so: a device
talks to the hosts that its configuration names and to nobody in between.

>>> wire = Wire(timeout_s=20.0)                                              # doctest: +SKIP
>>> with wire.get("https://registry.example/v2/", {}, ceiling=1024) as response:
...     response.status, response.body(limit=1024)                            # doctest: +SKIP
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias, cast
from urllib.parse import SplitResult, urlsplit

from edgewright_agent import __version__
from edgewright_agent.errors import BrokenAnswerError, ConfigError, TransportError
from edgewright_agent.transport.document import in_chunks
from edgewright_agent.transport.host import origin
from edgewright_agent.transport.pace import Meter, MeteredSocket, Pace, Patience

if TYPE_CHECKING:
    from edgewright_agent.transport.allowance import Allowance
    from edgewright_agent.transport.authority import Authorities
    from edgewright_agent.transport.proxy import Proxy, Route

# Status line, headers and chunk framing beside a body; http.client itself allows 100 headers of 64 KiB.
_OVERHEAD_BYTES = 256 * 1024
_MAX_ADDRESSES = 4
_Address: TypeAlias = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]
_USER_AGENT = f"edgewright-agent/{__version__}"


class Response:
    """One answer; leaving its `with` block keeps the connection if it was read to the end, else closes it."""

    def __init__(
        self,
        answer: http.client.HTTPResponse,
        host: str,
        release: Callable[[bool], None],
        allowance: Allowance | None = None,
    ) -> None:
        self._answer, self._host, self._release, self._allowance = answer, host, release, allowance
        self.status = answer.status

    def header(self, name: str) -> str | None:
        """Return a header of at most 8 KiB, or None when it is missing or longer."""
        value = self._answer.headers.get(name)
        return value if value is not None and len(value) <= 8192 else None

    @property
    def length(self) -> int | None:
        """Bytes of the body still to come, when the server said how many."""
        return self._answer.length

    def body(self, *, limit: int) -> bytes:
        """Return the whole body.

        Raises:
            TransportError: `too-large` when it has more than `limit` bytes, or as `chunks`.
        """
        if self.length is not None and self.length > limit:
            raise TransportError("too-large", f"{self._host} announces {self.length} bytes, not ≤ {limit}")
        data = b"".join(self.chunks(limit + 1, exactly=False))
        if len(data) > limit:
            raise TransportError("too-large", f"{self._host} sends more than the {limit} bytes allowed")
        return data

    def chunks(self, total: int, *, exactly: bool = True) -> Iterator[bytes]:
        """Yield the next `total` bytes of the body, or with `exactly=False` up to that many.

        Raises:
            TransportError: `truncated` when the body ends before what was asked for or announced, `network`,
                `too-slow`, `too-large`, `bad-response`.
        """
        wanted = total if exactly or self.length is None else min(total, self.length)
        strict = exactly or self.length is not None
        ours = self._allowance
        for count in in_chunks(wanted, ours.read_bytes) if ours else in_chunks(wanted):
            while count > 0:
                if ours:
                    ours.permit()
                with _http_failures(self._host):
                    data = self._answer.read(count)
                if not data:
                    if strict:
                        raise BrokenAnswerError("truncated", f"{self._host} ended its answer early")
                    return
                count -= len(data)
                if ours:
                    ours.take(len(data))
                yield data

    def discard(self) -> None:
        """Read a short body nobody wants, such as an error page's, so that the connection can be kept."""
        if self.length is not None and self.length <= 16 * 1024:
            with contextlib.suppress(TransportError):
                self.body(limit=self.length)

    def __enter__(self) -> Response:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        complete = not self.length and (self._answer.isclosed() or self.length == 0)
        if not complete and kind is None and self._answer.chunked:
            complete = self._last_chunk()
        self._answer.close()
        self._release(complete)

    def _last_chunk(self) -> bool:
        try:  # it has no bytes, but has to be read before the connection can be used again
            with _http_failures(self._host):
                return not self._answer.read(1)
        except TransportError:
            return False


@dataclass(frozen=True)
class ClientIdentity:
    """Who we are to the one server `home` (as `origin` spells it): PEM files of certificate and key."""

    home: str
    certificate: str
    key: str


class Wire:
    """Requests to any host, over one connection that is kept open between requests.

    Args:
        timeout_s: Longest silence of a server, in seconds.
        ca_file: PEM file of the certificate authorities to trust instead of the system's.
        identity: For a server that asks for a certificate (mutual TLS).
        pace: See `Pace`.
        proxy: What stands between us and servers.
        patience: How long all of it together may take; None is for ever.
        authorities: Who vouched for servers before, of many that are trusted.

    Raises:
        ConfigError: `bad-ca-file`, `bad-identity`.
    """

    def __init__(
        self,
        *,
        timeout_s: float,
        ca_file: str | None = None,
        identity: ClientIdentity | None = None,
        pace: Pace | None = None,
        proxy: Route | None = None,
        patience: Patience | None = None,
        authorities: Authorities | None = None,
    ) -> None:
        self._patience = patience
        self._proxy = proxy
        self._timeout_s = timeout_s
        self._ca_file = ca_file
        self._identity = identity
        self._pace = pace or Pace()
        self._authorities = authorities
        self._tls: dict[tuple[bool, bytes | None], ssl.SSLContext] = {}  # with our certificate, and without
        self._kept: tuple[str, http.client.HTTPConnection] | None = None
        # A wrong path is a configuration error: say so at once.
        if identity is not None:
            self._tls_context(identified=True, only=self._vouches(identity.home))
        elif ca_file is not None and not (authorities and authorities.has_read(ca_file)):
            self._tls_context(identified=False)

    def get(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        ceiling: int,
        form: bytes | None = None,
        allowance: Allowance | None = None,
        secret: bool | None = None,
    ) -> Response:
        """Send one GET request; redirects and authentication are the caller's.

        Args:
            url: Absolute http or https URL.
            headers: Added to `Host`, `User-Agent` and `Accept-Encoding: identity`.
            ceiling: Bytes of body the caller is ready to read.
            form: Sent as a form by POST instead, for what must not stand in a URL.
            allowance: What the body may take of the link.
            secret: Whether headers or form hold one; None: a form does, and an `Authorization`.

        Raises:
            TransportError: `network`, `too-slow`, `too-large`, `bad-response`; `denied`: a proxy would read a password.
        """
        parts = urlsplit(url)
        place = origin(parts)
        if secret is None:
            secret = form is not None or "Authorization" in headers
        if parts.scheme == "http" and secret and self._through(parts):
            raise TransportError(
                "denied", f"a password for {parts.netloc} goes through a proxy over TLS only; not sent"
            )
        with _http_failures(parts.netloc):
            connection, answer = self._answered(place, parts, headers, ceiling, form, allowance)
        if (answer.headers.get("Content-Encoding") or "identity").lower() != "identity":
            connection.close()
            raise TransportError("bad-response", f"{parts.netloc} compressed its answer unasked")

        def release(complete: bool) -> None:
            if complete and connection.sock is not None and self._kept is None:
                self._kept = (place, connection)
            else:
                connection.close()

        return Response(answer, parts.netloc, release, allowance)

    def post(
        self, url: str, headers: Mapping[str, str], body: bytes, *, ceiling: int, secret: bool
    ) -> Response:
        """Send one POST request. It may arrive twice, if a kept connection breaks while it is sent.

        Args:
            url: Absolute http or https URL.
            headers: As for `get`, `Content-Type` among them.
            body: All of it.
            ceiling: Bytes of the answer's body the caller is ready to read.
            secret: Whether headers or body hold a secret.

        Raises:
            TransportError: as `get`.
        """
        return self.get(url, headers, ceiling=ceiling, form=body, secret=secret)

    def close(self) -> None:
        """Close the kept connection."""
        if self._kept is not None:
            self._kept[1].close()
            self._kept = None

    def _answered(
        self,
        place: str,
        parts: SplitResult,
        headers: Mapping[str, str],
        ceiling: int,
        form: bytes | None,
        allowance: Allowance | None,
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        # Taking the kept connection out while it is used makes a request during a blob open its own.
        if self._kept is not None and self._kept[0] == place:
            (_, connection), self._kept = self._kept, None
            # The server may have closed it at any time; only a fresh connection tells whether it is there.
            with contextlib.suppress(OSError, http.client.HTTPException):
                return connection, self._ask(connection, parts, headers, ceiling, form, allowance)
        connection = self._connect(parts)
        try:
            return connection, self._ask(connection, parts, headers, ceiling, form, allowance)
        except ssl.SSLCertVerificationError:
            # The server may have gone to another of the authorities that are trusted: all of them, once more.
            if self._authorities is None or not self._authorities.forget(place):
                raise
        connection = self._connect(parts)
        return connection, self._ask(connection, parts, headers, ceiling, form, allowance)

    def _vouches(self, place: str) -> bytes | None:
        """Return the one authority that is needed for a server, if that is known."""
        return self._authorities.known(place, self._ca_file) if self._authorities else None

    def _left_s(self, most_s: float, host: str) -> float:
        """Return how long the next step may take: at most `most_s`.

        Raises:
            TransportError: `too-slow`: nothing is left.
        """
        if self._patience is None:
            return most_s
        left_s = self._patience.left_s
        if left_s <= 0:
            raise TransportError("too-slow", f"{host} takes longer than there is time to ask")
        return min(most_s, left_s)

    def _through(self, parts: SplitResult) -> Proxy | None:
        """Return the proxy that a URL is asked for through; None: directly."""
        if self._proxy is None:
            return None
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return self._proxy.towards(parts.scheme, parts.hostname or "", port)

    def _connect(self, parts: SplitResult) -> http.client.HTTPConnection:
        assert parts.hostname is not None  # noqa: S101  checked by whoever made the URL
        timeout_s = self._left_s(self._timeout_s, parts.netloc)
        # Without a port http.client would take the last group of an IPv6 address for one.
        if parts.scheme == "https":
            identified = self._identity is not None and self._identity.home == origin(parts)
            return _SecureConnection(
                parts.hostname,
                parts.port or 443,
                timeout=timeout_s,
                context=self._tls_context(identified=identified, only=self._vouches(origin(parts))),
            )
        return http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=timeout_s)

    def _ask(
        self,
        connection: http.client.HTTPConnection,
        parts: SplitResult,
        headers: Mapping[str, str],
        ceiling: int,
        form: bytes | None,
        allowance: Allowance | None,
    ) -> http.client.HTTPResponse:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        through = self._through(parts)
        if through and parts.scheme == "http":
            # The proxy itself is asked (RFC 9112 3.2.2, absolute form).
            target, headers = f"http://{parts.netloc}{target}", {**through.headers(), **headers}
        try:
            if connection.sock is None:
                # http.client's own would try all addresses, and read a proxy's answer without bounds.
                cast(Any, connection)._create_connection = _way(through, tunnel=parts.scheme == "https")
                connection.connect()
                connected: Any = connection.sock
                if self._authorities and parts.scheme == "https":
                    self._authorities.learn(origin(parts), self._ca_file, connected)
                connection.sock = MeteredSocket(connected)
            metered: Any = connection.sock
            pace = self._pace
            if allowance and allowance.bytes_per_s:
                # We make the server slow ourselves: that is no attack of its own.
                pace = replace(pace, min_rate_bytes_s=min(pace.min_rate_bytes_s, allowance.bytes_per_s / 2))
                metered.receive_at_most(allowance.buffer_bytes)
            metered.meter = Meter(
                pace,
                2 * ceiling + _OVERHEAD_BYTES,
                parts.netloc,
                # What the body may take at the least rate: headers have no share, or they would be a hiding place.
                patience_s=self._left_s(pace.window_s + ceiling / pace.min_rate_bytes_s, parts.netloc),
            )
            kind = {} if form is None else {"Content-Type": "application/x-www-form-urlencoded"}
            sent = {"User-Agent": _USER_AGENT, **kind, **headers}
            try:
                connection.request("GET" if form is None else "POST", target, body=form, headers=sent)
            except (ssl.SSLEOFError, BrokenPipeError, ConnectionResetError):
                # TLS 1.3 refuses a client's certificate after the handshake: the reason may wait to be read.
                metered.makefile("rb").read(1)
                raise
            return connection.getresponse()
        except BaseException:
            connection.close()
            raise

    def _tls_context(self, *, identified: bool, only: bytes | None = None) -> ssl.SSLContext:
        """Return what TLS is spoken with: as trusted as the CA file, or as `only` one authority of it (DER)."""
        if (identified, only) not in self._tls:
            try:
                cafile = self._ca_file if only is None else None
                # It verifies, names included; the system's authorities count where none is given.
                context = ssl.create_default_context(cafile=cafile, cadata=only)
                context.minimum_version = ssl.TLSVersion.TLSv1_2
            except OSError as error:
                raise ConfigError("bad-ca-file", f"cannot use CA file {self._ca_file}: {error}") from error
            if identified and self._identity is not None:
                _identify(context, self._identity)
            self._tls[identified, only] = context
        return self._tls[identified, only]


class _SecureConnection(http.client.HTTPSConnection):
    """TLS to a host whose name is ASCII, as URLs here are: without looking it up in the tables of Unicode (1 MiB)."""

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        context: ssl.SSLContext = cast(Any, self)._context
        self.sock = context.wrap_socket(self.sock, server_hostname=cast(Any, self.host.encode("ascii")))


def _identify(context: ssl.SSLContext, identity: ClientIdentity) -> None:
    """Have a context show our certificate; a key that an OpenSSL provider decodes is one too."""

    def no_terminal() -> str:  # OpenSSL would ask for the passphrase of an encrypted key, and wait
        raise OSError("the key is encrypted")

    try:
        context.load_cert_chain(identity.certificate, identity.key, password=no_terminal)
    except OSError as error:
        raise ConfigError(
            "bad-identity",
            f"certificate {identity.certificate} and key {identity.key} cannot be used: "
            f"{getattr(error, 'reason', None) or error.strerror or error}; see edgewright-agent identity show",
        ) from error


def _way(through: Proxy | None, *, tunnel: bool) -> Callable[..., socket.socket]:
    """Return what makes a connection to a server: through a proxy, or directly."""
    if through is None:
        return _reach

    def reach(address: tuple[str, int], timeout_s: float, _source: object = None) -> socket.socket:
        return through.tunnel(_reach, address, timeout_s) if tunnel else through.reach(_reach, timeout_s)

    return reach


def _reach(address: tuple[str, int], timeout_s: float, _source: object = None) -> socket.socket:
    """Connect to one of a host's first addresses, in `timeout_s` seconds for all of them together.

    Raises:
        OSError: none can be reached; what the first of them, the preferred one, said.
    """
    host, port = address
    found = _first_of(socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM))
    failed: OSError | None = None
    for family, kind, protocol, _, place in found:
        connecting = None
        try:
            connecting = socket.socket(family, kind, protocol)  # of a family that the kernel may not have
            connecting.settimeout(timeout_s / len(found))
            connecting.connect(place)
        except OSError as error:
            if connecting is not None:
                connecting.close()
            failed = failed or error
        else:
            connecting.settimeout(timeout_s)
            return connecting
    raise failed or OSError("the name has no address")


def _first_of(found: Sequence[_Address]) -> list[_Address]:
    """Return the addresses to try: whoever owns a name could give it hundreds that never answer.

    The families take turns, in the order of the first of each (RFC 8305 4): all of one may lead nowhere from here.
    """
    families = dict.fromkeys(address[0] for address in found)
    by_family = [[address for address in found if address[0] == family] for family in families]
    turns = [address for turn in zip_longest(*by_family) for address in turn if address is not None]
    return turns[:_MAX_ADDRESSES]


@contextlib.contextmanager
def _http_failures(host: str) -> Iterator[None]:
    try:
        yield
    except http.client.IncompleteRead:
        raise BrokenAnswerError("truncated", f"{host} ended its answer early") from None
    except http.client.HTTPException as error:
        raise BrokenAnswerError(
            "bad-response", f"{host} does not speak HTTP: {type(error).__name__}"
        ) from error
    except ssl.SSLCertVerificationError as error:
        raise TransportError(
            "network",
            f"the certificate of {host} is not trusted ({error.verify_message}); is caFile right, "
            "or is a login page in between?",
        ) from error
    except ssl.SSLError as error:
        reason = (error.reason or "").lower()
        # What a server says that asks for a certificate and does not like ours (RFC 8446 6.2).
        if "alert" in reason and ("certificate" in reason or "unknown_ca" in reason):
            said = reason.partition("alert_")[2].replace("_", " ")
            raise TransportError(
                "denied",
                f"{host} does not accept this device's certificate ({said}); see edgewright-agent identity show",
            ) from error
        raise TransportError("network", f"{host} cannot be reached: {error}") from error
    except TimeoutError:
        raise TransportError("network", f"{host} stopped answering") from None
    except UnicodeError:
        raise TransportError("network", f"{host!r} is not a host name") from None
    except ValueError:  # http.client takes the size of a chunk as it comes, a negative one as well
        raise BrokenAnswerError("bad-response", f"{host} sends a chunk of no length that there is") from None
    except OSError as error:
        raise TransportError("network", f"{host} cannot be reached: {error}") from error
