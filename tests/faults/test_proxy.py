"""Devices behind proxies: real registries with and without TLS, log-ins, and proxies that misbehave."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attacks.fleet import PREFIX
from authority import Authority
from edgewright_agent.config import parse
from edgewright_agent.errors import ConfigError, TransportError
from edgewright_agent.transport.proxy import Environment, parse_proxy
from edgewright_agent.transport.registry import RegistrySource
from faults.connect import ConnectProxy
from faults.journey import Grounds, impatient, poll, running
from real import Registry, closed_port
from unit.agent.transport.shelf import Shelf

LOGIN = "Basic c2l0ZTpzM2NyZXQ="  # site:s3cret


@pytest.fixture
def release(tmp_path: Path, tls_registry: Registry) -> str:
    """A manifest in a registry with TLS; its digest. It is put there by its storage, pushing needs no TLS of ours."""
    shelf = Shelf(tmp_path / "shelf")
    digest = shelf.artifact("digit-reader", [b"weights"], tag="1.0.0")
    plain = Registry(tls_registry.program, tmp_path / "plain")
    plain.start()
    shelf.push(plain.url)
    plain.stop()
    tls_registry.storage.rename(tmp_path / "empty")
    plain.storage.rename(tls_registry.storage)
    return digest


def test_an_agent_updates_through_a_proxy_that_wants_a_log_in(grounds: Grounds, folder: Path) -> None:
    grounds.serve(2)
    with ConnectProxy(login=LOGIN) as proxy:
        device = grounds.settled.copy(folder / "device")
        (device.folder / "user").write_text("site\n")
        (device.folder / "password").write_text("s3cret\n")
        (device.folder / "password").chmod(0o600)
        source: dict[str, Any] = {
            "url": f"http://127.0.0.1:{grounds.fleet.registry.port}/{PREFIX}",
            "proxy": proxy.url,
        }
        device.configure(source=source)
        told = poll(device)
        assert (told.exit_code, told.codes[-1]) == (3, "denied")
        source |= {"proxyUsername": "file:user", "proxyPassword": "file:password"}
        device.configure(source=source)
        told = poll(device)
        assert told.exit_code == 0, told.text
        assert running(device) == grounds.digest(2)
        assert all(url.startswith(grounds.fleet.registry.url) for url in proxy.urls)
        assert any("/blobs/" in url for url in proxy.urls)


def test_tls_goes_through_the_tunnel_to_the_registry_itself(
    tls_registry: Registry, authority: Authority, release: str
) -> None:
    with ConnectProxy() as proxy:
        source = RegistrySource(
            tls_registry.url, ca_file=str(authority.ca_file), proxy=parse_proxy(proxy.url)
        )
        found = source.manifest("digit-reader", release)
        assert found is not None
        assert found.digest == release
        source.manifest("digit-reader", "1.0.0")
        source.close()
        assert proxy.tunnels == [tls_registry.host], "one tunnel, kept open"
        assert proxy.carried == [b"\x16\x03\x01"], "a TLS handshake, and nothing before it"
        assert b"s3cret" not in b"".join(proxy.heads)


def test_a_proxy_that_ends_tls_itself_is_not_believed(tls_registry: Registry, tmp_path: Path) -> None:
    """An inspecting proxy shows a certificate of its own authority; here the registry's plays that part."""
    stranger = Authority.create(_made(tmp_path / "stranger"))
    with ConnectProxy() as proxy:
        source = RegistrySource(tls_registry.url, ca_file=str(stranger.ca_file), proxy=parse_proxy(proxy.url))
        with pytest.raises(TransportError, match=r"certificate of 127\.0\.0\.1.* is not trusted"):
            source.manifest("digit-reader", "1.0.0")


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _said(answer: bytes) -> Callable[[socket.socket], None]:
    return lambda client: client.sendall(answer)


def _endless(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        client.sendall(b"X-More: and more\r\n" * 100)


def _dripping(client: socket.socket) -> None:
    while True:
        client.sendall(b"H")
        time.sleep(0.02)  # this is the fault


def _silent(client: socket.socket) -> None:
    client.recv(1)


@pytest.mark.parametrize(
    ("says", "code", "told"),
    [
        (
            _said(b"HTTP/1.1 403 Forbidden\r\n\r\n"),
            "network",
            "does not connect to registry.example:443: 403",
        ),
        (
            _said(b"HTTP/1.1 502 Bad Gateway\r\n\r\n"),
            "network",
            "does not connect to registry.example:443: 502",
        ),
        (_said(b"HTTP/1.1 407 Log in\r\n\r\n"), "denied", "proxyUsername and proxyPassword"),
        (_said(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "bad-response", "does not speak HTTP"),
        (_said(b""), "network", "hung up before it answered"),
        (_said(b"HTTP/1.1 200"), "network", "hung up before it answered"),
        (_endless, "too-large", "does not end"),
        (_dripping, "network", "does not answer"),
        (_silent, "network", "does not answer"),
    ],
)
def test_a_proxy_that_misbehaves_is_bounded_and_named(
    says: Callable[[socket.socket], None], code: str, told: str
) -> None:
    with ConnectProxy(says=says) as proxy:
        source = RegistrySource("https://registry.example", proxy=parse_proxy(proxy.url), timeout_s=0.2)
        with pytest.raises(TransportError, match=told) as refused:
            source.manifest("digit-reader", "1.0.0")
    assert refused.value.code == code
    assert "proxy" in str(refused.value)


def test_a_proxy_that_is_away_is_named_not_the_registry(grounds: Grounds, folder: Path) -> None:
    device = grounds.settled.copy(folder / "device")
    with closed_port() as port, impatient():
        device.configure(source={"url": "https://registry.example/acme", "proxy": f"http://127.0.0.1:{port}"})
        told = poll(device)
    assert (told.exit_code, told.codes[-1]) == (3, "network")
    assert f"the proxy 127.0.0.1:{port} cannot be reached" in told.text


def test_a_password_never_goes_through_a_proxy_without_tls(registry_with_basic_auth: Registry) -> None:
    with ConnectProxy() as proxy:
        source = RegistrySource(
            registry_with_basic_auth.url, username="u", password="s3cret", proxy=parse_proxy(proxy.url)
        )
        with pytest.raises(TransportError, match="over TLS only"):
            source.manifest("digit-reader", "1.0.0")
        assert b"Authorization" not in b"".join(proxy.heads)


# --- the configuration, and the environment ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("http://proxy:3128", "proxy:3128"),
        ("http://proxy.site.example:8080/", "proxy.site.example:8080"),
        ("http://10.0.0.1:80", "10.0.0.1:80"),
        ("http://[fd00::1]:3128", "[fd00::1]:3128"),
    ],
)
def test_a_proxy_is_host_and_port(url: str, place: str) -> None:
    assert parse_proxy(url).place == place


@pytest.mark.parametrize(
    "url",
    [
        *(
            "proxy:3128",
            "https://proxy:3128",
            "socks5://proxy:1080",
            "http://proxy",
            "http://:3128",
            "http://proxy:0",
        ),
        *(
            "http://proxy:99999",
            "http://proxy:3128/path",
            "http://proxy:3128?x",
            "http://pro xy:3128",
            "http://",
        ),
        *("http://proxy\r\nX: y:3128", "http://u:s3cret@proxy:3128"),
    ],
)
def test_what_is_no_proxy_is_refused_and_no_password_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="is no http|must not carry") as refused:
        parse_proxy(url)
    assert "s3cret" not in str(refused.value)


ENVIRONMENT = {
    "HTTPS_PROXY": "http://site:s3cret@proxy:3128",
    "http_proxy": "plain:8080",
    "NO_PROXY": "corp.example, .lab.example,10.0.0.5:5000 ,",
}


@pytest.mark.parametrize(
    ("scheme", "host", "port", "place"),
    [
        ("https", "registry.example", 443, "proxy:3128"),
        ("http", "registry.example", 80, "plain:8080"),
        ("https", "corp.example", 443, None),
        ("https", "r.CORP.example", 443, None),
        ("https", "notcorp.example", 443, "proxy:3128"),
        ("https", "r.lab.example", 443, None),
        ("https", "10.0.0.5", 5000, None),
        ("https", "10.0.0.5", 443, "proxy:3128"),
        ("http", "127.0.0.1", 5000, None),
        ("http", "localhost", 5000, None),
    ],
)
def test_the_environment_is_read_as_curl_reads_it(
    scheme: str, host: str, port: int, place: str | None
) -> None:
    found = Environment(ENVIRONMENT).towards(scheme, host, port)
    assert (found.place if found else None) == place
    if place == "proxy:3128":
        assert found is not None
        assert found.authorization == LOGIN
        assert "s3cret" not in repr(found)
        assert LOGIN not in repr(found)


def test_small_letters_come_first_and_a_star_passes_all_by() -> None:
    assert Environment({}).towards("https", "r.example", 443) is None
    both = Environment({"https_proxy": "small:1", "HTTPS_PROXY": "large:1"}).towards(
        "https", "r.example", 443
    )
    assert both is not None
    assert both.place == "small:1"
    assert Environment({"https_proxy": "small:1", "no_proxy": "*"}).towards("https", "r.example", 443) is None


@pytest.mark.parametrize(
    ("host", "port", "passed_by"),
    [
        ("fd00::5", 443, True),
        ("fd00::6", 443, False),
        ("2001:db8::a", 443, True),
        ("2001:db8::b", 5000, True),
        ("2001:db8::b", 443, False),
        ("fd00", 443, False),
    ],
)
def test_ipv6_addresses_are_passed_by_with_and_without_brackets(
    host: str, port: int, *, passed_by: bool
) -> None:
    said = {"https_proxy": "proxy:3128", "no_proxy": "fd00::5, [2001:DB8::a],[2001:db8::b]:5000"}
    assert (Environment(said).towards("https", host, port) is None) == passed_by


def test_an_environment_that_names_no_usable_proxy_says_so() -> None:
    with pytest.raises(ConfigError, match="https_proxy is no http"):
        Environment({"HTTPS_PROXY": "socks5://u:s3cret@proxy:1080"}).towards("https", "r.example", 443)


def test_the_environment_counts_only_when_the_configuration_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with ConnectProxy(says=_said(b"HTTP/1.1 403 No\r\n\r\n")) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "")
        for words, tunnels in (({}, 0), ({"proxy": "environment"}, 1)):
            source = {"url": "https://registry.invalid", **words}
            config = parse(_document(source), base=tmp_path)
            with pytest.raises(TransportError):
                config.origin.open().manifest("digit-reader", "1.0.0")
            assert len(proxy.tunnels) == tunnels


def _document(source: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": 1,
        "device": {"id": "pi-7", "class": "raspberry-pi-4"},
        "source": source,
        "trust": {"root": "root.json"},
    }


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ({"proxy": "socks5://proxy:1080"}, "source.proxy is no http://HOST:PORT"),
        ({"proxy": "http://u:s3cret@proxy:1"}, "source.proxy must not carry a password"),
        (
            {"proxy": "environment", "proxyUsername": "env:U", "proxyPassword": "env:P"},
            "source.proxyUsername belongs to",
        ),
        (
            {"proxy": "http://proxy:1", "proxyUsername": "env:U"},
            "source.proxyUsername and proxyPassword belong",
        ),
        ({"proxyUsername": "env:U", "proxyPassword": "env:P"}, "source.proxyUsername belongs to a proxy"),
        ({"url": "oci:usb", "proxy": "http://proxy:1"}, "source.proxy stands before registries only"),
        ({"mirrors": [{"url": "https://m", "proxy": "x"}]}, "source.mirrors[0].proxy is no http"),
    ],
)
def test_a_wrong_proxy_is_told(source: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(_document({"url": "https://registry.example", **source}), base=tmp_path)
    assert told in str(refused.value)
    assert "s3cret" not in str(refused.value)
