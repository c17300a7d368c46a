"""The push client against a server that misbehaves: patient with trouble, strict with bytes and passwords."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from edgewright.errors import NetworkError, SpecError
from edgewright.publish.http_auth import Challenge, parse_challenge, token_request
from edgewright.publish.http_exchange import ATTEMPTS, MAX_RETRY_AFTER_S, Exchange
from edgewright.publish.http_registry import HttpRegistry
from edgewright_agent.contract import MAX_MANIFEST_BYTES, OCI_MANIFEST, digest_of
from unit.publish.scripted import Reply, Request, Scripted

BLOB = b"weights" * 100
DIGEST = digest_of(BLOB)
MANIFEST = b'{"schemaVersion":2}'


def client(server: Scripted, naps: list[float] | None = None, **options: object) -> HttpRegistry:
    waited: list[float] = [] if naps is None else naps
    exchange = Exchange(f"{server.url}/acme", sleep=waited.append, **options)  # type: ignore[arg-type]
    return HttpRegistry("digit-reader", exchange)


def upload_server(put: Reply, *, place: str = "/upload?state=1") -> Scripted:
    def answer(request: Request) -> Reply:
        if request.method == "HEAD":
            return Reply(404)
        return Reply(202, {"Location": place}) if request.method == "POST" else put

    return Scripted(answer)


def test_a_blob_is_looked_for_before_it_is_sent() -> None:
    with Scripted(lambda _request: Reply(200)) as server:
        assert client(server).put_blob(DIGEST, BLOB) is False
    assert [request.method for request in server.requests] == ["HEAD"]


def test_a_file_arrives_whole_with_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(BLOB)
    with upload_server(Reply(201, {"Docker-Content-Digest": DIGEST})) as server:
        assert client(server).put_blob(DIGEST, path) is True
    (put,) = server.asked("PUT")
    assert put.body == BLOB
    assert put.path == f"/upload?state=1&digest={DIGEST}"
    assert put.headers["Content-Length"] == str(len(BLOB))


def test_a_server_that_computed_another_digest_is_not_believed() -> None:
    with (
        upload_server(Reply(201, {"Docker-Content-Digest": digest_of(b"damaged")})) as server,
        pytest.raises(NetworkError, match=f"but it is {DIGEST}"),
    ):
        client(server).put_blob(DIGEST, BLOB)


def test_a_rejected_digest_is_told_in_the_registrys_words() -> None:
    body = json.dumps({"errors": [{"code": "DIGEST_INVALID", "message": "did not match"}]}).encode()
    with (
        upload_server(Reply(400, body=body)) as server,
        pytest.raises(NetworkError, match="HTTP 400: DIGEST_INVALID did not match"),
    ):
        client(server).put_blob(DIGEST, BLOB)


def test_a_manifest_stored_under_another_digest_is_an_error() -> None:
    wrong = Reply(201, {"Docker-Content-Digest": digest_of(b"x")})
    with Scripted(lambda _request: wrong) as server, pytest.raises(NetworkError, match="stored the manifest"):
        client(server).put_manifest("1.0.0", MANIFEST, OCI_MANIFEST)


def test_a_manifest_that_comes_back_changed_is_an_error() -> None:
    with Scripted(lambda _request: Reply(200, body=b"other")) as server, pytest.raises(NetworkError):
        client(server).get_manifest(digest_of(MANIFEST))


def test_an_endless_manifest_is_not_read() -> None:
    body = b"x" * (MAX_MANIFEST_BYTES + 1)
    with (
        Scripted(lambda _request: Reply(200, body=body)) as server,
        pytest.raises(NetworkError, match="larger than"),
    ):
        client(server).get_manifest("1.0.0")


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_registry_is_asked_again(status: int) -> None:
    replies = [Reply(status), Reply(status), Reply(200, body=MANIFEST)]
    with Scripted(lambda _request: replies.pop(0)) as server:
        assert client(server).get_manifest("1.0.0") == MANIFEST


def test_the_wait_a_registry_asks_for_is_honoured_but_bounded() -> None:
    replies = [
        Reply(429, {"Retry-After": "7"}),
        Reply(503, {"Retry-After": "86400"}),
        Reply(200, body=MANIFEST),
    ]
    naps: list[float] = []
    with Scripted(lambda _request: replies.pop(0)) as server:
        client(server, naps).get_manifest("1.0.0")
    assert naps == [7.0, MAX_RETRY_AFTER_S]


def test_a_wait_that_is_no_number_is_none() -> None:
    replies = [Reply(429, {"Retry-After": "\N{SUPERSCRIPT TWO}"}), Reply(200, body=MANIFEST)]
    with Scripted(lambda _request: replies.pop(0)) as server:
        assert client(server, []).get_manifest("1.0.0") == MANIFEST


@pytest.mark.parametrize("place", ["https://h:99999/", "https://[::1/x", "//h:port/"])
def test_a_place_that_is_no_address_is_one_sentence(place: str) -> None:
    with (
        Scripted(lambda _request: Reply(302, {"Location": place})) as server,
        pytest.raises(NetworkError, match="which is no address"),
    ):
        client(server).get_manifest("1.0.0")
    with (
        upload_server(Reply(201), place=place) as server,
        pytest.raises(NetworkError, match="which is no address"),
    ):
        client(server).put_blob(digest_of(BLOB), BLOB)


def test_a_session_that_is_printed_shows_no_password() -> None:
    assert "hunter2" not in repr(Exchange("https://registry.example", credentials=("ada", "hunter2")))


def test_a_registry_that_stays_busy_is_given_up() -> None:
    with (
        Scripted(lambda _request: Reply(503)) as server,
        pytest.raises(NetworkError, match="HTTP 503, 5 times"),
    ):
        client(server).get_manifest("1.0.0")
    assert len(server.requests) == ATTEMPTS


def test_a_connection_that_breaks_during_an_upload_starts_that_upload_again(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(BLOB)
    puts: list[Reply | None] = [None, Reply(201)]

    def answer(request: Request) -> Reply | None:
        if request.method == "HEAD":
            return Reply(404)
        return Reply(202, {"Location": "/upload"}) if request.method == "POST" else puts.pop(0)

    with Scripted(answer) as server:
        assert client(server).put_blob(DIGEST, path)
    assert [request.method for request in server.requests] == ["HEAD", "POST", "PUT", "POST", "PUT"]
    assert server.asked("PUT")[1].body == BLOB


def test_other_failures_are_not_repeated() -> None:
    with Scripted(lambda _request: Reply(400)) as server, pytest.raises(NetworkError, match="HTTP 400"):
        client(server).get_manifest("1.0.0")
    assert len(server.requests) == 1


def test_a_refused_connection_fails_at_once() -> None:
    with Scripted(lambda _request: Reply(200)) as server:
        pass
    naps: list[float] = []
    with pytest.raises(NetworkError, match="connection refused"):
        client(server, naps).get_manifest("1.0.0")
    assert naps == []


def test_the_password_is_sent_only_when_asked_for() -> None:
    def answer(request: Request) -> Reply:
        if "Authorization" not in request.headers:
            return Reply(401, {"WWW-Authenticate": 'Basic realm="registry"'})
        return Reply(200, body=MANIFEST)

    with Scripted(answer) as server:
        registry = client(server, credentials=("ci", "pass:word"))
        assert registry.get_manifest("1.0.0") == MANIFEST
        registry.get_manifest("1.0.0")
    sent = [request.headers.get("Authorization") for request in server.requests]
    expected = "Basic " + base64.b64encode(b"ci:pass:word").decode()
    assert sent == [None, expected, expected]


def test_a_wrong_password_is_asked_about_once() -> None:
    challenge = Reply(401, {"WWW-Authenticate": 'Basic realm="registry"'})
    with (
        Scripted(lambda _request: challenge) as server,
        pytest.raises(NetworkError, match="refuses the log-in") as e,
    ):
        client(server, credentials=("ci", "wrong")).get_manifest("1.0.0")
    assert "registry.credentials" in str(e.value.hint)
    assert len(server.requests) == 2


def test_a_registry_that_wants_a_password_we_have_not_got_says_so() -> None:
    challenge = Reply(401, {"WWW-Authenticate": 'Basic realm="registry"'})
    with (
        Scripted(lambda _request: challenge) as server,
        pytest.raises(NetworkError, match="asks for a log-in"),
    ):
        client(server).get_manifest("1.0.0")


def test_a_redirect_to_another_host_carries_no_password() -> None:
    with Scripted(lambda _request: Reply(200, body=MANIFEST)) as storage:

        def answer(request: Request) -> Reply:
            if "Authorization" not in request.headers:
                return Reply(401, {"WWW-Authenticate": 'Basic realm="registry"'})
            return Reply(307, {"Location": f"{storage.url}/bucket/manifest"})

        with Scripted(answer) as server:
            got = client(server, credentials=("ci", "secret")).get_manifest("1.0.0")
    assert got == MANIFEST
    assert "Authorization" not in storage.requests[0].headers


def test_an_upload_place_on_another_host_gets_no_password_even_if_it_asks() -> None:
    asks = Reply(401, {"WWW-Authenticate": 'Basic realm="give it to me"'})
    with Scripted(lambda _request: asks) as storage:

        def answer(request: Request) -> Reply:
            if "Authorization" not in request.headers:
                return Reply(401, {"WWW-Authenticate": 'Basic realm="registry"'})
            if request.method == "HEAD":
                return Reply(404)
            return Reply(202, {"Location": f"{storage.url}/bucket/upload"})

        with Scripted(answer) as server, pytest.raises(NetworkError, match="refuses the log-in"):
            client(server, credentials=("ci", "secret")).put_blob(DIGEST, BLOB)
    assert [request.headers.get("Authorization") for request in storage.requests] == [None]


def test_endless_redirects_end() -> None:
    with (
        Scripted(lambda request: Reply(307, {"Location": request.path})) as server,
        pytest.raises(NetworkError, match="keeps redirecting"),
    ):
        client(server).get_manifest("1.0.0")


def test_a_token_is_asked_for_with_the_rights_to_push() -> None:
    challenge = parse_challenge('Bearer realm="https://auth/t",service="r",scope="repository:a/b:pull"')
    realm, query = token_request(challenge, "https://registry/v2/", "a/b", "pull,push", with_secret=True)
    assert (realm, query) == ("https://auth/t", [("service", "r"), ("scope", "repository:a/b:pull,push")])


def test_a_password_is_not_taken_from_https_to_http() -> None:
    challenge = Challenge("bearer", {"realm": "http://auth/token"})
    with pytest.raises(NetworkError, match="not encrypted"):
        token_request(challenge, "https://registry/v2/", "a/b", "pull", with_secret=False)


def test_a_repository_name_no_registry_takes_is_a_mistake_in_the_yaml() -> None:
    with pytest.raises(SpecError, match="not a legal repository name"):
        HttpRegistry("digit-reader", Exchange("https://registry.example/Acme"))


def test_a_registry_with_a_referrers_list_of_its_own_is_recognised() -> None:
    body = json.dumps({"schemaVersion": 2, "subject": {"digest": DIGEST}}).encode()
    with Scripted(lambda _request: Reply(201, {"OCI-Subject": DIGEST})) as server:
        assert client(server).put_manifest(digest_of(body), body, OCI_MANIFEST) is True
    with Scripted(lambda _request: Reply(201)) as server:
        assert client(server).put_manifest(digest_of(body), body, OCI_MANIFEST) is False
