"""One HTTP exchange with a registry, made patient: retries, redirects, log-in, time-outs, plain errors.

>>> exchange = Exchange("https://registry.example")
>>> exchange.send("GET", "https://registry.example/v2/", scope="acme/digit-reader").status  # doctest: +SKIP
200
"""

from __future__ import annotations

import email.utils
import json
import random
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlencode, urljoin, urlsplit

import requests

from edgewright.errors import EnvironmentFault, NetworkError, SpecError
from edgewright.publish.credential_helper import ask
from edgewright.publish.durable import storage
from edgewright.publish.http_auth import (
    IDENTITY_TOKEN,
    PULL,
    PUSH,
    Challenge,
    Credentials,
    basic_header,
    may_carry_secrets,
    origin,
    parse_challenge,
    token_of,
    token_request,
)
from edgewright.publish.http_pace import Pace, PacedAdapter, Unbearable

TRANSIENT = frozenset({429, 502, 503, 504})
# docker-registry 2.8 answers 500 to a read of a tag that somebody else is just moving.
READING = frozenset({"GET", "HEAD"})
ATTEMPTS = 5
BACKOFF_S = 0.25  # doubled after every attempt: at most 4 s in all without Retry-After
MAX_RETRY_AFTER_S = 30.0
MAX_REDIRECTS = 5
MAX_ANSWER_BYTES = 512 * 1024
TIMEOUT_S = (10.0, 120.0)  # connect, between two reads (a registry hashes a large upload before it answers)

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """What a server said.

    Attributes:
        url: Where it was said, after redirects.
        body: At most the limit the caller gave.
        complete: Whether `body` is all of it.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    complete: bool


class Transient(Exception):
    """An exchange that may work a moment later."""

    def __init__(self, sentence: str, wait_s: float | None = None) -> None:
        super().__init__(sentence)
        self.wait_s = wait_s


class _NoAuth(requests.auth.AuthBase):
    """Keeps requests from looking into ~/.netrc."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


@dataclass
class Exchange:
    """A session with one registry; log-ins are remembered per repository, those to read apart from those to write.

    Certificates are always verified. The proxies of the environment (`HTTPS_PROXY`, `NO_PROXY`) are used for https,
    where they see nothing but the host; plain http goes past them.

    Attributes:
        registry_url: Address of the registry; log-ins are answered there and nowhere else.
        credentials: User name and password; sent to the registry itself (Basic) or to the realm it names
            (Bearer), over TLS or within this machine.
        helper: Instead of them: the credential helper that is asked once the registry wants a log-in.
        ca_file: Certificate authority of a private registry, PEM.
        client: Certificate and key (PEM files) for a registry that asks for one; shown to nobody else.
        sleep: Waits between attempts; a test hands in its own.
    """

    registry_url: str
    credentials: Credentials | None = field(default=None, repr=False)
    helper: str | None = None
    ca_file: Path | None = None
    client: tuple[Path, Path] | None = None
    pace: Pace = field(default_factory=Pace)
    timeout_s: tuple[float, float] = TIMEOUT_S
    attempts: int = ATTEMPTS
    sleep: Callable[[float], None] = time.sleep
    _session: requests.Session = field(default_factory=requests.Session, repr=False)
    _authorization: dict[tuple[str, str], str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._session.auth = _NoAuth()
        # Never compressed: a short answer could become a long one.
        self._session.headers.update({"User-Agent": "edgewright", "Accept-Encoding": "identity"})
        self._session.mount("https://", PacedAdapter(self.pace))
        self._session.mount("http://", PacedAdapter(self.pace))
        if (self.credentials or self.helper) and not may_carry_secrets(self.registry_url):
            raise SpecError(f"registry.url {self.registry_url}: a password is not sent over plain http")
        if self.ca_file is not None and not self.ca_file.is_file():
            raise EnvironmentFault(f"registry.caFile {self.ca_file} does not exist")
        for name, file in zip(("clientCertificate", "clientKey"), self.client or (), strict=False):
            if not file.is_file():
                raise EnvironmentFault(f"registry.{name} {file} does not exist")

    def retrying(self, action: Callable[[], T]) -> T:
        """Return what `action` returns, trying again after `Transient` failures.

        Raises:
            NetworkError: it kept failing.
        """
        for attempt in range(1, self.attempts + 1):
            try:
                return action()
            except Transient as error:
                if attempt == self.attempts:
                    raise NetworkError(
                        f"{error}, {attempt} times in a row", hint="run the same command again; it continues"
                    ) from error
                # Jitter, so that the lanes of one run do not come back at once.
                backoff_s = BACKOFF_S * 2 ** (attempt - 1) * random.uniform(0.5, 1.0)  # noqa: S311
                self.sleep(backoff_s if error.wait_s is None else error.wait_s)
        raise AssertionError("unreachable")

    def send(
        self,
        method: str,
        url: str,
        *,
        scope: str,
        headers: Mapping[str, str] | None = None,
        content: bytes | Path | None = None,
        limit: int = MAX_ANSWER_BYTES,
        into: Path | None = None,
    ) -> Answer:
        """Make one exchange, logging in when asked to and following redirects.

        Args:
            scope: Repository path the log-in is for.
            content: Body; a path is streamed and opened anew whenever the body must be sent again.
            limit: Longest answer that is read, in bytes.
            into: File for the body of an answer of 200, which is not kept in memory then.

        Raises:
            Transient: try again later (use `retrying`).
            NetworkError: refused connection, unknown host, bad certificate, refused log-in.
        """
        home = origin(self.registry_url)
        actions = PULL if method in READING else PUSH
        logged_in = False
        for _ in range(MAX_REDIRECTS + 2):
            if home[0] == "https" and origin(url)[0] != "https":
                raise NetworkError(f"{self.registry_url} leads to {url}, which is not encrypted; refused")
            if origin(url)[0] not in ("http", "https") or "@" in urlsplit(url).netloc:
                raise NetworkError(f"{self.registry_url} leads to {url[:200]!r}; refused")
            # Only the registry itself sees its log-in; storage servers it leads to do not.
            at_home = origin(url) == home
            sent = dict(headers or {})
            if at_home and (scope, actions) in self._authorization:
                sent["Authorization"] = self._authorization[scope, actions]
            answer = self._once(method, url, sent, content, limit, into)
            if answer.status == 401 and at_home and not logged_in:
                challenge = parse_challenge(answer.headers.get("WWW-Authenticate", ""))
                self._authorization[scope, actions] = self._log_in(challenge, url, scope, actions)
                logged_in = True
            elif answer.status in (301, 302, 303, 307, 308) and "Location" in answer.headers:
                url = led_to(answer)
            elif answer.status in TRANSIENT or (answer.status == 500 and method in READING):
                raise Transient(explain(answer), _retry_after_s(answer.headers))
            else:
                return answer
        raise NetworkError(f"{url} keeps redirecting")

    def _log_in(self, challenge: Challenge, url: str, scope: str, actions: str) -> str:
        host = urlsplit(url).netloc
        if self.credentials is None and self.helper is not None:
            self.credentials = ask(self.helper, host)
        username = self.credentials[0] if self.credentials else None
        if challenge.scheme == "basic":
            if self.credentials is None:
                raise NetworkError(f"{host} asks for a log-in", hint="set registry.credentials in fleet.yaml")
            if username == IDENTITY_TOKEN:
                raise NetworkError(f"{host} asks for a password, but the credential helper has a token")
            return basic_header(self.credentials)
        if challenge.scheme != "bearer":
            raise NetworkError(f"{host} asks for a log-in of an unknown kind ({challenge.scheme[:40]!r})")
        realm, query = token_request(challenge, url, scope, actions, with_secret=username is not None)
        answer = self._ask_for_token(realm, query)
        if answer.status in TRANSIENT:
            raise Transient(explain(answer), _retry_after_s(answer.headers))
        if answer.status != 200:
            raise NetworkError(f"the log-in at {realm} failed: {explain(answer)}", hint=_LOGIN_HINT)
        return f"Bearer {token_of(answer.body, realm)}"

    def _ask_for_token(self, realm: str, query: list[tuple[str, str]]) -> Answer:
        if self.credentials is not None and self.credentials[0] == IDENTITY_TOKEN:
            # distribution, "OAuth2 Token Authentication": POST, so that the token stands in no URL.
            grant = [("grant_type", "refresh_token"), ("refresh_token", self.credentials[1])]
            form = urlencode([*grant, ("client_id", "edgewright"), *query]).encode()
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            return self._once("POST", realm, headers, form, MAX_ANSWER_BYTES)
        address = requests.Request("GET", realm, params=query).prepare().url or realm
        headers = {"Authorization": basic_header(self.credentials)} if self.credentials else {}
        return self._once("GET", address, headers, None, MAX_ANSWER_BYTES)

    def _once(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        content: bytes | Path | None,
        limit: int,
        into: Path | None = None,
    ) -> Answer:
        host = urlsplit(url).netloc
        # Given per request: a session-wide setting would lose against REQUESTS_CA_BUNDLE.
        verify = str(self.ca_file) if self.ca_file is not None else True
        # A proxy would read what is not encrypted; "" is requests' word for none.
        proxies = {"http": ""} if url.startswith("http:") else None
        at_home = origin(url) == origin(self.registry_url)
        client = (str(self.client[0]), str(self.client[1])) if self.client and at_home else None
        try:
            with ExitStack() as stack:
                body = stack.enter_context(content.open("rb")) if isinstance(content, Path) else content
                response = stack.enter_context(
                    self._session.request(
                        method,
                        url,
                        headers=dict(headers),
                        data=body,
                        timeout=self.timeout_s,
                        allow_redirects=False,
                        stream=True,
                        verify=verify,
                        proxies=proxies,
                        cert=client,
                    )
                )
                if (response.headers.get("Content-Encoding") or "identity").lower() != "identity":
                    raise NetworkError(f"{host} compressed its answer unasked")
                if into is not None and response.status_code == 200:
                    complete = _save(response, limit, into)
                    return Answer(url, response.status_code, response.headers, b"", complete)
                received = _read(response, limit + 1)
        except Unbearable as error:
            raise NetworkError(f"{host} {error}", hint="try again, or from another network") from None
        except requests.exceptions.SSLError as error:
            if "alert" in str(error).lower() and "certificate" in str(error).lower():
                raise NetworkError(
                    f"{host} does not accept this client's certificate: {_innermost(error)}",
                    hint="set registry.clientCertificate and registry.clientKey in fleet.yaml",
                ) from error
            raise NetworkError(
                f"the certificate of {host} cannot be verified: {_innermost(error)}",
                hint="for a private certificate authority set registry.caFile in fleet.yaml",
            ) from error
        except requests.exceptions.Timeout as error:
            raise Transient(f"{host} did not answer in time") from error
        except requests.exceptions.ConnectionError as error:
            cause = _innermost(error)
            if isinstance(cause, ConnectionRefusedError) or "refused" in str(cause):
                raise NetworkError(
                    f"no registry answers at {host} (connection refused)",
                    hint="start the registry, or correct registry.url in fleet.yaml",
                ) from error
            if "resolve" in str(error).lower():
                raise NetworkError(
                    f"the host {host} is unknown", hint="check registry.url in fleet.yaml"
                ) from error
            raise Transient(f"the connection to {host} broke ({cause})") from error
        except requests.exceptions.RequestException as error:
            raise Transient(f"the exchange with {host} failed ({error})") from error
        except ValueError as error:  # requests takes a Location apart even when it is told not to follow
            raise NetworkError(f"{host} leads to a place which is no address ({error})") from None
        return Answer(url, response.status_code, response.headers, received[:limit], len(received) <= limit)


_LOGIN_HINT = "check registry.credentials in fleet.yaml"


def explain(answer: Answer) -> str:
    """Return one clause about a failed exchange, with the registry's own words when it gave any."""
    host = urlsplit(answer.url).netloc
    if answer.status in (401, 403):
        return f"{host} refuses the log-in (HTTP {answer.status})"
    try:
        first = json.loads(answer.body)["errors"][0]
        said = f": {first.get('code', '')} {first.get('message', '')}".rstrip()
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        said = ""
    return f"{host} answers HTTP {answer.status}{said}"


def led_to(answer: Answer) -> str:
    """Return the address in a `Location` header.

    Raises:
        NetworkError: it is none.
    """
    location = answer.headers["Location"]
    try:
        url = urljoin(answer.url, location)
        origin(url)
    except ValueError:
        host = urlsplit(answer.url).netloc
        raise NetworkError(f"{host} leads to {location[:200]!r}, which is no address") from None
    return url


def failure(doing: str, answer: Answer) -> NetworkError:
    """Return the error for an answer nothing can be done about."""
    hint = _LOGIN_HINT if answer.status in (401, 403) else None
    return NetworkError(f"cannot {doing}: {explain(answer)}", hint=hint)


def _read(response: requests.Response, limit: int) -> bytes:
    received = bytearray()
    for piece in response.iter_content(64 * 1024):
        received += piece
        if len(received) >= limit:
            break
    return bytes(received[:limit])


def _save(response: requests.Response, limit: int, path: Path) -> bool:
    """Write a body to a file as it comes; return whether it ended within the limit."""
    with storage("write", path):
        out = path.open("wb")
    with out:
        for piece in response.iter_content(256 * 1024):
            if out.tell() + len(piece) > limit:
                return False
            with storage(
                "write", path
            ):  # not round the reading: what requests raises are operating system errors too
                out.write(piece)
    return True


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the wait a server asks for (RFC 9110, 10.2.3), bounded; None when it asks for none."""
    text = headers.get("Retry-After", "").strip()
    if not text:
        return None
    if text.isascii() and text.isdecimal():
        seconds = float(text)
    else:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except (TypeError, ValueError):
            return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


def _innermost(error: BaseException) -> BaseException:
    seen: BaseException = error
    for _ in range(10):
        reason = getattr(seen, "reason", None)
        arguments = [part for part in seen.args if isinstance(part, BaseException)]
        deeper = reason if isinstance(reason, BaseException) else next(iter(arguments), seen.__cause__)
        if deeper is None or deeper is seen:
            break
        seen = deeper
    return seen
