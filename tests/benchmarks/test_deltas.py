"""What travels from one version of a network to the next: ResNet-18 (45 MB fp32, 11 MB int8), tuned in several ways.

Printed: bytes of the delta, of the changed layers as they are transported in full (gzip where that saves a tenth), the
one by the other, what making the delta costs, and what carrying it out costs a device beside hashing the file once.

How the versions are made. The base is `resnet18`, trained for one epoch. "Head only" trains the last layer on frozen
features with the rest in evaluation mode; "BatchNorm moving" does the same in training mode, so the running averages,
which the export folds into the convolutions, move. "Fine-tuned 1e-5" multiplies every weight by 1 + 1e-5·N(0, 1): a
fine-tune reduced to what matters here. int8 is onnxruntime's static QDQ, per channel, calibrated once; "scales frozen"
quantizes the fine-tuned weights with the scales of the base, "scales found anew" quantizes and calibrates again.
"""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from torch import nn

from benchmarks import resnet18
from edgewright.build.canonical import canonical, to_bytes
from edgewright.build.export import export
from edgewright.build.layout import Layout, apply
from edgewright.build.torch_mode import repeatable
from edgewright.publish.delta import Made, make_delta
from edgewright_agent import delta as device
from edgewright_agent.artifact import Layer
from edgewright_agent.contract import FILE_DATA, digest_of
from edgewright_agent.files import Disk
from unit.publish.test_delta import Lane


@dataclass(frozen=True)
class Measured:
    """One way from a version to the next."""

    name: str
    made: Made | str
    full_bytes: int
    file_bytes: int
    making_s: float
    cpu_s: float
    hashing_s: float

    def row(self) -> str:
        """A row of the table."""
        if isinstance(self.made, str):
            return f"{self.name:40}  {'–':>12}  {self.full_bytes:>12,}  not published: {self.made}"
        share = f"{self.made.travels_bytes / self.full_bytes:.3%}"
        cost = f"{self.making_s:>6.1f} s   {self.cpu_s:.2f} s, {self.cpu_s / self.hashing_s:.1f} x hashing"
        return f"{self.name:40}  {self.made.travels_bytes:>12,}  {self.full_bytes:>12,}  {share:>8}  {cost}"


@pytest.fixture(scope="module")
def base() -> nn.Module:
    """The trained network."""
    with repeatable(seed=0):
        made = resnet18.network()
        resnet18.fit(made, epochs=1)
    return made


def test_what_travels(base: nn.Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fp32, tuned = exported(base), exported(perturbed(base))
    int8 = quantized(fp32, tmp_path)
    cases: dict[str, tuple[bytes, Callable[[], bytes]]] = {
        "fp32, head only, BatchNorm frozen": (fp32, lambda: exported(new_head(base, moving=False))),
        "fp32, head only, BatchNorm moving": (fp32, lambda: exported(new_head(base, moving=True))),
        "fp32, fine-tuned 1e-5": (fp32, lambda: tuned),
        "int8, fine-tuned 1e-5, scales frozen": (int8, lambda: requantized(int8, tuned)),
        "int8, fine-tuned 1e-5, scales found anew": (int8, lambda: quantized(tuned, tmp_path)),
        "int8, head only, scales frozen": (
            int8,
            lambda: requantized(int8, exported(new_head(base, moving=False))),
        ),
    }
    rows = {
        name: measure(name, before, after(), tmp_path / f"case-{number}")
        for number, (name, (before, after)) in enumerate(cases.items())
    }
    with capsys.disabled():
        print(
            f"\n\n{'change':40}  {'delta, bytes':>12}  {'full, bytes':>12}  {'share':>8}  CPU: making, carrying out"
        )
        print("\n".join(row.row() for row in rows.values()))
    head = rows["fp32, head only, BatchNorm frozen"]
    assert head.file_bytes > 40e6 and isinstance(head.made, Made) and head.made.travels_bytes < 100_000
    frozen = rows["int8, fine-tuned 1e-5, scales frozen"]
    assert isinstance(frozen.made, Made) and frozen.made.travels_bytes < 0.01 * frozen.full_bytes


def measure(name: str, before: bytes, after: bytes, folder: Path) -> Measured:
    """Make a delta between two models as they are published, and carry it out as a device does."""
    folder.mkdir()
    lane = Lane(folder)
    layout = Layout((FILE_DATA,))
    old, new = (lane.publish(apply(layout, model), compression="gzip") for model in (before, after))
    (folder / "made").mkdir()
    base, target = lane.open(old), lane.open(new)
    start = time.process_time()
    made = make_delta(base, target, folder / "made")
    making_s = time.process_time() - start
    here = {one.digest for one in base.files.values()}
    full = sum(int(one.layer["size"]) for one in target.files.values() if one.digest not in here)
    wanted = target.files[FILE_DATA]
    cpu_s = hashing_s = 0.0
    if isinstance(made, Made):
        path = next(path for _, path in made.layers if path.name == FILE_DATA)
        layer = Layer(FILE_DATA, wanted.digest, wanted.size)
        start = time.process_time()
        device.apply(path, base.path(FILE_DATA), layer, folder / "whole", Disk(), reserve_bytes=0)
        cpu_s = time.process_time() - start
        data = (folder / "whole").read_bytes()
        start = time.process_time()
        hashlib.sha256(data).digest()
        hashing_s = time.process_time() - start
        assert digest_of(data) == wanted.digest
    return Measured(name, made, full, wanted.size, making_s, cpu_s, hashing_s)


def exported(network: nn.Module) -> bytes:
    """Export a network as the pipeline does."""
    with repeatable(seed=0):
        return to_bytes(canonical(export(network, resnet18.SIGNATURE)))


def new_head(network: nn.Module, *, moving: bool) -> nn.Module:
    """Train the last layer alone; with `moving`, in training mode, so that running averages go on moving."""
    made = copy.deepcopy(network)
    made.train(moving)
    last = [module for module in made.modules() if isinstance(module, nn.Linear)][-1]
    for weight in made.parameters():
        weight.requires_grad_(False)
    for weight in last.parameters():
        weight.requires_grad_(True)
    part = resnet18.samples()["training"]
    images, targets = torch.from_numpy(part.inputs["image"]), torch.from_numpy(part.targets)
    optimizer = torch.optim.Adam(last.parameters(), 1e-3)
    with repeatable(seed=0):
        for rows in torch.arange(512).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(made(images[rows]), targets[rows]).backward()
            optimizer.step()
    return made.eval()


def perturbed(network: nn.Module) -> nn.Module:
    """Multiply every weight by 1 + 1e-5·N(0, 1)."""
    made = copy.deepcopy(network)
    dice = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in made.parameters():
            weight *= 1 + 1e-5 * torch.randn(weight.shape, generator=dice)
    return made


class _Images(CalibrationDataReader):
    def __init__(self) -> None:
        images = resnet18.samples()["calibration"].inputs["image"][:32]
        self._rows = iter([{"image": image[None]} for image in images])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._rows, None)


def quantized(model: bytes, folder: Path) -> bytes:
    """Quantize to int8 (QDQ, per channel), calibrated on real images."""
    source, target = folder / "fp32.onnx", folder / "int8.onnx"
    source.write_bytes(model)
    quantize_static(
        str(source), str(target), _Images(), quant_format=QuantFormat.QDQ, per_channel=True,
        weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8,
    )  # fmt: skip
    return to_bytes(canonical(onnx.load(str(target))))


def requantized(int8: bytes, fp32: bytes) -> bytes:
    """Put the weights of `fp32` into `int8`, quantized with the scales that are there."""
    made = onnx.load_model_from_string(int8)
    values = {one.name: one for one in made.graph.initializer}
    for source in onnx.load_model_from_string(fp32).graph.initializer:
        found = values.get(f"{source.name}_quantized")
        if found is None:
            continue
        scale = values.get(f"{source.name}_scale") or values[f"{source.name}_quantized_scale"]
        weight, scales = numpy_helper.to_array(source), numpy_helper.to_array(scale)
        old = numpy_helper.to_array(found)
        axis = next((axis for axis, size in enumerate(weight.shape) if scales.size == size), 0)
        shape = [-1 if other == axis else 1 for other in range(weight.ndim)]
        limits = np.iinfo(old.dtype)
        new = np.clip(np.rint(weight / scales.reshape(shape)), limits.min, limits.max).astype(old.dtype)
        steps = np.abs(new.astype(np.int64) - old)
        assert np.median(steps) < 0.2 * limits.max, f"{source.name}: these are not its scales"
        found.CopyFrom(numpy_helper.from_array(new, found.name))
    return to_bytes(made)
