"""Encrypted weights from the pipeline to a device: real registry, real skopeo, a real agent process that answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.publish import oci
from edgewright.trust.assignment import PublishedLane
from edgewright_agent.artifact import Layer, Sealed
from edgewright_agent.contract import digest_of, file_of_layer
from edgewright_agent.decrypt import decrypted, unwrap
from edgewright_agent.errors import TrustError
from real import Registry, Tool
from unit.agent.core import onnx_artifact
from unit.agent.core.sealing import Key, make_key, rsa_key, write_private, write_public
from unit.publish.lane import CLASS, MODEL, LaneFiles, run_index
from unit.trust.fleet import SmallFleet

EC, RSA = make_key(), rsa_key()
WEIGHTS = np.random.default_rng(3).standard_normal((4, 3)).astype(np.float32)
PAD = b"the trained weights of this model are nobody's business; "


def model_bytes() -> bytes:
    """A model that runs, large enough and regular enough to be compressed."""
    import onnx

    model = onnx.load_model_from_string(onnx_artifact.model_bytes(WEIGHTS))
    model.doc_string = (PAD * 500).decode()
    return bytes(model.SerializeToString())


def encrypted_lane(root: Path, url: str, *, compression: str = "none", **options: Any) -> LaneFiles:
    """A lane of a model that runs, for the holders of an EC and of an RSA key."""
    write_public(root / "recipients/class.pub", EC)
    write_public(root / "recipients/spare.pub", RSA)
    lane = LaneFiles(
        root,
        {"url": url},
        weights=model_bytes(),
        compression=compression,
        recipients=("recipients/class.pub", "recipients/spare.pub"),
        **options,
    )
    for name, data in onnx_artifact.files(weights=WEIGHTS).items():
        if name != "model.onnx":
            lane.give("evaluated" if f"evaluated/{name}" in lane.inputs else "optimized", name, data)
    return lane


def blob_of(folder: Path, layer: dict[str, Any]) -> bytes:
    """What skopeo put into a `dir:` folder for one layer."""
    data = (folder / layer["digest"].removeprefix("sha256:")).read_bytes()
    assert digest_of(data) == layer["digest"]
    return data


def opened(skopeo: Tool, source: str, key: Path, *flags: str) -> tuple[dict[str, Any], Path]:
    """Copy an artifact with skopeo and a private key; return the manifest it wrote and where the blobs are."""
    out = skopeo.home / "opened"
    done = skopeo("--insecure-policy", "copy", *flags, "--decryption-key", key, source, f"dir:{out}")
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads((out / "manifest.json").read_bytes())
    return document, out


def image_of(folder: Path, data: bytes) -> Path:
    """A container image with one layer, as skopeo keeps it in a folder: it encrypts no other media types."""
    folder.mkdir()
    config = b'{"architecture":"arm64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
    manifest = oci.manifest(
        artifact_type="application/vnd.oci.image.config.v1+json",
        config=oci.descriptor("application/vnd.oci.image.config.v1+json", config),
        layers=[oci.descriptor("application/vnd.oci.image.layer.v1.tar", data)],
    )
    for blob in (config, data):
        (folder / digest_of(blob).removeprefix("sha256:")).write_bytes(blob)
    (folder / "manifest.json").write_bytes(manifest)
    (folder / "version").write_text("Directory Transport Version: 1.1\n")
    return folder


# --- real skopeo ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("key", [EC, RSA], ids=["ec", "rsa"])
def test_skopeo_opens_what_is_in_a_registry_and_gets_the_very_layers(
    tmp_path: Path, registry: Registry, skopeo: Tool, key: Key, compression: str
) -> None:
    lane = encrypted_lane(tmp_path / "fleet", f"{registry.url}/acme", compression=compression)
    lane.all()
    plain = LaneFiles(
        tmp_path / "plain", weights=lane.weights, compression=compression, inputs=dict(lane.inputs)
    )
    for name in (
        "runtime",
        "golden",
        "labels",
    ):  # as the encrypted lane's, for `LaneFiles` begins with its own
        stage = "optimized" if name == "runtime" else "evaluated"
        plain.give(stage, f"{name}.json", lane.inputs[f"{stage}/{name}.json"].read_bytes())
    plain.package()
    reference = f"docker://{registry.host}/acme/{MODEL}@{lane.digest}"
    private = write_private(tmp_path / "device.key", key)
    manifest, out = opened(skopeo, reference, private, "--src-tls-verify=false")
    wanted = json.loads(plain.manifest)["layers"]
    assert [(layer["mediaType"], layer["digest"]) for layer in manifest["layers"]] == [
        (layer["mediaType"], layer["digest"]) for layer in wanted
    ]
    name, digest, _ = file_of_layer(manifest["layers"][0])
    assert (name, digest) == ("model.onnx", digest_of(lane.weights))
    if compression == "none":
        assert blob_of(out, manifest["layers"][0]) == lane.weights


def test_skopeo_opens_a_version_in_an_oci_layout(tmp_path: Path, skopeo: Tool) -> None:
    lane = encrypted_lane(tmp_path / "fleet", "oci:out")
    lane.all()
    run_index(lane)
    source = f"oci:{lane.root / 'out' / MODEL}:1.0.0"
    private = write_private(tmp_path / "device.key", EC)
    manifest, out = opened(skopeo, source, private, "--override-os=linux", "--override-arch=arm64")
    assert blob_of(out, manifest["layers"][0]) == lane.weights


def test_skopeo_with_another_key_gets_nothing(tmp_path: Path, registry: Registry, skopeo: Tool) -> None:
    lane = encrypted_lane(tmp_path / "fleet", f"{registry.url}/acme")
    lane.all()
    reference = f"docker://{registry.host}/acme/{MODEL}@{lane.digest}"
    other = write_private(tmp_path / "other.key", make_key())
    done = skopeo(
        "--insecure-policy", "copy", "--src-tls-verify=false", "--decryption-key", other, reference, "dir:out"
    )
    assert done.returncode != 0
    assert "none of the private keys could be used" in done.stderr


def test_skopeo_shows_the_manifest_as_it_was_published(
    tmp_path: Path, registry: Registry, skopeo: Tool
) -> None:
    lane = encrypted_lane(tmp_path / "fleet", f"{registry.url}/acme")
    lane.all()
    reference = f"docker://{registry.host}/acme/{MODEL}@{lane.digest}"
    done = skopeo("inspect", "--raw", "--tls-verify=false", reference)
    assert done.returncode == 0, done.stderr
    assert done.stdout.encode() == lane.manifest


def test_cosign_verifies_an_encrypted_artifact_like_any_other(
    tmp_path: Path, registry: Registry, cosign: Tool
) -> None:
    lane = encrypted_lane(tmp_path / "fleet", f"{registry.url}/acme")
    lane.all()
    flags = ("--insecure-ignore-tlog=true", "--allow-http-registry")
    reference = f"{registry.host}/acme/{MODEL}@{lane.digest}"
    checked = cosign("verify", "--key", lane.root / "keys/signing.pub", *flags, reference)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("number", [1, 2], ids=["flattened", "general"])
@pytest.mark.parametrize("key", [EC, RSA], ids=["ec", "rsa"])
def test_a_device_opens_what_skopeo_encrypted(tmp_path: Path, skopeo: Tool, key: Key, number: int) -> None:
    data = model_bytes()
    to = [write_public(tmp_path / "device.pub", key), write_public(tmp_path / "other.pub", rsa_key(1))]
    flags = [flag for path in to[:number] for flag in ("--encryption-key", f"jwe:{path}")]
    out = tmp_path / "encrypted"
    image = image_of(tmp_path / "image", data)
    done = skopeo("--insecure-policy", "copy", *flags, f"dir:{image}", f"dir:{out}")
    assert done.returncode == 0, done.stderr
    described = json.loads((out / "manifest.json").read_bytes())["layers"][0]
    assert described["mediaType"].endswith(".tar+encrypted")
    notes = described["annotations"]
    sealed = Sealed(
        notes["org.opencontainers.image.enc.keys.jwe"], notes["org.opencontainers.image.enc.pubopts"]
    )
    file = (digest_of(data), len(data))
    layer = Layer("model.onnx", described["digest"], described["size"], file, sealed)
    part = out / described["digest"].removeprefix("sha256:")
    assert b"".join(decrypted(part, layer, unwrap(layer, [key]))) == data
    with pytest.raises(TrustError, match="none of the keys"):
        unwrap(layer, [make_key()])


# --- a real agent -----------------------------------------------------------------------------------------------


def agent(folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the agent's command line; what it leaves in its temporary folder stays there to be looked at."""
    (folder / "tmp").mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-m", "edgewright_agent", *map(str, words)],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder / "tmp"), "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def holders(folder: Path) -> list[Path]:
    """Files below a folder in which a piece of the plaintext can be read."""
    pieces = (WEIGHTS.tobytes(), PAD)
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    return [path for path in files if any(piece in path.read_bytes() for piece in pieces)]


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_device_with_the_key_installs_it_from_a_registry_and_answers(
    tmp_path: Path, registry: Registry, compression: str
) -> None:
    fleet = SmallFleet(tmp_path / "fleet", f"{registry.url}/acme", classes=(CLASS,), now=datetime.now(UTC))
    keys = fleet.root / ".edgewright/keys"
    signing = {"privateKey": f"file:{keys}/signing.key", "publicKey": f"{keys}/signing.pub"}
    lane = encrypted_lane(fleet.root, fleet.url, compression=compression, signing=signing)
    lane.all()
    size = len(lane.manifest)
    fleet.lanes[MODEL] = {CLASS: PublishedLane(lane.digest, size, lane.model_version, MODEL)}
    fleet.release()

    device = tmp_path / "device"
    private = write_private(device / "device.key", EC)
    told = agent(
        device, "init", "--device-id", "pi-7", "--class", CLASS, "--source", fleet.url,
        "--root", fleet.metadata / "1.root.json", "--key", keys / "signing.pub", "--state", device / "state",
        "--out", device / "agent.json",
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    config = json.loads((device / "agent.json").read_text())

    done = agent(device, "once", "--config", "agent.json")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "no-decryption-key" in done.stdout
    assert not list((device / "state/store").glob("*")), "not a byte was fetched"

    config["decryption"] = {"keys": [str(private)]}
    (device / "agent.json").write_text(json.dumps(config))
    done = agent(device, "once", "--config", "agent.json")
    assert done.returncode == 0, done.stdout + done.stderr
    answer = agent(device, "infer", MODEL, "--config", "agent.json")
    assert answer.returncode == 0, answer.stderr
    entry = device / "state/store" / lane.digest.removeprefix("sha256:")
    assert holders(device) == [entry / "model.onnx"], "in the store, and neither beside it nor in TMPDIR"
    assert entry.stat().st_mode & 0o777 == 0o750
    assert (entry / "model.onnx").read_bytes() == lane.weights
    assert holders(registry.storage) == []
    assert "PRIVATE" not in done.stdout + done.stderr


def test_init_checks_the_decryption_key_at_once(tmp_path: Path) -> None:
    device = tmp_path / "device"
    for name, mode, code in (("open.key", 0o644, 1), ("device.key", 0o600, 0)):
        private = write_private(device / name, EC, mode=mode)
        fleet = SmallFleet(tmp_path / "fleet", now=datetime.now(UTC))
        fleet.publish_all("1.0.0")
        fleet.release()
        told = agent(
            device, "init", "--device-id", "pi-7", "--class", CLASS, "--source", f"oci:{fleet.root / 'registry'}",
            "--root", fleet.metadata / "1.root.json", "--key", fleet.root / ".edgewright/keys/signing.pub",
            "--state", device / "state", "--decryption-key", private, "--out", device / f"{name}.json",
        )  # fmt: skip
        assert told.returncode == code, told.stderr
        assert ("chmod 600" in told.stderr) == (code == 1)
    config = json.loads((device / "device.key.json").read_text())
    assert config["decryption"] == {"keys": [str(device / "device.key")]}
