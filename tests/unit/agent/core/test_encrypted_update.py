"""Updates to encrypted artifacts: the key is asked for before a byte is fetched; what lies there is for few to read."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from edgewright_agent.artifact import Layer
from edgewright_agent.config import MAX_DECRYPTION_KEYS
from edgewright_agent.contract import digest_of
from edgewright_agent.errors import ConfigError
from edgewright_agent.files import Calls
from edgewright_agent.reuse import twins
from unit.agent.core.sealing import make_key, seal, write_private
from unit.agent.core.workbench import Bench, DyingCalls, Made, PowerCut, make_artifact

KEY = make_key()
PLAIN = make_artifact("1.0.0", size=60_000)


def sealed_artifact(version: str) -> tuple[Made, dict[str, bytes]]:
    """An artifact whose model is for `KEY`, and the blobs that a registry holds of it."""
    made = make_artifact(version, size=60_000)
    layer, blob = seal(made.files["model.onnx"], [KEY])
    assert layer.sealed

    def edit(document: dict[str, Any]) -> None:
        document["layers"][0] = {
            "mediaType": "application/vnd.cncf.model.weight.v1.raw+encrypted",
            "digest": layer.digest,
            "size": layer.size,
            "annotations": {
                "org.opencontainers.image.title": "model.onnx",
                "org.cncf.model.filepath": "model.onnx",
                "dev.edgewright.file-digest": layer.file_digest,
                "dev.edgewright.file-size": str(layer.file_size),
                "org.opencontainers.image.enc.keys.jwe": layer.sealed.keys,  # type: ignore[union-attr]
                "org.opencontainers.image.enc.pubopts": layer.sealed.options,  # type: ignore[union-attr]
            },
        }

    return make_artifact(version, files=made.files, edit=edit), {layer.digest: blob}


SEALED, BLOBS = sealed_artifact("2.0.0")
WEIGHTS = SEALED.files["model.onnx"]


def offer(bench: Bench, *earlier: Made) -> None:
    """Release the encrypted artifact; the source has its ciphertext and nothing else."""
    bench.publish(*earlier, SEALED)
    del bench.shelf.blobs[digest_of(WEIGHTS)]
    bench.shelf.blobs.update(BLOBS)


def give_key(bench: Bench, key: Any = KEY, mode: int = 0o600) -> Path:
    bench.document["decryption"] = {"keys": ["device.key"]}
    return write_private(bench.folder / "device.key", key, mode=mode)


@pytest.fixture
def device(tmp_path: Path) -> Bench:
    """A device that runs 1.0.0 and is offered an encrypted 2.0.0."""
    bench = Bench(tmp_path / "device")
    bench.publish(PLAIN)
    assert bench.codes() == ["installed"]
    offer(bench, PLAIN)
    return bench


def holders(folder: Path) -> list[Path]:
    """Files in which a piece of the weights can be read."""
    piece = WEIGHTS[1000:1200]
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    return [path for path in files if piece in path.read_bytes()]


def test_the_holder_of_the_key_installs_it(device: Bench) -> None:
    give_key(device)
    assert device.codes() == ["installed"]
    assert device.running() == "2.0.0"
    assert holders(device.folder) == [device.store.path(SEALED.digest) / "model.onnx"]


def test_without_a_key_nothing_is_fetched_and_the_active_model_keeps_running(device: Bench) -> None:
    before = len(device.shelf.blob_requests())
    report = device.once()
    assert [outcome.code for outcome in report.outcomes] == ["no-decryption-key"]
    assert report.exit_code == 2
    assert len(device.shelf.blob_requests()) == before
    assert device.running() == "1.0.0"


def test_somebody_elses_key_is_no_key(device: Bench) -> None:
    give_key(device, make_key())
    assert device.codes() == ["no-decryption-key"]
    assert device.running() == "1.0.0"


def test_a_key_that_comes_later_is_used_at_the_next_poll(device: Bench) -> None:
    device.once()
    give_key(device)
    assert device.codes() == ["installed"]


def test_a_key_that_others_can_read_is_refused_and_the_active_model_keeps_running(device: Bench) -> None:
    give_key(device, mode=0o644)
    report = device.once()
    assert [outcome.code for outcome in report.outcomes] == ["bad-key"]
    assert report.exit_code == 1
    assert device.running() == "1.0.0"


def test_an_artifact_that_is_not_encrypted_needs_no_key_and_stays_readable_by_all(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.document["decryption"] = {"keys": ["absent.key"]}
    bench.publish(PLAIN)
    assert bench.codes() == ["installed"]
    assert bench.store.path(PLAIN.digest).stat().st_mode & 0o777 == 0o755


def test_an_installed_one_is_for_the_agent_and_its_group(device: Bench) -> None:
    give_key(device)
    device.once()
    folder = device.store.path(SEALED.digest)
    assert folder.stat().st_mode & 0o777 == 0o750
    assert (folder / "model.onnx").stat().st_mode & 0o777 == 0o640


def test_while_it_grows_nobody_else_can_look_into_its_directory(device: Bench) -> None:
    modes: set[int] = set()
    state = device.state

    class Watching(Calls):
        def write(self, path: Path, fd: int, data: bytes, offset: int) -> None:
            if path.parent.name.endswith(".staging"):
                modes.add(path.parent.stat().st_mode & 0o777)
            super().write(path, fd, data, offset)

    give_key(device)
    device.calls = Watching()
    device.once()
    assert modes == {0o700}
    assert holders(state)


def test_an_encrypted_file_that_was_damaged_is_fetched_and_opened_again(device: Bench) -> None:
    give_key(device)
    device.once()
    path = device.store.path(SEALED.digest) / "model.onnx"
    path.write_bytes(b"?" + WEIGHTS[1:])
    assert device.codes(force=True) == ["repaired"]
    assert path.read_bytes() == WEIGHTS


def test_the_key_is_not_needed_again_once_it_is_installed(device: Bench) -> None:
    key = give_key(device)
    device.once()
    key.unlink()
    device.now = device.now.replace(hour=1)
    assert device.codes(force=True) == ["current"]


def test_a_power_cut_at_every_operation_leaves_no_plaintext_where_others_can_read_it(
    device: Bench, tmp_path: Path
) -> None:
    give_key(device)

    def copy(name: str, calls: Calls | None) -> Bench:
        shutil.copytree(device.folder, tmp_path / name, symlinks=True)
        return reopened(name, calls)

    def reopened(name: str, calls: Calls | None) -> Bench:
        bench = Bench(tmp_path / name, calls=calls)
        bench.publish(PLAIN)
        offer(bench, PLAIN)
        bench.document["decryption"] = {"keys": ["device.key"]}
        return bench

    counting = DyingCalls()
    copy("whole", counting).once()
    assert counting.count > 30
    for dies_at in range(1, counting.count + 1):
        with pytest.raises(PowerCut):
            copy("cut", DyingCalls(dies_at)).once()
        for path in holders(tmp_path / "cut"):
            assert path.parent.stat().st_mode & 0o007 == 0, f"{path.name} after operation {dies_at}"
        bench = reopened("cut", None)
        bench.once()
        assert bench.running() == "2.0.0"
        assert holders(bench.folder) == [bench.store.path(SEALED.digest) / "model.onnx"]
        shutil.rmtree(tmp_path / "cut")


def test_keys_are_few_and_named_in_the_configuration(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert bench.config.decryption.keys == ()
    bench.document["decryption"] = {"keys": ["a.key", "/etc/b.key"]}
    assert bench.config.decryption.keys == (tmp_path / "a.key", Path("/etc/b.key"))
    for wrong in (
        {},
        {"keys": []},
        {"keys": "a"},
        {"keys": ["a"], "key": 1},
        {"keys": ["a"] * (MAX_DECRYPTION_KEYS + 1)},
        5,
    ):
        bench.document["decryption"] = wrong
        with pytest.raises(ConfigError, match="decryption"):
            _ = bench.config


def test_a_decrypted_file_is_never_copied_to_where_everybody_reads(device: Bench) -> None:
    """Who can sign for the class may name the digest of a plaintext, and still does not get it made readable."""
    give_key(device)
    assert device.codes() == ["installed"]
    weights = {layer.file: layer for layer in device.store.artifact(SEALED.digest).layers}["model.onnx"]
    open_layer = Layer("model.onnx", weights.file_digest, weights.file_size)
    assert list(twins(device.store, weights)), "to where it is encrypted again it is copied"
    assert not list(twins(device.store, open_layer))
