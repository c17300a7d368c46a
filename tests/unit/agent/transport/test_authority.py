"""Of many authorities a poll reads the one it needs: and trusts nobody whom the CA file does not name."""

from __future__ import annotations

import http.server
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from authority import Authority
from edgewright_agent.errors import ConfigError, TransportError
from edgewright_agent.transport.authority import Authorities, Known
from edgewright_agent.transport.registry import RegistrySource
from unit.agent.core.idle import Unchanged

FILLER = b"# a line between certificates, as bundles have them\n" * 400  # 20 KiB: more than is read anyway


class Server:
    """An HTTPS registry without news, which may go to another authority."""

    def __init__(self) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        handler = type("Handler", (Unchanged,), {"asked": []})
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.port = self._http.server_port
        self.place = f"https://127.0.0.1:{self.port}"

    def start(self, authority: Authority) -> None:
        self.goes_to(authority)
        self._http.socket = self.context.wrap_socket(self._http.socket, server_side=True)
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def goes_to(self, authority: Authority) -> None:
        self.context.load_cert_chain(*map(str, authority.server))

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


def authority(folder: Path) -> Authority:
    folder.mkdir()
    return Authority.create(folder, f"authority {folder.name}")


@pytest.fixture
def one(tmp_path: Path) -> Authority:
    return authority(tmp_path / "one")


@pytest.fixture
def other(tmp_path: Path) -> Authority:
    return authority(tmp_path / "other")


@pytest.fixture
def server(one: Authority) -> Iterator[Server]:
    made = Server()
    made.start(one)
    yield made
    made.close()


@pytest.fixture
def ca_file(tmp_path: Path, one: Authority, other: Authority) -> Path:
    path = tmp_path / "trusted.pem"
    path.write_bytes(other.ca_file.read_bytes() + FILLER + one.ca_file.read_bytes())
    return path


def poll(server: Server, ca_file: Path, authorities: Authorities, host: str = "127.0.0.1") -> list[int]:
    """Ask; returns how many authorities each way of speaking TLS has trusted."""
    url = f"https://{host}:{server.port}"
    source = RegistrySource(url, ca_file=str(ca_file), authorities=authorities)
    assert source.manifest("tuf", "timestamp.json", etag='"known"') is None
    contexts = source._wire._tls.values()
    assert all(context.minimum_version >= ssl.TLSVersion.TLSv1_2 for context in contexts)
    assert all(context.verify_mode == ssl.CERT_REQUIRED and context.check_hostname for context in contexts)
    source.close()
    return [len(context.get_ca_certs()) for context in contexts]


def refused(server: Server, ca_file: Path, authorities: Authorities, host: str = "127.0.0.1") -> str:
    with pytest.raises(TransportError) as caught:
        poll(server, ca_file, authorities, host)
    assert caught.value.code == "network"
    return str(caught.value)


def test_the_first_poll_reads_all_of_them_and_the_next_the_one_that_vouched(
    server: Server, ca_file: Path
) -> None:
    authorities = Authorities()
    assert poll(server, ca_file, authorities) == [2]
    assert poll(server, ca_file, authorities) == [1]
    again = Authorities.parse(authorities.document(), Authorities())
    assert poll(server, ca_file, again) == [1]


def test_one_that_is_taken_out_of_the_file_is_trusted_no_more_whatever_its_date_says(
    server: Server, ca_file: Path, one: Authority, other: Authority
) -> None:
    authorities = Authorities()
    poll(server, ca_file, authorities)
    before, size = ca_file.stat(), len(ca_file.read_bytes())
    ca_file.write_bytes((other.ca_file.read_bytes() + FILLER).ljust(size, b"\n"))
    os.utime(ca_file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (ca_file.stat().st_size, ca_file.stat().st_mtime_ns) == (size, before.st_mtime_ns)
    assert "is not trusted" in refused(server, ca_file, authorities)


def test_a_file_that_another_has_replaced_is_read_anew(
    server: Server, ca_file: Path, other: Authority, tmp_path: Path
) -> None:
    authorities = Authorities()
    poll(server, ca_file, authorities)
    (tmp_path / "new.pem").write_bytes(other.ca_file.read_bytes() + FILLER)
    (tmp_path / "new.pem").replace(ca_file)
    assert "is not trusted" in refused(server, ca_file, authorities)


def test_a_server_that_goes_to_another_authority_of_the_file_is_reached_in_the_same_poll(
    server: Server, ca_file: Path, other: Authority
) -> None:
    authorities = Authorities()
    poll(server, ca_file, authorities)
    server.goes_to(other)
    assert poll(server, ca_file, authorities) == [1, 2]
    assert poll(server, ca_file, authorities) == [1]


def test_a_server_that_goes_to_an_authority_nobody_trusts_is_refused(
    server: Server, ca_file: Path, tmp_path: Path
) -> None:
    authorities = Authorities()
    poll(server, ca_file, authorities)
    server.goes_to(authority(tmp_path / "stranger"))
    assert "is not trusted" in refused(server, ca_file, authorities)


def test_the_name_in_the_certificate_counts_as_before(server: Server, ca_file: Path) -> None:
    authorities = Authorities()
    poll(server, ca_file, authorities)
    known = next(iter(authorities._known.values()))
    elsewhere = Authorities({f"https://127.1:{server.port}": known})
    assert "Hostname mismatch" in refused(server, ca_file, elsewhere, host="127.1")


def test_a_certificate_that_does_not_stand_in_the_file_is_not_remembered(
    server: Server, ca_file: Path, one: Authority
) -> None:
    """Such as one that OpenSSL found in its directory: what is there now nobody would notice to be taken away."""
    authorities = Authorities()
    trusting = ssl.create_default_context(cafile=str(one.ca_file))
    elsewhere = ca_file.with_name("elsewhere.pem")
    elsewhere.write_bytes(FILLER)
    plain = socket.create_connection(("127.0.0.1", server.port))
    with trusting.wrap_socket(plain, server_hostname="127.0.0.1") as connected:
        authorities.learn(server.place, str(elsewhere), connected)
        assert authorities.document() == {}
        authorities.learn(server.place, str(ca_file), connected)
        assert list(authorities.document()) == [server.place]


def test_a_file_of_few_is_read_whole_every_time(server: Server, one: Authority) -> None:
    authorities = Authorities()
    for _ in range(2):
        assert poll(server, one.ca_file, authorities) == [1]
    assert authorities.document() == {}


def test_a_file_that_is_lost_is_a_configuration_error_although_its_authority_is_remembered(
    server: Server, ca_file: Path
) -> None:
    authorities = Authorities()
    poll(server, ca_file, authorities)
    ca_file.unlink()
    with pytest.raises(ConfigError) as caught:
        poll(server, ca_file, authorities)
    assert caught.value.code == "bad-ca-file"


def test_few_servers_are_remembered(server: Server, ca_file: Path) -> None:
    authorities = Authorities({f"https://{number}:443": Known("m", b"d") for number in range(8)})
    poll(server, ca_file, authorities)
    assert len(authorities.document()) == 8
    assert server.place in authorities.document()
