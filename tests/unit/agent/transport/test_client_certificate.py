"""Who is shown this device's certificate: the registry it is for, and nobody the registry leads to."""

from __future__ import annotations

import http.server
import ssl
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from authority import Authority
from edgewright.publish.http_exchange import Exchange
from edgewright_agent.contract import OCI_MANIFEST
from edgewright_agent.errors import ConfigError
from edgewright_agent.transport import open_source
from edgewright_agent.transport.authority import Authorities
from unit.devices.plant import Device, Plant


class Host:
    """An HTTPS server that would like to see a certificate; it answers, or leads elsewhere."""

    def __init__(self, authority: Authority, clients: Path, leads_to: str | None = None) -> None:
        self.shown: list[str | None] = []
        self.serials: list[str | None] = []
        host = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                connection: Any = self.connection
                certificate = connection.getpeercert() or {}
                host.serials.append(certificate.get("serialNumber"))
                found = dict(pair[0] for pair in certificate.get("subject", ()))
                host.shown.append(found.get("commonName"))
                body = b'{"layers": []}'
                self.send_response(302 if leads_to else 200)
                if leads_to:
                    self.send_header("Location", leads_to + self.path)
                self.send_header("Content-Type", OCI_MANIFEST)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*map(str, authority.server))
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(str(clients))
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._http.server_port}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant(tmp_path / "plant", now=datetime.now(timezone.utc).replace(microsecond=0))


@pytest.fixture
def pump(plant: Plant) -> Device:
    device = plant.device("pump-7")
    device.install(plant.certificate("pump-7").public_bytes(serialization.Encoding.PEM))
    return device


@pytest.fixture
def storage(authority: Authority, plant: Plant) -> Iterator[Host]:
    made = Host(authority, plant.ca_file)
    yield made
    made.close()


@pytest.fixture
def home(authority: Authority, plant: Plant, storage: Host) -> Iterator[Host]:
    made = Host(authority, plant.ca_file, leads_to=storage.url)
    yield made
    made.close()


def test_the_registry_sees_the_certificate_and_where_it_leads_does_not(
    home: Host, storage: Host, pump: Device, authority: Authority
) -> None:
    source = open_source(home.url, ca_file=str(authority.ca_file), client=pump.identity.client())
    assert source.manifest("x", "y") is not None
    source.close()
    assert (home.shown, storage.shown) == (["pump-7"], [None])


def test_a_certificate_renewed_on_disk_is_shown_at_the_next_poll_also_where_the_authority_is_remembered(
    storage: Host, plant: Plant, pump: Device, authority: Authority, tmp_path: Path
) -> None:
    ca_file = tmp_path / "many.pem"
    ca_file.write_bytes(authority.ca_file.read_bytes() + b"# and so on\n" * 2000)
    authorities = Authorities()
    for renewed in range(2):
        if renewed:
            pump.install(plant.certificate("pump-7").public_bytes(serialization.Encoding.PEM))
        client = pump.identity.client()
        source = open_source(storage.url, ca_file=str(ca_file), client=client, authorities=authorities)
        assert source.manifest("x", "y") is not None
        source.close()
    assert len(authorities.document()) == 1
    assert storage.shown == ["pump-7"] * 2
    assert storage.serials[0] != storage.serials[1]


def test_the_pipelines_certificate_is_shown_to_its_registry_alone_as_well(
    home: Host, storage: Host, pump: Device, authority: Authority
) -> None:
    client = (pump.identity.certificate, pump.identity.key)
    exchange = Exchange(home.url, ca_file=authority.ca_file, client=client)
    assert exchange.send("GET", f"{home.url}/v2/x/manifests/y", scope="x").status == 200
    assert (home.shown, storage.shown) == (["pump-7"], [None])


def test_a_device_without_a_certificate_yet_connects_without_one(
    storage: Host, plant: Plant, authority: Authority
) -> None:
    device = plant.device("pump-8")
    source = open_source(storage.url, ca_file=str(authority.ca_file), client=device.identity.client())
    assert source.manifest("x", "y") is not None
    source.close()
    assert storage.shown == [None]


@pytest.mark.parametrize("spoil", ["key missing", "certificate torn", "key of another", "key encrypted"])
def test_certificate_and_key_that_cannot_be_used_are_told_before_anything_is_sent(
    plant: Plant, pump: Device, spoil: str
) -> None:
    if spoil == "key missing":
        pump.identity.key.unlink()
    elif spoil == "certificate torn":
        pump.install(pump.identity.certificate.read_bytes()[:200])
    elif spoil == "key of another":
        pump.identity.key.write_bytes(plant.device("pump-9").identity.key.read_bytes())
    else:
        private: Any = serialization.load_pem_private_key(pump.identity.key.read_bytes(), None)
        lock = serialization.BestAvailableEncryption(b"secret")
        pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
        pump.identity.key.write_bytes(pem)
    with pytest.raises(ConfigError) as refused:
        open_source("https://registry.example", client=pump.identity.client())
    assert refused.value.code == "bad-identity"
    assert "identity show" in str(refused.value)
