"""What updates cost: one of 100 MB beside its bare cost and beside oras and cosign, and two hundred in a row.

$ make bench PYTEST_ARGS='-k updates'
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.meter import Meter
from benchmarks.test_costs import ACCOUNTED, say
from edgewright.build.canonical import canonical, to_bytes
from edgewright.build.golden import encoded
from edgewright.build.layout import apply, choose_layout
from edgewright.build.manifest import expected_cost, runtime_manifest
from edgewright.trust.assignment import PublishedLane
from edgewright_agent.contract import canonical_json
from real import Registry, require
from unit.agent.core.sealing import make_key, write_private, write_public
from unit.publish.lane import CLASS, MODEL, LaneFiles
from unit.trust.fleet import SmallFleet

ROUNDS = 5
UPDATES = int(os.environ.get("EDGEWRIGHT_BENCH_UPDATES", "200"))
MAX_UPDATE_MIB = 64.0
WIDTH = 512  # one layer of weights is 1 MiB
DATA_PATH = str(Path(__file__).with_name("data_path.py"))
RUNTIME = {
    "engine": "onnxruntime", "versions": ">=1.20,<2", "providers": ["CPUExecutionProvider"], "threads": 1,
    "arena": False, "graphOptimization": "basic",
}  # fmt: skip


def network(
    layers: int, seed: int, *, pruned: bool = False, tuned: bool = False
) -> tuple[bytes, np.ndarray, np.ndarray]:
    """Return a chain of matrix products as ONNX, an input, and its output.

    Args:
        layers: How many.
        seed: Of the weights.
        pruned: Two weights in three are zero, so that they compress.
        tuned: One weight in a hundred differs from those of the same seed.
    """
    dice, nodes, weights = np.random.default_rng(seed), [], []
    x = np.linspace(-1, 1, WIDTH, dtype=np.float32).reshape(1, WIDTH)
    y = x
    for turn in range(layers):
        dense = (dice.standard_normal((WIDTH, WIDTH)) / WIDTH**0.5).astype(np.float32)
        if pruned:
            dense[np.abs(dense) < 1 / WIDTH**0.5] = 0
        if tuned:
            dense[:, :: WIDTH // 5] *= np.float32(1.001)
        weights.append(onnx.numpy_helper.from_array(dense, f"w{turn}"))
        into, out = ("x" if turn == 0 else f"h{turn}"), ("y" if turn == layers - 1 else f"h{turn + 1}")
        nodes.append(onnx.helper.make_node("MatMul", [into, f"w{turn}"], [out]))
        y = y @ dense
    ports = [onnx.helper.make_tensor_value_info(name, 1, ["batch", WIDTH]) for name in "xy"]
    graph = onnx.helper.make_graph(nodes, "g", ports[:1], ports[1:], weights)
    opset = [onnx.helper.make_opsetid("", 20)]
    model = to_bytes(canonical(onnx.helper.make_model(graph, opset_imports=opset, ir_version=10)))
    return model, x, y


def publish(
    fleet: SmallFleet,
    version: str,
    *,
    layers: int,
    seed: int = 5,
    compress: bool = False,
    recipients: tuple[str, ...] = (),
    tuned: bool = False,
) -> tuple[LaneFiles, int]:
    """Package, sign, publish and release a model for one class; returns also how many deltas lead to it."""
    model, x, y = network(layers, seed, pruned=compress, tuned=tuned)
    layout = choose_layout({"memory": {"forModels": 2**30}, "runtime": RUNTIME}, model)
    keys = ".edgewright/keys"
    lane = LaneFiles(
        fleet.root,
        {"url": fleet.url},
        model_version=version,
        compression="gzip" if compress else "none",
        recipients=recipients,
        signing={"privateKey": f"file:{keys}/signing.key", "publicKey": f"{keys}/signing.pub"},
    )
    for name, data in apply(layout, model).items():
        lane.give("optimized", name, data)
    signature = {
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", WIDTH]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": ["batch", WIDTH]}],
    }
    cost = expected_cost(model, RUNTIME, layout)
    manifest = runtime_manifest(RUNTIME, signature, "fp32", expected=cost, layout=layout)
    lane.give("optimized", "runtime.json", canonical_json(manifest))
    golden = {
        "version": 1, "atol": 1e-2, "rtol": 1e-2, "inputs": {"x": encoded(x)}, "outputs": {"y": encoded(y)},
    }  # fmt: skip
    lane.give("evaluated", "golden.json", canonical_json(golden))
    del lane.inputs["evaluated/labels.json"]
    lane.all()
    fleet.lanes[lane.model] = {
        CLASS: PublishedLane(lane.digest, len(lane.manifest), lane.model_version, lane.model)
    }
    return lane, len(fleet.release().deltas)


@dataclass(frozen=True)
class Cost:
    """Medians over `ROUNDS` runs."""

    wall_s: float
    cpu_s: float
    peak_mib: float


@dataclass(frozen=True)
class Device:
    """An agent's configuration and how to start it."""

    folder: Path

    @classmethod
    def of(cls, fleet: SmallFleet, folder: Path, url: str = "") -> Device:
        """Make a device that follows a fleet, where it is or at another URL."""
        folder.mkdir()
        made = cls(folder)
        keys = fleet.root / ".edgewright/keys"
        done = made.do(
            "init", "--device-id", folder.name, "--class", CLASS, "--source", url or fleet.url, "--root",
            str(fleet.metadata / "1.root.json"), "--key", str(keys / "signing.pub"), "--state",
            str(folder / "state"), "--reserve-bytes", "0", "--interval-s", "3600", "--out", str(made.config),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return made

    @property
    def config(self) -> Path:
        """Its configuration."""
        return self.folder / "agent.json"

    def words(self, verb: str, *more: str) -> list[str]:
        """Return a command."""
        given = [] if verb == "init" else ["--config", str(self.config)]
        return [sys.executable, "-m", "edgewright_agent", verb, *given, *more]

    def do(self, verb: str, *more: str) -> subprocess.CompletedProcess[str]:
        """Run a command."""
        return subprocess.run(
            self.words(verb, *more), capture_output=True, text=True, timeout=600, check=False
        )


def measured(runs: Iterator[list[str]], *, exit_code: int = 0, engine: bool = True) -> Cost:
    """Run commands as processes of their own; without the engine, where a trial is not to be counted."""
    environment = dict(os.environ)
    if not engine:
        environment["PYTHONPATH"] = os.pathsep.join(
            (str(Path(__file__).parent / "without_engine"), environment.get("PYTHONPATH", ""))
        )
    wall, cpu, peak = [], [], []
    for words in runs:
        began = time.perf_counter()
        launched = subprocess.run(
            [sys.executable, "-S", ACCOUNTED, *words],
            capture_output=True, text=True, check=True, env=environment,
        )  # fmt: skip
        wall.append(time.perf_counter() - began)
        found = json.loads(launched.stdout)
        assert found["exit_code"] == exit_code, launched.stderr
        cpu.append(found["cpu_s"])
        peak.append(found["peak_mib"])
    return Cost(statistics.median(wall), statistics.median(cpu), statistics.median(peak))


@pytest.fixture
def fleet(registry: Registry, tmp_path: Path) -> SmallFleet:
    """A fleet of one class on a real registry."""
    return SmallFleet(tmp_path / "fleet", url=f"{registry.url}/acme", now=datetime.now(UTC), classes=(CLASS,))


def test_updates_of_100_mb_beside_their_bare_cost_and_beside_oras_and_cosign(
    fleet: SmallFleet, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane, _ = publish(fleet, "1.0.0", layers=100)
    reference = f"{registry.host}/acme/{MODEL}@{lane.digest}"
    key = str(fleet.root / ".edgewright/keys/signing.pub")
    home = tmp_path / "home"
    home.mkdir()

    def devices(name: str) -> Iterator[list[str]]:
        for number in range(ROUNDS):
            yield Device.of(fleet, tmp_path / f"{name}-{number}").words("once")

    words = [sys.executable, DATA_PATH, fleet.url, MODEL, lane.digest, str(tmp_path / "data"), str(ROUNDS)]
    ways = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    update = measured(devices("update"), engine=False, exit_code=3)  # the trial waits: that is not counted
    whole = measured(devices("whole"))
    with monkeypatch.context() as patched:
        patched.setenv("HOME", str(home))  # cosign keeps a cache in its home
        verify = [str(require("cosign")), "verify", "--key", key, "--insecure-ignore-tlog=true"]
        verified = measured(iter([[*verify, "--allow-http-registry", reference]] * ROUNDS))
        pull = [str(require("oras")), "pull", "--plain-http", "-o"]
        pulled = measured(iter([[*pull, str(tmp_path / f"pulled-{n}"), reference] for n in range(ROUNDS)]))
        with Meter(registry.port) as meter:
            metered = f"{meter.host}/acme/{MODEL}@{lane.digest}"
            subprocess.run([*verify, "--allow-http-registry", metered], capture_output=True, check=True)
            subprocess.run([*pull, str(tmp_path / "metered"), metered], capture_output=True, check=True)
            their_bytes = meter.crossed
    with Meter(registry.port) as meter:
        done = Device.of(fleet, tmp_path / "metered-device", f"http://{meter.host}/acme").do("once")
        assert done.returncode == 0, done.stderr
        our_bytes = meter.crossed
    theirs = Cost(
        verified.wall_s + pulled.wall_s,
        verified.cpu_s + pulled.cpu_s,
        max(verified.peak_mib, pulled.peak_mib),
    )

    (bare_wall_s, bare_cpu_s), (wall_s, cpu_s) = ways["bare"], ways["agent"]
    size_mb = sum(layer["size"] for layer in json.loads(lane.manifest)["layers"]) / 1e6
    say(
        f"Download, verification and durable install of {size_mb:.0f} MB over HTTP (in turns, medians of {ROUNDS})",
        [
            ("one download, sha256, synced write", f"{bare_wall_s:.2f} s  {bare_cpu_s:.2f} CPU-s", "1.00 ×"),
            (
                "the agent's way, read back and hashed again",
                f"{wall_s:.2f} s  {cpu_s:.2f} CPU-s",
                f"{wall_s / bare_wall_s:.2f} × wall, {cpu_s / bare_cpu_s:.2f} × CPU",
            ),
        ],
    )

    def row(name: str, cost: Cost, crossed: int) -> tuple[str, str, str]:
        beyond_kb = crossed / 1e3 - size_mb * 1e3
        figure = f"{cost.wall_s:.2f} s  {cost.cpu_s:.2f} CPU-s  {cost.peak_mib:.0f} MiB"
        ratios = f"{cost.wall_s / theirs.wall_s:.2f} × wall, {cost.cpu_s / theirs.cpu_s:.2f} × CPU"
        return name, f"{figure}  {crossed / 1e6:.2f} MB", f"{ratios}, {beyond_kb:.1f} kB beyond the layers"

    say(
        f"The whole update of {size_mb:.0f} MB as processes, key mode (medians of {ROUNDS})",
        [
            row("cosign verify + oras pull (no freshness, not synced, no trial)", theirs, their_bytes),
            row("agent: metadata, signatures, download, install", update, our_bytes),
            row("agent: the same, and trial in the engine", whole, our_bytes),
        ],
    )


@pytest.mark.parametrize("way", ["plain", "compressed", "encrypted", "compressed and encrypted", "delta"])
def test_the_peak_memory_of_an_update_of_100_mb(fleet: SmallFleet, tmp_path: Path, way: str) -> None:
    """Fetch, verify, install, in key mode; the trial in the engine is a process of its own, and waits here."""
    key = make_key()
    write_public(fleet.root / "device.pub", key)
    recipients = ("device.pub",) if "encrypted" in way else ()
    publish(fleet, "1.0.0", layers=100, compress="compressed" in way, recipients=recipients)
    device = Device.of(fleet, tmp_path / "device")
    if recipients:
        write_private(device.folder / "device.key", key)
        document = json.loads(device.config.read_text()) | {"decryption": {"keys": ["device.key"]}}
        device.config.write_text(json.dumps(document))
    if way == "delta":
        assert device.do("once").returncode == 0
        _, deltas = publish(fleet, "1.0.1", layers=100, tuned=True)
        assert deltas == 1
    cost = measured(iter([device.words("once", "--json")]), engine=False, exit_code=3)
    staged = [path for path in (device.folder / "state/store").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in staged) >= 100e6
    figure = f"{cost.peak_mib:.1f} MiB peak"
    say(f"An update of 105 MB, {way}", [("agent, without the trial", figure, f"{cost.cpu_s:.2f} CPU-s")])
    assert cost.peak_mib <= MAX_UPDATE_MIB


def test_two_hundred_updates_in_a_row(fleet: SmallFleet, tmp_path: Path) -> None:
    publish(fleet, "1.0.0", layers=1, seed=0)
    device = Device.of(fleet, tmp_path / "device")
    agent = subprocess.Popen(
        device.words("run"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    rows = []
    try:
        assert agent.stderr is not None
        for number in range(1, UPDATES + 1):
            _await_sleep(agent)
            if number in (1, 2, 10, 50, 100, 150, UPDATES):
                rows.append(_look(agent.pid, device, number))
            publish(fleet, f"1.0.{number}", layers=1, seed=number)
            agent.send_signal(signal.SIGHUP)
        _await_sleep(agent)
    finally:
        agent.send_signal(signal.SIGTERM)
        agent.wait(30)
    status = json.loads(device.do("status", "--json").stdout)
    assert status["models"][MODEL]["version"] == f"1.0.{UPDATES}"
    say(f"{UPDATES} updates of 1 MiB on one agent", rows)


def _await_sleep(agent: subprocess.Popen[str]) -> None:
    assert agent.stderr is not None
    for line in agent.stderr:
        if json.loads(line)["event"] == "sleep":
            return
    raise AssertionError("the agent has ended")


def _look(pid: int, device: Device, number: int) -> tuple[str, str, str]:
    status = Path(f"/proc/{pid}/status").read_text()
    rss_kib = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
    files = [path for path in (device.folder / "state").rglob("*") if path.is_file()]
    disk = sum(path.stat().st_blocks * 512 for path in files)
    descriptors = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    return (
        f"before update {number}",
        f"{rss_kib / 1024:.1f} MiB RSS",
        f"{descriptors} descriptors, {len(files)} files, {disk / 1e6:.1f} MB on disk",
    )
