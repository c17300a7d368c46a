"""What a registry, a proxy or a login page may send, and how little of it a device takes."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import time
from collections.abc import Iterator
from email.utils import formatdate

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgewright_agent.contract import (
    MAX_LISTED_REFERRERS,
    MAX_MANIFEST_BYTES,
    OCI_INDEX,
    OCI_MANIFEST,
    digest_of,
    fallback_tag,
)
from edgewright_agent.errors import TransportError
from edgewright_agent.transport import BusyError
from edgewright_agent.transport.pace import Pace
from edgewright_agent.transport.registry import RegistrySource, _redirect_target
from real import closed_port
from unit.agent.transport.liar import Liar, answer
from unit.agent.transport.test_sources import refuses

MANIFEST = b'{"schemaVersion":2}'
LOGIN_PAGE = b"<html>Welcome to our hotel</html>"
BLOB = bytes(range(200))
DIGEST = digest_of(BLOB)
AT = "/v2/acme/model/manifests/1"
BLOB_AT = f"/v2/acme/model/blobs/{DIGEST}"


class Ticking:
    """A clock on which every look costs a second."""

    def __init__(self, step_s: float = 1.0) -> None:
        self._times = itertools.count(0.0, step_s)

    def __call__(self) -> float:
        return next(self._times)


def source(liar: Liar, *, pace: Pace | None = None, timeout_s: float = 5.0) -> RegistrySource:
    return RegistrySource(f"{liar.url}/acme", pace=pace, timeout_s=timeout_s)


def blob(made: RegistrySource, *, offset: int = 0) -> bytes:
    return b"".join(made.blob("model", DIGEST, size=len(BLOB), offset=offset))


def endless(*head: bytes, piece: bytes = b"x" * 65536) -> Iterator[bytes]:
    yield from head
    yield from itertools.repeat(piece)


# --- what an answer has to be ------------------------------------------------------------------------------


def test_a_login_page_is_not_a_manifest(liar: Liar) -> None:
    liar.says(AT, answer(200, LOGIN_PAGE, Content_Type="text/html"))
    assert "login page" in refuses("captive-portal", lambda: source(liar).manifest("model", "1"))


def test_a_login_page_is_not_a_blob(liar: Liar) -> None:
    page = LOGIN_PAGE.ljust(len(BLOB))
    liar.says(BLOB_AT, answer(200, page, Content_Type="text/html; charset=utf-8"))
    refuses("captive-portal", lambda: blob(source(liar)))


def test_a_manifest_by_digest_has_to_hash_to_it(liar: Liar) -> None:
    liar.says(f"/v2/acme/model/manifests/{DIGEST}", answer(200, MANIFEST, Content_Type=OCI_MANIFEST))
    refuses("digest-mismatch", lambda: source(liar).manifest("model", DIGEST))


def test_the_digest_is_computed_and_never_taken_from_a_header(liar: Liar) -> None:
    lie = answer(200, MANIFEST, Content_Type=OCI_MANIFEST, Docker_Content_Digest=DIGEST, ETag=f'"{DIGEST}"')
    liar.says(AT, lie)
    manifest = source(liar).manifest("model", "1")
    assert manifest is not None
    assert manifest.digest == digest_of(MANIFEST)


def test_not_modified_without_having_asked_is_refused(liar: Liar) -> None:
    liar.says(AT, answer(304))
    refuses("bad-response", lambda: source(liar).manifest("model", "1"))
    assert source(liar).manifest("model", "1", etag='"seen"') is None


def test_a_registry_without_etags_is_compared_by_digest(liar: Liar) -> None:
    liar.says(AT, answer(200, MANIFEST, Content_Type=OCI_MANIFEST))
    manifest = source(liar).manifest("model", "1")
    assert manifest is not None
    assert source(liar).manifest("model", "1", etag=manifest.etag) is None


@pytest.mark.parametrize("etag", ["no quotes", '"' + "x" * 5000 + '"', '"a b"'])
def test_an_etag_that_is_none_is_not_kept(liar: Liar, etag: str) -> None:
    liar.says(AT, answer(200, MANIFEST, Content_Type=OCI_MANIFEST, ETag=etag))
    manifest = source(liar).manifest("model", "1")
    assert manifest is not None
    assert manifest.etag == f'"{digest_of(MANIFEST)}"'


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "bad-response"),
        (401, "denied"),
        (403, "denied"),
        (404, "not-found"),
        (500, "network"),
        (204, "bad-response"),
    ],
)
def test_each_status_has_its_meaning(liar: Liar, status: int, code: str) -> None:
    liar.says(AT, answer(status, LOGIN_PAGE))
    refuses(code, lambda: source(liar).manifest("model", "1"))


def test_a_compressed_answer_is_refused_because_nobody_asked_for_it(liar: Liar) -> None:
    liar.says(AT, answer(200, b"\x1f\x8b", Content_Type=OCI_MANIFEST, Content_Encoding="gzip"))
    refuses("bad-response", lambda: source(liar).manifest("model", "1"))


@pytest.mark.parametrize(
    "noise", [b"SSH-2.0-OpenSSH_9.2\r\n", b"\0" * 100, b"HTTP/1.1 two hundred\r\n\r\n", b""]
)
def test_something_that_does_not_speak_http_is_refused(liar: Liar, noise: bytes) -> None:
    liar.says(AT, noise)
    with pytest.raises(TransportError) as caught:
        source(liar).manifest("model", "1")
    assert caught.value.code in ("bad-response", "network")


def test_a_closed_port_is_a_network_problem() -> None:
    with closed_port() as port:
        made = RegistrySource(f"http://127.0.0.1:{port}")
        refuses("network", lambda: made.manifest("model", "1"))


def test_a_silent_server_is_a_network_problem(liar: Liar) -> None:
    liar.says(AT, lambda _: [], keep=True)
    refuses("network", lambda: source(liar, timeout_s=0.1).manifest("model", "1"))


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_bytes_for_an_answer_end_in_a_documented_error(liar: Liar, data: st.DataObject) -> None:
    good = answer(200, MANIFEST, Content_Type=OCI_MANIFEST, ETag='"x"')
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, min(len(good), start + 30)))
    noise = data.draw(st.binary(max_size=20) | st.sampled_from([b"Transfer-Encoding: chunked\r\n", b"-1"]))
    liar.says(AT, good[:start] + noise + good[end:])
    with contextlib.suppress(TransportError):
        source(liar).manifest("model", "1")


# --- how much it may be ------------------------------------------------------------------------------------


def test_an_announced_length_above_the_limit_is_not_read(liar: Liar) -> None:
    liar.says(AT, answer(200, b"", length=10**12, Content_Type=OCI_MANIFEST))
    refuses("too-large", lambda: source(liar).manifest("model", "1"))


def test_an_endless_body_is_cut_off(liar: Liar) -> None:
    liar.says(AT, lambda _: endless(answer(200, length=-1, Content_Type=OCI_MANIFEST)))
    refuses("too-large", lambda: source(liar).manifest("model", "1"))


def test_endless_chunks_are_cut_off(liar: Liar) -> None:
    head = answer(200, length=-1, Content_Type=OCI_MANIFEST, Transfer_Encoding="chunked")
    liar.says(AT, lambda _: endless(head, piece=b"1\r\nx\r\n" * 1000))
    refuses("too-large", lambda: source(liar).manifest("model", "1"))


def test_endless_trailers_are_cut_off(liar: Liar) -> None:
    head = answer(200, length=-1, Content_Type=OCI_MANIFEST, Transfer_Encoding="chunked")
    liar.says(AT, lambda _: endless(head, b"0\r\n", piece=b"X: y\r\n" * 1000))
    with pytest.raises(TransportError):
        source(liar).manifest("model", "1")


def test_endless_interim_responses_are_cut_off(liar: Liar) -> None:
    liar.says(AT, lambda _: endless(piece=b"HTTP/1.1 100 Continue\r\n\r\n" * 100))
    with pytest.raises(TransportError):
        source(liar).manifest("model", "1")


def test_endless_headers_are_cut_off(liar: Liar) -> None:
    liar.says(AT, lambda _: endless(b"HTTP/1.1 200 OK\r\n", piece=b"X-Filler: " + b"x" * 60000 + b"\r\n"))
    with pytest.raises(TransportError):
        source(liar).manifest("model", "1")


def test_a_body_that_ends_early_is_truncated(liar: Liar) -> None:
    liar.says(AT, answer(200, MANIFEST, length=len(MANIFEST) + 5, Content_Type=OCI_MANIFEST))
    refuses("truncated", lambda: source(liar).manifest("model", "1"))
    liar.says(BLOB_AT, answer(200, BLOB[:50], length=len(BLOB)))
    refuses("truncated", lambda: blob(source(liar)))
    head = answer(200, length=-1, Content_Type=OCI_MANIFEST, Transfer_Encoding="chunked")
    liar.says(AT, head + b"ff\r\nshort")
    refuses("truncated", lambda: source(liar).manifest("model", "1"))


def test_a_blob_never_gives_more_than_its_size(liar: Liar) -> None:
    liar.says(BLOB_AT, lambda _: endless(answer(200, BLOB, length=-1)))
    assert blob(source(liar)) == BLOB
    liar.says(BLOB_AT, answer(200, BLOB + b"!"))
    refuses("too-large", lambda: blob(source(liar)))


# --- how slow it may be ------------------------------------------------------------------------------------


def drip(*head: bytes) -> Iterator[bytes]:
    yield from head
    while True:
        time.sleep(0.001)  # the attack itself: a byte at a time, for ever
        yield b"x"


def test_a_drip_fed_body_is_given_up(liar: Liar) -> None:
    size = 10**9
    liar.says(BLOB_AT, lambda _: drip(answer(200, length=size)))
    pace = Pace(min_rate_bytes_s=1000, window_s=3, clock=Ticking())
    refuses("too-slow", lambda: list(source(liar, pace=pace).blob("model", DIGEST, size=size)))


def test_drip_fed_headers_are_given_up(liar: Liar) -> None:
    liar.says(AT, lambda _: drip(b"HTTP/1.1 200 OK\r\nX-Filler: "))
    pace = Pace(min_rate_bytes_s=1000, window_s=3, clock=Ticking())
    refuses("too-slow", lambda: source(liar, pace=pace).manifest("model", "1"))


def test_a_fast_answer_after_a_long_wait_is_fine(liar: Liar) -> None:
    liar.says(BLOB_AT, answer(200, BLOB))
    pace = Pace(min_rate_bytes_s=1000, window_s=30, clock=Ticking(step_s=7.0))
    assert blob(source(liar, pace=pace)) == BLOB


def test_a_reader_that_takes_its_time_is_not_mistaken_for_a_slow_server(liar: Liar) -> None:
    clock = Ticking(step_s=0.001)
    body = bytes(300_000)
    at = f"/v2/acme/model/blobs/{digest_of(body)}"
    liar.says(at, answer(200, body))
    made = source(liar, pace=Pace(min_rate_bytes_s=1000, window_s=3, clock=clock))
    read = b""
    for chunk in made.blob("model", digest_of(body), size=len(body)):
        read += chunk
        for _ in range(60_000):  # a minute of writing to a slow disk
            clock()
    assert read == body


# --- resuming ----------------------------------------------------------------------------------------------


def test_a_resumed_blob_asks_for_the_rest_only(liar: Liar) -> None:
    part = answer(206, BLOB[50:], Content_Range=f"bytes 50-{len(BLOB) - 1}/{len(BLOB)}")
    liar.says(BLOB_AT, part)
    assert blob(source(liar), offset=50) == BLOB[50:]
    assert liar.requests[-1][1]["Range"] == f"bytes=50-{len(BLOB) - 1}"


def test_a_server_without_ranges_sends_all_and_the_start_is_skipped(liar: Liar) -> None:
    liar.says(BLOB_AT, answer(200, BLOB))
    assert blob(source(liar), offset=50) == BLOB[50:]


@pytest.mark.parametrize(
    "content_range",
    [
        "bytes 0-149/200",
        "bytes 51-199/200",
        "bytes 50-198/200",
        "bytes 50-199/201",
        "bytes */200",
        "",
        "items 1-2/3",
    ],
)
def test_a_part_that_was_not_asked_for_is_refused(liar: Liar, content_range: str) -> None:
    liar.says(BLOB_AT, answer(206, BLOB[50:], Content_Range=content_range))
    refuses("bad-response", lambda: blob(source(liar), offset=50))


def test_a_part_nobody_asked_for_is_refused(liar: Liar) -> None:
    liar.says(BLOB_AT, answer(206, BLOB, Content_Range=f"bytes 0-{len(BLOB) - 1}/{len(BLOB)}"))
    refuses("bad-response", lambda: blob(source(liar)))


# --- busy --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("retry_after", "wait_s"),
    [
        ("7", 7.0),
        ("999999999", 6 * 3600.0),
        (formatdate(0, usegmt=True), 0.0),
        ("soon", None),
        ("-5", None),
        ("٣", None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_registry_says_how_long_to_wait_within_reason(
    liar: Liar, status: int, retry_after: str, wait_s: float | None
) -> None:
    liar.says(AT, answer(status, Retry_After=retry_after))
    with pytest.raises(BusyError) as caught:
        source(liar).manifest("model", "1")
    assert (caught.value.code, caught.value.retry_after_s) == ("busy", wait_s)


def test_a_busy_registry_that_does_not_say_how_long(liar: Liar) -> None:
    liar.says(AT, answer(503))
    with pytest.raises(BusyError) as caught:
        source(liar).manifest("model", "1")
    assert caught.value.retry_after_s is None


# --- referrers ---------------------------------------------------------------------------------------------

REFERRERS_AT = f"/v2/acme/model/referrers/{DIGEST}"


def entry(number: int) -> dict[str, object]:
    return {"mediaType": OCI_MANIFEST, "digest": digest_of(b"%d" % number), "size": 2}


def test_the_referrers_api_is_asked_first(liar: Liar) -> None:
    index = json.dumps({"manifests": [entry(1)]}).encode()
    liar.says(REFERRERS_AT, answer(200, index, Content_Type=OCI_INDEX))
    assert source(liar).referrers("model", DIGEST) == [entry(1)]


def test_without_the_api_the_fallback_tag_is_asked(liar: Liar) -> None:
    index = json.dumps({"manifests": [entry(1)]}).encode()
    liar.says(f"/v2/acme/model/manifests/{fallback_tag(DIGEST)}", answer(200, index, Content_Type=OCI_INDEX))
    assert source(liar).referrers("model", DIGEST) == [entry(1)]


def test_a_flood_of_referrers_is_cut(liar: Liar) -> None:
    index = json.dumps({"manifests": [entry(number) for number in range(600)]}).encode()
    liar.says(REFERRERS_AT, answer(200, index, Content_Type=OCI_INDEX))
    assert len(source(liar).referrers("model", DIGEST)) == MAX_LISTED_REFERRERS


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"[" * 5000,
        b'{"manifests":{}}',
        b'{"manifests":[null]}',
        b'{"manifests":[{"digest":"sha256:1","size":1,"mediaType":""}]}',
        b'{"manifests":[{"digest":"%s","size":-1,"mediaType":""}]}' % DIGEST.encode(),
        b'{"manifests":[{"digest":"%s","size":true,"mediaType":""}]}' % DIGEST.encode(),
        LOGIN_PAGE,
    ],
)
def test_a_malformed_list_of_referrers_is_refused(liar: Liar, body: bytes) -> None:
    liar.says(REFERRERS_AT, answer(200, body, Content_Type=OCI_INDEX))
    refuses("bad-response", lambda: source(liar).referrers("model", DIGEST))


def test_an_endless_list_of_referrers_is_cut_off(liar: Liar) -> None:
    liar.says(REFERRERS_AT, answer(200, b" " * (MAX_MANIFEST_BYTES + 1), Content_Type=OCI_INDEX))
    refuses("too-large", lambda: source(liar).referrers("model", DIGEST))


# --- one connection ----------------------------------------------------------------------------------------


def test_requests_share_one_connection(liar: Liar) -> None:
    liar.says(AT, answer(200, MANIFEST, Content_Type=OCI_MANIFEST), keep=True)
    liar.says(BLOB_AT, answer(200, BLOB), keep=True)
    made = source(liar)
    for _ in range(3):
        made.manifest("model", "1")
        blob(made)
        refuses("not-found", lambda: made.manifest("model", "2"))
    assert liar.connections == 1


def test_a_chunked_answer_leaves_the_connection_usable(liar: Liar) -> None:
    head = answer(200, length=-1, Content_Type=OCI_MANIFEST, Transfer_Encoding="chunked")
    liar.says(AT, head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(MANIFEST), MANIFEST), keep=True)
    made = source(liar)
    assert [made.manifest("model", "1") is None for _ in range(3)] == [False] * 3
    assert liar.connections == 1


def test_a_connection_the_server_has_closed_is_opened_again(liar: Liar) -> None:
    liar.says(AT, answer(200, MANIFEST, Content_Type=OCI_MANIFEST))
    made = source(liar)
    assert made.manifest("model", "1") is not None
    assert made.manifest("model", "1") is not None
    assert liar.connections == 2


# --- lists of referrers in pages -----------------------------------------------------------------------------

LIST_AT = f"/v2/acme/model/referrers/{DIGEST}"


def entries(first: int, count: int) -> list[dict[str, object]]:
    digests = [digest_of(str(number).encode()) for number in range(first, first + count)]
    return [{"mediaType": OCI_MANIFEST, "digest": digest, "size": 1} for digest in digests]


def page(listed: list[dict[str, object]], **headers: str) -> bytes:
    body = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}).encode()
    return answer(200, body, Content_Type=OCI_INDEX, **headers)


@pytest.mark.parametrize(
    "link",
    [
        f'<{LIST_AT}?n=2&last=x>; rel="next"',
        "<?n=2&last=x>;rel=next",
        f'<http://evil.invalid{LIST_AT}?n=2&last=x>; rel="next"',
        f'<{LIST_AT}?n=9>; rel="prev", <{LIST_AT}?n=2&last=x>; rel="next"',
    ],
)
def test_referrers_on_further_pages_are_found_and_asked_of_the_registry_itself(liar: Liar, link: str) -> None:
    liar.says(LIST_AT, page(entries(0, 2), Link=link))
    liar.says(f"{LIST_AT}?n=2&last=x", page(entries(2, 2)))
    assert source(liar).referrers("model", DIGEST) == entries(0, 4)


def test_pages_without_an_end_are_given_up(liar: Liar) -> None:
    liar.says(LIST_AT, page(entries(0, 1), Link=f'<{LIST_AT}?again>; rel="next"'))
    liar.says(f"{LIST_AT}?again", page(entries(1, 1), Link=f'<{LIST_AT}?again>; rel="next"'))
    assert len(source(liar).referrers("model", DIGEST)) == 8
    assert len(liar.requests) == 8


def test_a_flood_of_referrers_over_pages_is_cut(liar: Liar) -> None:
    liar.says(LIST_AT, page(entries(0, 30), Link=f'<{LIST_AT}?2>; rel="next"'))
    liar.says(f"{LIST_AT}?2", page(entries(30, 500), Link=f'<{LIST_AT}?3>; rel="next"'))
    assert source(liar).referrers("model", DIGEST) == entries(0, MAX_LISTED_REFERRERS)
    assert len(liar.requests) == 2


@pytest.mark.parametrize(
    "link", ["", "<>", '<x>; rel="prev"', '<no-parameters>; rel="next"', "<" * 3000, "é"]
)
def test_a_link_that_leads_nowhere_ends_the_list(liar: Liar, link: str) -> None:
    liar.says(LIST_AT, page(entries(0, 2), Link=link))
    assert source(liar).referrers("model", DIGEST) == entries(0, 2)


def test_headers_at_a_fair_pace_are_no_way_to_waste_time(liar: Liar) -> None:
    # A KiB at every look, and every look costs a second: fast enough, but for nothing.
    liar.says(AT, lambda _headers: endless(b"HTTP/1.1 200 X\r\n", piece=b"X-Y: " + b"y" * 1500 + b"\r\n"))
    small = RegistrySource(f"{liar.url}/acme", pace=Pace(window_s=4, min_rate_bytes_s=1024, clock=Ticking()))
    told = refuses("too-slow", lambda: small.manifest("model", "1", limit=2048))
    assert "longer than the answer is worth" in told


# --- names with many addresses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("dead", "reached"), [(0, True), (3, True), (4, False), (500, False)])
def test_of_many_addresses_a_few_are_tried(
    liar: Liar, monkeypatch: pytest.MonkeyPatch, dead: int, reached: bool
) -> None:
    liar.says(AT, answer(200, MANIFEST, Content_Type=OCI_MANIFEST))
    host, port = liar.host.split(":")
    with closed_port() as closed:

        def addresses(*_asked: object, **_more: object) -> list[tuple[object, ...]]:
            places = [(host, closed)] * dead + [(host, int(port))]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in places]

        made = RegistrySource("http://registry.example/acme", timeout_s=5)
        monkeypatch.setattr(socket, "getaddrinfo", addresses)
        if reached:
            assert made.manifest("model", "1") is not None
        else:
            refuses("network", lambda: made.manifest("model", "1"))
            assert liar.connections == 0


NOWHERE_V6 = [
    (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (f"100::{number}", 9, 0, 0)) for number in range(8)
]


@pytest.mark.parametrize("unknown", [False, True], ids=["not routed", "not in the kernel"])
def test_the_other_family_is_tried_when_all_addresses_of_one_lead_nowhere(
    liar: Liar, monkeypatch: pytest.MonkeyPatch, *, unknown: bool
) -> None:
    liar.says(AT, answer(200, MANIFEST, Content_Type=OCI_MANIFEST))
    host, port = liar.host.split(":")
    family = 123 if unknown else socket.AF_INET6  # 123: none that there is
    dead = [(family, *address[1:]) for address in NOWHERE_V6]
    living = (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, int(port)))
    made = RegistrySource("http://registry.example/acme", timeout_s=2)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_asked, **_more: [*dead, living])
    assert made.manifest("model", "1") is not None


def test_of_several_addresses_that_fail_the_first_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    with closed_port() as closed:
        refusing = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", closed))
        made = RegistrySource("http://registry.example/acme", timeout_s=2)
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_asked, **_more: [refusing, *NOWHERE_V6])
        assert "refused" in refuses("network", lambda: made.manifest("model", "1"))


@pytest.mark.parametrize(
    ("url", "port"), [("http://[fd00::5]/acme", 80), ("https://[2001:db8::a]/acme", 443)]
)
def test_an_ipv6_address_needs_no_port(monkeypatch: pytest.MonkeyPatch, url: str, port: int) -> None:
    asked: list[tuple[object, ...]] = []

    def nobody(*place: object, **_more: object) -> list[object]:
        asked.append(place)
        return []

    made = RegistrySource(url, timeout_s=2)
    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    refuses("network", lambda: made.manifest("model", "1"))
    assert asked == [(url.partition("[")[2].partition("]")[0].encode(), port)]


@pytest.mark.parametrize(
    "location",
    ["http://store.example/blob?X-Amz-Signature=s3cret", "ftp://store.example/blob?X-Amz-Signature=s3cret"],
)
def test_a_refused_redirect_is_told_without_the_signature_in_its_query(location: str) -> None:
    with pytest.raises(TransportError) as failed:
        _redirect_target("https://registry.example/v2/blob", location)
    assert failed.value.code == "bad-response"
    assert "store.example/blob" in str(failed.value)
    assert "s3cret" not in str(failed.value)
