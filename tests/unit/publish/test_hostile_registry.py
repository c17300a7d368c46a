"""A registry that means harm: what it may cost the pipeline, and what it never gets to see."""

from __future__ import annotations

import base64
import contextlib
import gzip
import itertools
import json
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authority import Authority
from edgewright.errors import EdgewrightError, EnvironmentFault, NetworkError, SpecError
from edgewright.publish.credential_helper import ask
from edgewright.publish.http_auth import PULL, Challenge, token_request
from edgewright.publish.http_exchange import Exchange
from edgewright.publish.http_pace import MAX_HEAD_BYTES, Pace
from edgewright.publish.http_registry import HttpRegistry
from edgewright.publish.referrer import listed, referrers
from edgewright.publish.registry import MAX_TAGS, open_registry
from edgewright_agent.contract import MAX_LISTED_REFERRERS, OCI_INDEX, OCI_MANIFEST, digest_of, fallback_tag
from real import Registry
from unit.agent.transport.liar import Liar
from unit.agent.transport.liar import answer as said
from unit.publish.scripted import Reply, Scripted


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    """Return a response that says that the connection ends with it, as the liar's do."""
    return said(status, body, Connection="close", **headers)


MANIFEST = b'{"schemaVersion":2}'
DIGEST = digest_of(MANIFEST)
AT = "/v2/acme/model/manifests/1"
OK = answer(200, MANIFEST, Content_Type=OCI_MANIFEST)
LOGIN = ("edge", "s3cret")
BASIC = "Basic " + base64.b64encode(b"edge:s3cret").decode()


@pytest.fixture
def liar() -> Iterator[Liar]:
    with Liar() as made:
        yield made


def client(liar: Liar, **options: object) -> HttpRegistry:
    naps: list[float] = []
    exchange = Exchange(f"{liar.url}/acme", sleep=naps.append, **options)  # type: ignore[arg-type]
    return HttpRegistry("model", exchange)


def refuses(liar: Liar, match: str, **options: object) -> None:
    with pytest.raises(EdgewrightError, match=match) as refused:
        client(liar, **options).get_manifest("1")
    assert "s3cret" not in f"{refused.value} {refused.value.hint}"


def ticking(step_s: float = 1.0) -> Pace:
    """A clock on which every look costs a second."""
    times = itertools.count(0.0, step_s)
    return Pace(window_s=20, clock=lambda: next(times))


def endless(head: bytes, piece: bytes) -> Iterator[bytes]:
    yield head
    yield from itertools.repeat(piece)


# --- how much and how slowly -----------------------------------------------------------------------------------


HEAD = f"HTTP/1.1 200 X\r\nContent-Type: {OCI_MANIFEST}\r\n".encode()


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip"])
def test_a_compressed_answer_is_refused_before_it_is_unpacked(liar: Liar, encoding: str) -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    liar.says(AT, answer(200, bomb, Content_Type=OCI_MANIFEST, Content_Encoding=encoding))
    refuses(liar, "compressed its answer unasked")
    assert {headers["Accept-Encoding"] for _, headers in liar.requests} == {"identity"}


def test_a_body_without_an_end_is_read_to_its_limit(liar: Liar) -> None:
    liar.says(AT, lambda _headers: endless(HEAD + b"\r\n", b"x" * 65536))
    refuses(liar, "is larger than 262144 bytes")


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (HEAD, b"X-Padding: " + b"x" * 60_000 + b"\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 ", b"x" * 1000),
    ],
)
def test_headers_without_an_end_are_given_up(liar: Liar, head: bytes, piece: bytes) -> None:
    liar.says(AT, lambda _headers: endless(head, piece))
    # Either our bound or one of http.client's own; none of them reads on.
    refuses(liar, f"more than {MAX_HEAD_BYTES} bytes of headers|got more than|broke|failed")


def test_a_drip_of_bytes_is_too_slow(liar: Liar) -> None:
    liar.says(AT, lambda _headers: endless(HEAD + b"\r\n", b"x"))
    refuses(liar, r"sends \d+ B/s; the least is 1024", pace=ticking())


def test_headers_that_drip_are_too_slow(liar: Liar) -> None:
    liar.says(AT, lambda _headers: endless(HEAD + b"X-Slow: ", b"x"))
    refuses(liar, r"sends \d+ B/s; the least is 1024", pace=ticking())


def test_a_registry_that_thinks_before_it_answers_is_not_slow(liar: Liar) -> None:
    liar.says(AT, OK)
    assert client(liar, pace=ticking(step_s=40)).get_manifest("1") == MANIFEST


def test_json_nested_without_end_is_an_error_and_no_crash(liar: Liar) -> None:
    deep = b"[" * 200_000
    liar.says(AT, answer(400, deep))
    refuses(liar, "HTTP 400")
    liar.says(f"/v2/acme/model/manifests/{fallback_tag(DIGEST)}", answer(200, deep))
    with pytest.raises(NetworkError, match="is not a list of referrers"):
        listed(client(liar), DIGEST)
    liar.says(AT, answer(401, WWW_Authenticate=f'Bearer realm="{liar.url}/token"'))
    liar.says("/token?scope=repository%3Aacme%2Fmodel%3Apull", answer(200, deep))
    refuses(liar, "gave no token")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_for_an_answer_end_in_a_documented_error(liar: Liar, data: st.DataObject) -> None:
    good = answer(200, MANIFEST, Content_Type=OCI_MANIFEST, Docker_Content_Digest=DIGEST)
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, min(len(good), start + 30)))
    noise = data.draw(st.binary(max_size=20) | st.sampled_from([b"Transfer-Encoding: chunked\r\n", b"-1"]))
    liar.says(AT, good[:start] + noise + good[end:])
    with contextlib.suppress(EdgewrightError):
        client(liar, attempts=1).get_manifest("1")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(challenge=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60))
def test_any_challenge_ends_in_a_documented_error_and_gives_nothing_away(liar: Liar, challenge: str) -> None:
    liar.says(AT, answer(401, WWW_Authenticate=f"Bearer {challenge}"))
    before = len(liar.requests)
    with contextlib.suppress(EdgewrightError):
        client(liar, credentials=LOGIN, attempts=1).get_manifest("1")
    assert all("Authorization" not in headers for _, headers in liar.requests[before:])


# --- lists in pages ----------------------------------------------------------------------------------------------


LIST_AT = f"/v2/acme/model/referrers/{DIGEST}"


def page(first: int, count: int, link: str = "") -> bytes:
    digests = [digest_of(str(number).encode()) for number in range(first, first + count)]
    entries = [{"mediaType": OCI_MANIFEST, "digest": digest, "size": 1} for digest in digests]
    return answer(200, json.dumps({"manifests": entries}).encode(), Content_Type=OCI_INDEX, Link=link)


def test_referrers_come_from_all_pages_and_only_from_the_registry_asked(liar: Liar) -> None:
    liar.says(LIST_AT, page(0, 2, f'<http://evil.invalid{LIST_AT}?n=2>; rel="next"'))
    liar.says(f"{LIST_AT}?n=2", page(2, 2))
    assert [entry["digest"] for entry in referrers(client(liar), DIGEST)] == [
        digest_of(str(number).encode()) for number in range(4)
    ]


def test_pages_without_an_end_and_floods_are_cut(liar: Liar) -> None:
    liar.says(LIST_AT, page(0, 1, f'<{LIST_AT}?n>; rel="next"'))
    liar.says(f"{LIST_AT}?n", page(1, 1, f'<{LIST_AT}?n>; rel="next"'))
    assert len(referrers(client(liar), DIGEST)) == 16
    assert len(liar.requests) == 16
    liar.says(LIST_AT, page(0, 1000, f'<{LIST_AT}?n>; rel="next"'))
    assert len(referrers(client(liar), DIGEST)) == MAX_LISTED_REFERRERS
    assert len(liar.requests) == 17


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"manifests":7}', b"<html>", b"[" * 9000])
def test_a_list_that_is_none_is_an_error(liar: Liar, body: bytes) -> None:
    liar.says(LIST_AT, answer(200, body))
    with pytest.raises(NetworkError, match="something else than the referrers"):
        referrers(client(liar), DIGEST)


def test_a_registry_without_the_api_is_read_by_the_fallback_tag(liar: Liar) -> None:
    liar.says(f"/v2/acme/model/manifests/{fallback_tag(DIGEST)}", page(0, 1000))
    assert len(referrers(client(liar), DIGEST)) == MAX_LISTED_REFERRERS
    assert referrers(client(liar), digest_of(b"unknown")) == []


def test_a_flood_of_tags_is_cut_and_a_registry_that_tells_none_has_none(liar: Liar) -> None:
    at = "/v2/acme/model/tags/list?last=mine."
    liar.says(at, answer(200, json.dumps({"tags": [f"mine.{n}" for n in range(1000)]}).encode()))
    assert len(client(liar).tags("mine.")) == MAX_TAGS
    liar.says(at, answer(200, b'{"name":"x","tags":["a","mine.1","z"]}', Link='<?more>; rel="next"'))
    assert client(liar).tags("mine.") == ["mine.1"]
    for nothing in (answer(404), answer(403), answer(405), answer(200, b'{"name":"x","tags":null}')):
        liar.says(at, nothing)
        assert client(liar).tags("mine.") == []


# --- who sees the password -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("login", [{"credentials": LOGIN}, {"helper": "x"}])
def test_a_password_is_sent_over_https_or_within_this_machine(login: dict[str, object]) -> None:
    for url in ("http://registry.example/acme", "http://10.0.0.7:5000", "http://localhost.evil.example"):
        with pytest.raises(SpecError, match="not sent over plain http"):
            Exchange(url, **login)  # type: ignore[arg-type]
    for url in ("https://registry.example", "http://127.0.0.1:5000", "http://localhost:5000"):
        Exchange(url, **login)  # type: ignore[arg-type]
    Exchange("http://registry.example/acme")


@pytest.mark.parametrize(
    ("registry", "realm", "allowed"),
    [
        ("https://registry.example/v2/", "https://registry.example/token", True),
        ("https://registry.example/v2/", "https://auth.example/token", True),
        ("https://registry.example/v2/", "http://registry.example/token", False),
        ("http://127.0.0.1:5000/v2/", "http://127.0.0.1:5001/token", True),
        ("http://127.0.0.1:5000/v2/", "https://auth.example/token", False),
        ("http://127.0.0.1:5000/v2/", "http://auth.example/token", False),
        ("https://registry.example/v2/", "https://user:pw@auth.example/token", False),
        ("https://registry.example/v2/", "https://auth.example/to ken", False),
        ("https://registry.example/v2/", "file:///etc/passwd", False),
        ("https://registry.example/v2/", "https://[::1", False),
    ],
)
def test_which_token_service_may_see_the_password(registry: str, realm: str, allowed: bool) -> None:
    challenge = Challenge("bearer", {"realm": realm})
    if allowed:
        token_request(challenge, registry, "a/b", PULL, with_secret=True)
    else:
        with pytest.raises(NetworkError):
            token_request(challenge, registry, "a/b", PULL, with_secret=True)


def test_a_registry_does_not_choose_what_is_asked_for_in_our_name() -> None:
    scope = "repository:a/b:pull,push repository:other/secrets:pull,delete registry:catalog:*"
    challenge = Challenge("bearer", {"realm": "https://auth/t", "service": "r", "scope": scope})
    _, query = token_request(challenge, "https://registry/v2/", "a/b", PULL, with_secret=False)
    assert query == [("service", "r"), ("scope", "repository:a/b:pull")]


def test_a_token_to_write_is_asked_for_to_write_and_not_used_to_read(liar: Liar) -> None:
    challenge = answer(401, WWW_Authenticate=f'Bearer realm="{liar.url}/token"')
    for actions, token in (("pull", b"reads"), ("pull%2Cpush", b"writes")):
        path = f"/token?scope=repository%3Aacme%2Fmodel%3A{actions}"
        liar.says(path, answer(200, b'{"token":"%s"}' % token))
    liar.says(AT, lambda headers: [challenge if "Authorization" not in headers else OK])
    registry = client(liar, credentials=LOGIN)
    registry.get_manifest("1")
    registry.put_manifest("1", MANIFEST, OCI_MANIFEST)
    registry.get_manifest("1")
    sent = [headers.get("Authorization") for path, headers in liar.requests if path == AT]
    assert sent == [None, "Bearer reads", None, "Bearer writes", "Bearer reads"]


@pytest.mark.parametrize("token", [b'"a\\r\\nX: y"', b'""', b"7", b'"a b"'])
def test_a_token_that_could_not_stand_in_a_header_is_refused(liar: Liar, token: bytes) -> None:
    liar.says(AT, answer(401, WWW_Authenticate=f'Bearer realm="{liar.url}/token"'))
    liar.says("/token?scope=repository%3Aacme%2Fmodel%3Apull", answer(200, b'{"token":%s}' % token))
    refuses(liar, "gave no token", credentials=LOGIN)


def test_a_token_service_may_not_redirect_the_password(liar: Liar) -> None:
    with Liar() as thief:
        liar.says(AT, answer(401, WWW_Authenticate=f'Bearer realm="{liar.url}/token"'))
        liar.says("/token?scope=repository%3Aacme%2Fmodel%3Apull", answer(307, Location=f"{thief.url}/token"))
        refuses(liar, "log-in at .* failed", credentials=LOGIN)
        assert thief.requests == []


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://x/y", "http://u:p@127.0.0.1:9/x"])
def test_a_redirect_to_anything_but_http_is_refused(liar: Liar, place: str) -> None:
    liar.says(AT, answer(302, Location=place))
    refuses(liar, "leads to .*; refused")


def test_a_proxy_sees_nothing_that_is_not_encrypted(liar: Liar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "")
    with Liar() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        asks = answer(401, WWW_Authenticate='Basic realm="x"')
        liar.says(AT, lambda headers: [OK if headers.get("Authorization") == BASIC else asks])
        assert client(liar, credentials=LOGIN).get_manifest("1") == MANIFEST
        assert proxy.connections == 0


def test_a_proxy_for_https_is_told_the_host_and_nothing_else(
    tls_registry: Registry, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "")
    with Liar() as proxy:
        for name in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, proxy.url)
        naps: list[float] = []
        exchange = Exchange(
            tls_registry.url, credentials=LOGIN, ca_file=authority.ca_file, sleep=naps.append, attempts=1
        )
        with pytest.raises(NetworkError):
            HttpRegistry("model", exchange).get_manifest("1")
        ((path, headers),) = proxy.requests
    assert path == tls_registry.host  # CONNECT
    assert "Authorization" not in headers


# --- TLS -----------------------------------------------------------------------------------------------------------


def test_the_environment_cannot_switch_verification_off(
    tls_registry: Registry, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, "")
    with pytest.raises(NetworkError, match="certificate .* cannot be verified") as refused:
        HttpRegistry("model", Exchange(tls_registry.url)).get_manifest("1")
    assert "registry.caFile" in str(refused.value.hint)
    named = Exchange(tls_registry.url, ca_file=authority.ca_file)
    assert HttpRegistry("model", named).get_manifest("1") is None
    # The right authority and address, by a name that is not in the certificate.
    elsewhere = Exchange(f"https://127.1:{tls_registry.port}", ca_file=authority.ca_file)
    with pytest.raises(NetworkError, match="certificate"):
        HttpRegistry("model", elsewhere).get_manifest("1")


@contextmanager
def old_server(authority: Authority) -> Iterator[str]:
    """A server that speaks TLS 1.1 at most."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.server)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1_1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                try:
                    context.wrap_socket(connection, server_side=True).close()
                except OSError:
                    connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield f"https://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1:DeprecationWarning")
def test_tls_before_1_2_is_refused_on_both_sides(authority: Authority) -> None:
    from edgewright_agent.errors import TransportError
    from edgewright_agent.transport import open_source

    with old_server(authority) as url:
        naps: list[float] = []
        exchange = Exchange(url, ca_file=authority.ca_file, attempts=1, sleep=naps.append)
        with pytest.raises(NetworkError, match="(?i)tls|ssl|protocol|certificate"):
            HttpRegistry("model", exchange).get_manifest("1")
        with pytest.raises(TransportError) as refused:
            open_source(url, ca_file=str(authority.ca_file)).manifest("model", "1")
        assert refused.value.code == "network"


# --- credential helpers ----------------------------------------------------------------------------------------


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in PATH; `write` puts the helper `test` there."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def write(folder: Path, script: str) -> None:
    program = folder / "docker-credential-test"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def gives(username: str, secret: str) -> str:
    return f"""cat > "$0.told"; echo '{json.dumps({"Username": username, "Secret": secret})}'"""


def test_a_helper_is_told_the_host_and_asked_only_when_the_registry_asks(liar: Liar, helper: Path) -> None:
    write(helper, gives(*LOGIN))
    liar.says(AT, OK)
    assert client(liar, helper="test").get_manifest("1") == MANIFEST
    assert not (helper / "docker-credential-test.told").exists()
    asks = answer(401, WWW_Authenticate='Basic realm="x"')
    liar.says(AT, lambda headers: [OK if headers.get("Authorization") == BASIC else asks])
    assert client(liar, helper="test").get_manifest("1") == MANIFEST
    assert (helper / "docker-credential-test.told").read_text() == liar.host


def test_an_identity_token_is_exchanged_in_a_body_and_stands_in_no_url(liar: Liar, helper: Path) -> None:
    write(helper, gives("<token>", "refresh-me"))
    asks = answer(401, WWW_Authenticate=f'Bearer realm="{liar.url}/token",service="s"')
    liar.says(AT, lambda headers: [OK if headers.get("Authorization") == "Bearer short" else asks])
    liar.says("/token", answer(200, b'{"access_token":"short"}'))
    assert client(liar, helper="test").get_manifest("1") == MANIFEST
    assert not any("refresh-me" in path for path, _ in liar.requests)
    (body,) = liar.bodies
    assert parse_qs(body.decode()) == {
        "grant_type": ["refresh_token"],
        "refresh_token": ["refresh-me"],
        "client_id": ["edgewright"],
        "service": ["s"],
        "scope": ["repository:acme/model:pull"],
    }
    liar.says(AT, answer(401, WWW_Authenticate='Basic realm="x"'))
    refuses(liar, "asks for a password, but the credential helper has a token", helper="test")


def test_a_helper_that_knows_nothing_means_no_log_in(helper: Path, liar: Liar) -> None:
    write(helper, "echo 'credentials not found in native keychain'; exit 1")
    liar.says(AT, answer(401, WWW_Authenticate='Basic realm="x"'))
    refuses(liar, "asks for a log-in", helper="test")


@pytest.mark.parametrize(
    ("script", "error", "problem"),
    [
        ("echo 'vault is sealed'; exit 3", NetworkError, "vault is sealed"),
        ("exec sleep 60", NetworkError, "no answer within"),
        ("exec yes s3cret", EnvironmentFault, "writes more than"),
        ("echo s3cret", EnvironmentFault, "no Username and Secret"),
        ('echo \'{"Username":"u","Secret":"s3cret\\nx"}\'', EnvironmentFault, "no Username and Secret"),
    ],
)
def test_a_helper_that_fails_hangs_or_babbles_is_given_up(
    helper: Path, script: str, error: type[EdgewrightError], problem: str
) -> None:
    write(helper, script)
    with pytest.raises(error, match=problem) as refused:
        ask("test", "registry.example", timeout_s=0.4 if "sleep" in script else 20)
    assert "s3cret" not in str(refused.value)


def test_a_helper_that_is_not_installed_is_named() -> None:
    with pytest.raises(EnvironmentFault, match="docker-credential-nowhere is not in PATH"):
        ask("nowhere", "registry.example")


# --- secrets by reference ----------------------------------------------------------------------------------------


def test_the_registrys_password_may_be_a_systemd_credential(
    liar: Liar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "registry").write_text("s3cret\n")
    (tmp_path / "user").write_text("edge\r\n")
    asks = answer(401, WWW_Authenticate='Basic realm="x"')
    liar.says(AT, lambda headers: [OK if headers.get("Authorization") == BASIC else asks])
    credentials = {"username": "file:user", "password": "credential:registry"}
    opened = open_registry({"url": f"{liar.url}/acme", "credentials": credentials}, tmp_path)
    assert opened("model").get_manifest("1") == MANIFEST


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (Reply(200, body=b"other bytes"), "came back with other bytes"),
        (Reply(200, body=b"x" * 5000), "is larger than"),
        (Reply(500), "HTTP 500"),
        (None, "connection"),
        (Reply(403), "refuses"),
    ],
)
def test_a_large_blob_that_is_not_what_was_asked_for_leaves_no_file(
    reply: Reply | None, why: str, tmp_path: Path
) -> None:
    with Scripted(lambda _request: reply) as server:
        exchange = Exchange(f"{server.url}/acme", sleep=lambda _seconds: None)
        with pytest.raises(NetworkError, match=why):
            HttpRegistry("model", exchange).save_blob(DIGEST, tmp_path / "blob", limit=100)
    assert not (tmp_path / "blob").exists()
