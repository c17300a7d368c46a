"""Who gets to see the password: the registry and the token service it may name, nobody else."""

from __future__ import annotations

import base64
import json
import shutil
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from authority import Authority, TokenServer
from conftest import PASSWORD, READER, USERNAME
from edgewright_agent.contract import OCI_MANIFEST
from edgewright_agent.errors import TransportError
from edgewright_agent.transport import open_source
from edgewright_agent.transport.auth import Credentials, _may_see_credentials, parse_challenge
from edgewright_agent.transport.registry import RegistrySource
from real import Registry
from unit.agent.transport.conftest import WEIGHTS, Release
from unit.agent.transport.liar import Liar, answer
from unit.agent.transport.test_sources import refuses

MANIFEST = b'{"schemaVersion":2}'
AT = "/v2/acme/model/manifests/1"
OK = answer(200, MANIFEST, Content_Type=OCI_MANIFEST)
BASIC = "Basic " + base64.b64encode(b"edge:secret").decode()


def source(liar: Liar) -> RegistrySource:
    return RegistrySource(f"{liar.url}/acme", username="edge", password="secret", timeout_s=5)


# --- real registries ---------------------------------------------------------------------------------------


def test_a_registry_with_basic_authentication_serves_its_users(
    registry_with_basic_auth: Registry, release: Release
) -> None:
    registry = registry_with_basic_auth
    release.shelf.push(registry.url, authorization=Credentials(USERNAME, PASSWORD).basic())
    made = open_source(registry.url, username=USERNAME, password=PASSWORD)
    assert made.manifest("digit-reader", "1.0.0") is not None
    assert b"".join(made.blob("digit-reader", release.weights, size=len(WEIGHTS))) == WEIGHTS
    assert len(made.referrers("digit-reader", release.digest)) == 1


def test_wrong_and_missing_credentials_are_denied(registry_with_basic_auth: Registry) -> None:
    url = registry_with_basic_auth.url
    for login in ({}, {"username": USERNAME, "password": "wrong"}):
        made = open_source(url, **login)
        refuses("denied", lambda made=made: made.manifest("digit-reader", "1.0.0"))  # type: ignore[misc]


def test_a_registry_with_token_authentication_serves_a_reader(
    registry_with_token_auth: Registry, token_server: TokenServer, release: Release
) -> None:
    registry = registry_with_token_auth
    token = token_server.token(USERNAME, ["repository:acme/digit-reader:pull,push"])
    release.shelf.push(f"{registry.url}/acme", authorization=f"Bearer {token}")
    token_server.granted.clear()
    made = open_source(f"{registry.url}/acme", username=READER[0], password=READER[1])
    manifest = made.manifest("digit-reader", "1.0.0")
    assert manifest is not None
    assert made.manifest("digit-reader", "1.0.0", etag=manifest.etag) is None
    assert b"".join(made.blob("digit-reader", release.weights, size=len(WEIGHTS))) == WEIGHTS
    scope = "repository:acme/digit-reader:pull"
    assert token_server.granted == [("device", [scope], [scope])], "one token, for one repository, to pull"


def test_a_token_service_that_refuses_means_denied(registry_with_token_auth: Registry) -> None:
    made = open_source(registry_with_token_auth.url, username="device", password="wrong")
    refuses("denied", lambda: made.manifest("digit-reader", "1.0.0"))


def test_a_private_authority_is_trusted_only_where_the_configuration_says_so(
    tls_registry: Registry, authority: Authority
) -> None:
    trusted = open_source(tls_registry.url, ca_file=str(authority.ca_file))
    refuses("not-found", lambda: trusted.manifest("digit-reader", "1.0.0"))
    untrusted = open_source(tls_registry.url)
    assert "caFile" in refuses("network", lambda: untrusted.manifest("digit-reader", "1.0.0"))
    # The right authority and address, by a name that is not in the certificate.
    elsewhere = open_source(f"https://127.1:{tls_registry.port}", ca_file=str(authority.ca_file))
    assert "is not trusted" in refuses("network", lambda: elsewhere.manifest("digit-reader", "1.0.0"))


# --- challenges that lie -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "challenge",
    [
        "Negotiate",
        "Bearer",
        'Bearer realm="not a url"',
        'Bearer realm="file:///etc/passwd"',
        'Bearer realm="http://user:pw@127.0.0.1/"',
        'Bearer realm="http://[::1"',
        'Bearer realm="http://host:99999/"',
        "x" * 9000,
        "",
    ],
)
def test_a_challenge_that_makes_no_sense_is_refused(liar: Liar, challenge: str) -> None:
    liar.says(AT, answer(401, WWW_Authenticate=challenge))
    assert refuses(
        "denied" if len(challenge) > 8192 else "bad-response", lambda: source(liar).manifest("model", "1")
    )
    assert all("Authorization" not in headers for _, headers in liar.requests)


def token_path(service: str = "s") -> str:
    return f"/token?scope=repository%3Aacme%2Fmodel%3Apull&service={service}"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"token":1}',
        b'{"token":"a\\r\\nHost: evil"}',
        b'{"token":""}',
        b"x" * 70_000,
        b"[" * 9000,
    ],
)
def test_a_token_that_is_none_is_refused(liar: Liar, body: bytes) -> None:
    liar.says(AT, answer(401, WWW_Authenticate=f'Bearer realm="{liar.url}/token",service="s"'))
    liar.says(token_path(), answer(200, body))
    code = "too-large" if len(body) > 65536 else "bad-response"
    refuses(code, lambda: source(liar).manifest("model", "1"))


@pytest.mark.parametrize(
    ("status", "code", "wait_s"),
    [(429, "busy", 3600.0), (503, "busy", 3600.0), (500, "network", None), (404, "bad-response", None)],
)
def test_a_token_service_that_cannot_answer_now_is_asked_later(
    liar: Liar, status: int, code: str, wait_s: float | None
) -> None:
    liar.says(AT, answer(401, WWW_Authenticate=f'Bearer realm="{liar.url}/token",service="s"'))
    liar.says(token_path(), answer(status, Retry_After="3600"))
    with pytest.raises(TransportError) as failed:
        source(liar).manifest("model", "1")
    assert (failed.value.code, getattr(failed.value, "retry_after_s", None)) == (code, wait_s)


def test_a_token_is_used_again_until_it_is_refused(liar: Liar) -> None:
    challenge = answer(401, WWW_Authenticate=f'Bearer realm="{liar.url}/token",service="s"')
    accepted = ["Bearer first"]
    liar.says(AT, lambda headers: [OK if headers.get("Authorization") in accepted else challenge])
    liar.says(token_path(), answer(200, b'{"token":"first","expires_in":300}'))
    made = source(liar)
    made.manifest("model", "1")
    made.manifest("model", "1")
    assert [path for path, _ in liar.requests].count(token_path()) == 1
    accepted[:] = ["Bearer second"]
    liar.says(token_path(), answer(200, b'{"access_token":"second"}'))
    assert made.manifest("model", "1") is not None


def test_a_registry_that_is_never_content_is_denied(liar: Liar) -> None:
    liar.says(AT, answer(401, WWW_Authenticate='Basic realm="x"'))
    made = source(liar)
    refuses("denied", lambda: made.manifest("model", "1"))
    refuses("denied", lambda: made.manifest("model", "1"))
    assert len(liar.requests) <= 4


def test_the_password_goes_to_no_other_host_without_tls(liar: Liar) -> None:
    with Liar() as thief:
        realm = thief.url.replace("127.0.0.1", "localhost")
        liar.says(AT, answer(401, WWW_Authenticate=f'Bearer realm="{realm}/token",service="s"'))
        refuses("denied", lambda: source(liar).manifest("model", "1"))
        assert thief.requests == []


def test_without_a_password_an_anonymous_token_may_come_from_anywhere(liar: Liar) -> None:
    with Liar() as service:
        challenge = answer(401, WWW_Authenticate=f'Bearer realm="{service.url}/token",service="s"')
        liar.says(AT, lambda headers: [OK if headers.get("Authorization") == "Bearer t" else challenge])
        service.says(token_path(), answer(200, b'{"token":"t"}'))
        assert RegistrySource(f"{liar.url}/acme").manifest("model", "1") is not None
        assert "Authorization" not in service.requests[0][1]


@pytest.mark.parametrize(
    ("registry", "realm", "allowed"),
    [
        ("https://registry.example", "https://registry.example/token", True),
        ("https://registry.example", "https://auth.example/token", True),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5001/token", True),
        ("http://127.0.0.1:5000", "http://localhost:5001/token", False),
        ("http://registry.local:5000", "http://registry.local:5001/token", False),
        ("http://registry.local:5000", "https://auth.example/token", False),
        ("http://registry.local:5000", "http://auth.local/token", False),
    ],
)
def test_who_may_see_the_password(registry: str, realm: str, allowed: bool) -> None:
    assert _may_see_credentials(urlsplit(realm), urlsplit(registry)) is allowed


def test_a_challenge_is_read_with_and_without_quotes() -> None:
    challenge = parse_challenge('bearer Realm="https://a/?x=1,2", service=reg , error="insufficient_scope"')
    assert challenge.scheme == "bearer"
    assert challenge.params == {"realm": "https://a/?x=1,2", "service": "reg", "error": "insufficient_scope"}


def test_a_password_is_never_printed() -> None:
    assert "secret" not in repr(Credentials("edge", "secret"))


# --- redirects ---------------------------------------------------------------------------------------------


def test_a_redirect_is_followed_with_the_request_but_without_the_password(liar: Liar) -> None:
    with Liar() as mirror:
        want = 'Basic realm="x"'
        away = answer(307, Location=f"{mirror.url}/elsewhere?sig=1")
        liar.says(
            AT,
            lambda headers: [
                away if headers.get("Authorization") == BASIC else answer(401, WWW_Authenticate=want)
            ],
        )
        mirror.says("/elsewhere?sig=1", OK)
        assert source(liar).manifest("model", "1", etag='"seen"') is not None
        (_, headers), *more = mirror.requests
        assert not more
        assert "Authorization" not in headers
        assert headers["If-None-Match"] == '"seen"'


def test_a_redirect_within_the_registry_keeps_the_password(liar: Liar) -> None:
    def guarded(reply: bytes):  # type: ignore[no-untyped-def]
        denied = answer(401, WWW_Authenticate='Basic realm="x"')
        return lambda headers: [reply if headers.get("Authorization") == BASIC else denied]

    liar.says(AT, guarded(answer(302, Location="../manifests/2")))
    liar.says("/v2/acme/model/manifests/2", guarded(OK))
    assert source(liar).manifest("model", "1") is not None


def test_another_host_that_asks_for_the_password_does_not_get_it(liar: Liar) -> None:
    with Liar() as thief:
        thief.says("/x", answer(401, WWW_Authenticate='Basic realm="x"'))
        liar.says(AT, answer(302, Location=f"{thief.url}/x"))
        refuses("denied", lambda: source(liar).manifest("model", "1"))
        assert ["Authorization" in headers for _, headers in thief.requests] == [False]


def test_redirects_in_a_circle_are_given_up(liar: Liar) -> None:
    liar.says(AT, answer(302, Location=AT))
    refuses("bad-response", lambda: source(liar).manifest("model", "1"))
    assert len(liar.requests) == 6


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "ftp://x/",
        "http://",
        "http://[::1",
        "http://a:99999/",
        "http://u:p@h/",
        "/a b",
        "http://é/",
    ],
)
def test_a_redirect_to_nowhere_is_refused(liar: Liar, location: str) -> None:
    liar.says(AT, answer(302, Location=location))
    refuses("bad-response", lambda: source(liar).manifest("model", "1"))


def test_a_redirect_without_a_target_is_refused(liar: Liar) -> None:
    liar.says(AT, answer(302))
    refuses("bad-response", lambda: source(liar).manifest("model", "1"))


def test_a_redirect_from_https_to_http_is_refused(liar: Liar, authority: Authority, tmp_path: Path) -> None:
    target = f"{liar.url}/plain"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", target)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.server)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        ca_file = shutil.copy(authority.ca_file, tmp_path)
        made = open_source(f"https://127.0.0.1:{server.server_port}", ca_file=str(ca_file))
        refuses("bad-response", lambda: made.manifest("model", "1"))
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert liar.requests == []


def test_a_token_service_may_not_redirect(liar: Liar) -> None:
    liar.says(AT, answer(401, WWW_Authenticate=f'Bearer realm="{liar.url}/token",service="s"'))
    liar.says(token_path(), answer(302, Location="/other"))
    refuses("bad-response", lambda: source(liar).manifest("model", "1"))
    assert json.dumps([path for path, _ in liar.requests]).count("/other") == 0
