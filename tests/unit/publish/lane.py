"""A lane's files as earlier stages leave them, small and made up, and the publish stages run over them.

>>> lane = LaneFiles(tmp_path, registry_url="oci:out")   # doctest: +SKIP
>>> lane.package().sign().publish()                      # doctest: +SKIP
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgewright.plan.job import Job, Result
from edgewright.publish import package, push, sign, version
from edgewright.spec.recipient import read_recipient
from edgewright_agent.contract import digest_of

MODEL = "digit-reader"
CLASS = "raspberry-pi-4"


def write_key(folder: Path, passphrase: str | None = None, curve: ec.EllipticCurve | None = None) -> None:
    """Write signing.key and signing.pub."""
    key = ec.generate_private_key(curve or ec.SECP256R1())
    folder.mkdir(parents=True, exist_ok=True)
    lock: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        lock = serialization.BestAvailableEncryption(passphrase.encode())
    pkcs8 = serialization.PrivateFormat.PKCS8
    (folder / "signing.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, pkcs8, lock))
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    (folder / "signing.pub").write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, spki))


@dataclass
class LaneFiles:
    """One lane in `root`, stage by stage.

    Attributes:
        root: The fleet's repository.
        registry: The `registry` section of fleet.yaml.
        recipients: Files of the public keys that the weights are encrypted for, below `root`.
        inputs: What later stages are given.
    """

    root: Path
    registry: dict[str, Any] = field(default_factory=lambda: {"url": "oci:registry"})
    model: str = MODEL
    hardware_class: str = CLASS
    model_version: str = "1.0.0"
    weights: bytes = b"onnx" * 1000
    compression: str = "none"
    recipients: tuple[str, ...] = ()
    inputs: dict[str, Path] = field(default_factory=dict)
    signing: dict[str, Any] = field(
        default_factory=lambda: {"privateKey": "file:keys/signing.key", "publicKey": "keys/signing.pub"}
    )

    def __post_init__(self) -> None:
        for stage, name, content in (
            ("optimized", "model.onnx", self.weights),
            ("optimized", "runtime.json", b'{"engine":"onnxruntime","precision":"int8","version":1}'),
            ("evaluated", "golden.json", b'{"inputs":{},"outputs":{},"version":1}'),
            ("evaluated", "drift.json", b'{"version":1}'),
            ("evaluated", "labels.json", b'["zero","one"]'),
        ):
            self.give(stage, name, content)
        if not (self.root / "keys").exists():
            write_key(self.root / "keys")

    def give(self, stage: str, name: str, content: bytes) -> None:
        """Put a file where a stage would have left it."""
        path = self.folder(stage) / name
        path.write_bytes(content)
        self.inputs[f"{stage}/{name}"] = path

    def folder(self, stage: str) -> Path:
        """Return the folder of one stage's outputs."""
        folder = self.root / "work" / self.model / self.hardware_class / stage
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def run(self, stage: str, entry: Any, spec: dict[str, Any]) -> Result:
        """Run one stage and keep its outputs as inputs of later ones."""
        out = self.folder(stage)
        result: Result = entry(Job(self.root, self.model, self.hardware_class, spec, dict(self.inputs), out))
        self.inputs |= {f"{stage}/{path.name}": path for path in sorted(out.iterdir())}
        return result

    def package(self) -> Result:
        """Run `packaged`, and make a passing gate report about the result."""
        spec: dict[str, Any] = {
            "modelVersion": self.model_version,
            "description": "Reads digits",
            "license": "Apache-2.0",
            "hardwareClass": self.hardware_class,
            "compression": self.compression,
        }
        if self.recipients:
            found = [(name, read_recipient(self.root / name).sha256) for name in self.recipients]
            spec["encryption"] = {"recipients": [{"name": name, "sha256": sha256} for name, sha256 in found]}
        result = self.run("packaged", package.run, spec)
        self.gate()
        return result

    @property
    def manifest(self) -> bytes:
        """The packaged manifest."""
        return self.inputs["packaged/manifest.json"].read_bytes()

    @property
    def digest(self) -> str:
        """Its digest."""
        return digest_of(self.manifest)

    def gate(self, **changes: Any) -> None:
        """Write a gate report, passing unless `changes` say otherwise."""
        check = {
            "name": "latency-p95",
            "measured": 12.5,
            "limit": 20,
            "unit": "ms",
            "direction": "max",
            "headroom": 0.375,
            "verdict": "pass",
            "source": "hardware/raspberry-pi-4.yaml#limits.latency.p95",
        }
        report = {
            "version": 1,
            "model": self.model,
            "hardwareClass": self.hardware_class,
            "modelVersion": self.model_version,
            "artifact": self.digest,
            "verdict": "pass",
            "checks": [check],
        }
        self.give("gated", "gate-report.json", json.dumps(report | changes).encode())

    def sign(self) -> Result:
        """Run `signed`."""
        return self.run("signed", sign.run, self.signing_spec)

    @property
    def signing_spec(self) -> dict[str, Any]:
        """What `signed` sees of the specs."""
        return {
            "signing": self.signing,
            "model": {
                "modelVersion": self.model_version,
                "description": "Reads digits",
                "license": "Apache-2.0",
                "task": "image-classification",
                "datasets": [
                    {
                        "name": "optdigits",
                        "source": "https://archive.ics.uci.edu/dataset/80",
                        "license": "CC-BY-4.0",
                        "use": ["training", "test"],
                    }
                ],
                "data": {"calibration": "data:calibration", "test": "data:test"},
                "network": {"factory": "network:build", "arguments": {"width": 16}},
                "checkpoint": {"path": "weights.safetensors", "sha256": "5" * 64},
                "variants": [],
                "signature": {
                    "inputs": [{"name": "image", "dtype": "float32", "shape": ["batch", 1, 8, 8]}],
                    "outputs": [{"name": "logits", "dtype": "float32", "shape": ["batch", 10]}],
                },
                "labels": [],
            },
            "hardware": {"arch": "arm64", "engine": "onnxruntime", "versions": ">=1.20,<2"},
        }

    def publish(self) -> Result:
        """Run `published`."""
        return self.run("published", push.run, {"registry": self.registry})

    def all(self) -> Result:
        """Run `packaged`, `signed` and `published`."""
        self.package()
        self.sign()
        return self.publish()


def run_index(*lanes: LaneFiles) -> Result:
    """Run the `index` stage over lanes of one model."""
    first = lanes[0]
    inputs = {}
    for lane in lanes:
        inputs[f"published:{lane.hardware_class}/published.json"] = lane.inputs["published/published.json"]
        inputs[f"packaged:{lane.hardware_class}/manifest.json"] = lane.inputs["packaged/manifest.json"]
    out = first.root / "work" / first.model / "index"
    out.mkdir(parents=True, exist_ok=True)
    spec = {
        "modelVersion": first.model_version,
        "registry": first.registry,
        "signing": first.signing,
        "architectures": {"raspberry-pi-4": "arm64", "medical-cart-cpu": "amd64", "old-gateway": "armv7"},
    }
    return version.run(Job(first.root, first.model, None, spec, inputs, out))
