from __future__ import annotations

import hashlib
import http.server
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save

from authority import Authority
from edgewright.build.fetch import fetch
from edgewright.errors import BuildError, NetworkError
from real import closed_port
from unit.build.tiny import Repository


def named(data: bytes, **place: str) -> dict[str, Any]:
    return {"train": None, "checkpoint": {**place, "sha256": hashlib.sha256(data).hexdigest()}}


@pytest.fixture
def weights(exported: Repository) -> bytes:
    return exported.files["checkpoint/weights.safetensors"].read_bytes()


def test_training_twice_gives_the_same_bytes_whatever_was_random_before(repository: Repository) -> None:
    first = repository.run("checkpoint")["weights.safetensors"].read_bytes()
    torch.rand(7)
    assert repository.run("checkpoint")["weights.safetensors"].read_bytes() == first
    assert repository.result.facts["parameters"] == 4 * 8 + 8 + 8 * 3 + 3
    assert repository.result.facts["training_seconds"] >= 0


def test_training_uses_one_thread_and_leaves_torch_as_it_was(repository: Repository, write: Any) -> None:
    write(
        "train.py", "import torch\ndef fit(network, seed, steps):\n    assert torch.get_num_threads() == 1\n"
    )
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    repository.run("checkpoint")
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_file_of_the_right_digest_is_copied_byte_for_byte(repository: Repository, weights: bytes) -> None:
    (repository.folder / "w.safetensors").write_bytes(weights)
    made = repository.run("checkpoint", **named(weights, path="w.safetensors"))
    assert made["weights.safetensors"].read_bytes() == weights


def test_a_missing_file_is_named_as_the_yaml_names_it(repository: Repository) -> None:
    with pytest.raises(BuildError, match=r"models/tiny/gone\.safetensors: there is no such file"):
        repository.run("checkpoint", **named(b"", path="gone.safetensors"))


def test_a_wrong_digest_shows_both(repository: Repository, weights: bytes) -> None:
    (repository.folder / "w.safetensors").write_bytes(weights + b"!")
    with pytest.raises(BuildError) as caught:
        repository.run("checkpoint", **named(weights, path="w.safetensors"))
    for part in (
        "w.safetensors",
        hashlib.sha256(weights + b"!").hexdigest(),
        hashlib.sha256(weights).hexdigest(),
    ):
        assert part in str(caught.value)


def test_a_refused_checkpoint_leaves_no_output(repository: Repository) -> None:
    with pytest.raises(BuildError):
        repository.run("checkpoint", **named(b"", path="gone.safetensors"))
    assert not list(repository.root.rglob("weights.safetensors"))


def test_bytes_that_are_not_safetensors_are_refused(repository: Repository) -> None:
    (repository.folder / "w.safetensors").write_bytes(b"pickle")
    with pytest.raises(BuildError, match="not a safetensors file"):
        repository.run("checkpoint", **named(b"pickle", path="w.safetensors"))


def test_weights_of_another_network_are_refused_with_what_differs(
    repository: Repository, weights: bytes
) -> None:
    (repository.folder / "w.safetensors").write_bytes(weights)
    network = {"factory": "network:build", "arguments": {"width": 9}}
    with pytest.raises(
        BuildError, match=r"does not fit network:build\(width=9\).*0\.weight is \[8, 4\].*has \[9, 4\]"
    ):
        repository.run("checkpoint", network=network, **named(weights, path="w.safetensors"))


def test_missing_and_surplus_tensors_are_named(repository: Repository) -> None:
    other = save({"0.weight": torch.zeros(8, 4), "extra": torch.zeros(1)})
    (repository.folder / "w.safetensors").write_bytes(other)
    with pytest.raises(BuildError, match="0.bias is missing.*extra is not in the network"):
        repository.run("checkpoint", **named(other, path="w.safetensors"))


def test_weights_that_are_not_finite_are_refused(repository: Repository, exported: Repository) -> None:
    tensors = load_file(exported.files["checkpoint/weights.safetensors"])
    tensors["2.bias"][1] = torch.nan
    (repository.folder / "w.safetensors").write_bytes(data := save(tensors))
    with pytest.raises(BuildError, match="NaN or infinity in 2.bias"):
        repository.run("checkpoint", **named(data, path="w.safetensors"))


def test_a_factory_that_returns_no_module_is_named(repository: Repository, write: Any) -> None:
    write("network.py", "def build(width): return width")
    with pytest.raises(BuildError, match="network:build returned int"):
        repository.run("checkpoint")


def test_an_error_in_training_names_its_line(repository: Repository, write: Any) -> None:
    write("train.py", "def fit(network, seed, steps):\n    return 1 / 0\n")
    with pytest.raises(BuildError, match=r"train\.py:2: train:fit raised ZeroDivisionError"):
        repository.run("checkpoint")


def test_a_file_address_is_read(repository: Repository, weights: bytes, tmp_path: Path) -> None:
    (tmp_path / "a file.safetensors").write_bytes(weights)
    uri = (tmp_path / "a file.safetensors").as_uri()
    assert (
        repository.run("checkpoint", **named(weights, uri=uri))["weights.safetensors"].read_bytes() == weights
    )


def test_a_file_longer_than_the_bound_is_refused(tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(bytes(11))
    with pytest.raises(BuildError, match="longer than 10 bytes"):
        fetch((tmp_path / "long").as_uri(), limit_bytes=10)


@pytest.mark.parametrize("uri", ["http://models.example/w", "ftp://models.example/w", "w.safetensors"])
def test_other_schemes_than_https_and_file_are_refused(uri: str) -> None:
    with pytest.raises(BuildError, match="use https:// or file://"):
        fetch(uri)


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/weights":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(bytes(100))
        elif self.path == "/downgrade":
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/weights")  # type: ignore[attr-defined]
            self.end_headers()
        else:
            self.send_error(404)

    def log_message(self, *_args: object) -> None:
        return None


@pytest.fixture
def https(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.server)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.ca_file))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield f"https://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_an_https_address_is_read_up_to_the_bound(https: str) -> None:
    assert fetch(f"{https}/weights", limit_bytes=100) == bytes(100)
    with pytest.raises(BuildError, match="longer than 99 bytes"):
        fetch(f"{https}/weights", limit_bytes=99)


def test_a_server_that_says_no_is_a_network_error_with_its_answer(https: str) -> None:
    with pytest.raises(NetworkError, match="answered 404"):
        fetch(f"{https}/gone")


def test_a_redirect_away_from_https_is_not_followed_to_its_bytes(https: str) -> None:
    with pytest.raises((BuildError, NetworkError)):
        fetch(f"{https}/downgrade")


def test_a_server_nobody_vouches_for_is_refused(https: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(NetworkError, match="cannot be reached"):
        fetch(f"{https}/weights")


def test_an_address_nobody_answers_at_is_a_network_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with closed_port() as port, pytest.raises(NetworkError, match="cannot be reached"):
        fetch(f"https://127.0.0.1:{port}/weights")
