"""A whole device for tests: an agent's process, applications' processes, and the fleet that both belong to.

>>> fleet = Fleet(tmp_path / "fleet", registry)                     # doctest: +SKIP
>>> fleet.publish("1.0.0")                                          # doctest: +SKIP
>>> device = Device(fleet, tmp_path / "pump-1")                     # doctest: +SKIP
>>> with device.agent() as agent, device.application() as app:      # doctest: +SKIP
...     app.wait_for(version="1.0.0")

Every wait is for something that a process says, and has a deadline. Models answer with a number that tells their
version, so that a wrong answer is seen.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import onnx

from edgewright.build.canonical import canonical, to_bytes
from edgewright.build.golden import encoded
from edgewright.build.layout import choose_layout
from edgewright.build.manifest import expected_cost, runtime_manifest
from edgewright.trust.assignment import PublishedLane
from edgewright_agent.contract import canonical_json
from edgewright_agent.top import fetch
from real import ROOT, Registry
from unit.publish.lane import CLASS, MODEL, LaneFiles
from unit.trust.fleet import SmallFleet

DEADLINE_S = 60.0
"""For one thing to happen; here each takes a second or two."""

_ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in ("tests", "agent", "pipelines")),
    "NO_COLOR": "1",
}
_SIGNATURE = {
    "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 2]}],
    "outputs": [{"name": "y", "dtype": "float32", "shape": ["batch", 2]}],
}


class Fleet:
    """A fleet of one class and one model; everything is signed as always.

    Args:
        root: Its repository.
        registry: Where it publishes: a real registry, or a folder of layouts.
        sheet: Sections of the class's sheet.
    """

    def __init__(self, root: Path, registry: Registry | Path, **sheet: Any) -> None:
        policy = {"poll": {"interval": "1h", "maxBackoff": "6h"}, "diskReserve": "64KiB"}
        self.signed = SmallFleet(
            root,
            url=f"oci:{registry}" if isinstance(registry, Path) else f"{registry.url}/acme",
            now=datetime.now(UTC),
            classes=(CLASS,),
            sheet={"updatePolicy": policy, **sheet},
        )
        self.released: dict[str, tuple[str, float]] = {}

    def publish(
        self, version: str, *, providers: Sequence[str] = ("CPUExecutionProvider",), ballast: int = 0
    ) -> str:
        """Package, sign, publish and release a version; return its digest.

        Args:
            version: Its version.
            providers: What its settings ask for.
            ballast: Bytes of weights that nothing compresses or shares.
        """
        number = float(len(self.released) + 1)
        runtime = {
            "engine": "onnxruntime", "versions": ">=1.20,<2", "providers": list(providers), "threads": 1,
            "arena": False, "graphOptimization": "basic",
        }  # fmt: skip
        model = network(number, ballast)
        keys = ".edgewright/keys"
        lane = LaneFiles(
            self.signed.root,
            {"url": self.signed.url},
            model_version=version,
            signing={"privateKey": f"file:{keys}/signing.key", "publicKey": f"{keys}/signing.pub"},
        )
        lane.give("optimized", "model.onnx", model)
        layout = choose_layout({"memory": {"forModels": 2**30}, "runtime": runtime}, model)
        cost = expected_cost(model, runtime, layout)
        lane.give(
            "optimized",
            "runtime.json",
            canonical_json(runtime_manifest(runtime, _SIGNATURE, "fp32", expected=cost, layout=layout)),
        )
        x = np.zeros((1, 2), np.float32)
        golden = {
            "version": 1, "atol": 1e-3, "rtol": 1e-3, "inputs": {"x": encoded(x)},
            "outputs": {"y": encoded(x + np.float32(number))},
        }  # fmt: skip
        lane.give("evaluated", "golden.json", canonical_json(golden))
        del lane.inputs["evaluated/labels.json"]
        lane.all()
        self.signed.lanes[MODEL] = {CLASS: PublishedLane(lane.digest, len(lane.manifest), version, MODEL)}
        self.signed.release()
        self.released[version] = lane.digest, number
        return lane.digest


def network(number: float, ballast: int = 0) -> bytes:
    """Return a model that adds a number, and carries some weights that it adds as nothing."""
    weights = [onnx.numpy_helper.from_array(np.full((1, 2), number, np.float32), "k")]
    nodes = [onnx.helper.make_node("Add", ["x", "k"], ["y"])]
    if ballast:
        noise = np.random.default_rng(int(number)).standard_normal(ballast // 4).astype(np.float32)
        weights += [
            onnx.numpy_helper.from_array(noise, "noise"),
            onnx.numpy_helper.from_array(np.zeros(1, np.float32), "zero"),
        ]
        nodes = [
            onnx.helper.make_node("ReduceMax", ["noise"], ["most"], keepdims=0),
            onnx.helper.make_node("Mul", ["most", "zero"], ["nothing"]),
            onnx.helper.make_node("Add", ["x", "k"], ["sum"]),
            onnx.helper.make_node("Add", ["sum", "nothing"], ["y"]),
        ]
    ports = [onnx.helper.make_tensor_value_info(name, 1, ["batch", 2]) for name in "xy"]
    graph = onnx.helper.make_graph(nodes, "g", ports[:1], ports[1:], weights)
    opset = [onnx.helper.make_opsetid("", 20)]
    return to_bytes(canonical(onnx.helper.make_model(graph, opset_imports=opset, ir_version=10)))


class Process:
    """A process that says what it does, one JSON object per line; how it was is kept in `said`."""

    def __init__(self, words: Sequence[str], *, speaks: str) -> None:
        self.said: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if speaks == "stdout" else subprocess.DEVNULL,
            stderr=subprocess.PIPE if speaks == "stderr" else subprocess.DEVNULL,
            text=True,
            env=_ENVIRONMENT,
        )
        self._stream = self._process.stdout if speaks == "stdout" else self._process.stderr
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def wait_for(self, *, since: int = 0, **facts: Any) -> dict[str, Any]:
        """Return the first thing it says from `since` on with these facts, waiting for it.

        Args:
            since: A length of `said`: what was said before does not count.
            facts: What has to be in it.
        """
        deadline = time.monotonic() + DEADLINE_S
        with self._news:
            while True:
                for told in self.said[since:]:
                    if facts.items() <= told.items():
                        return told
                since = len(self.said)
                left_s = deadline - time.monotonic()
                assert left_s > 0 and not self._ended, f"{facts} was never said, but: {self.said[-20:]}"
                self._news.wait(left_s)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def end(self) -> int:
        """Have it end; returns its exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self.ended()

    def ended(self) -> int:
        """Wait for its end; returns its exit code."""
        code = self._process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        return code

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._stream):
            if stream is not None:
                stream.close()

    def _read(self) -> None:
        assert self._stream is not None
        for line in self._stream:
            try:
                told = json.loads(line)
            except ValueError:
                told = {"event": "words", "words": line.rstrip()}
            with self._news:
                self.said.append(told)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()


class Agent(Process):
    """`edgewright-agent run`."""

    def __enter__(self) -> Agent:
        return self

    def polled(self) -> dict[str, Any]:
        """Have it poll, and wait until it has; returns what it says of the child that updates, if there was one."""
        since = len(self.said)
        self.signal(signal.SIGHUP)
        self.wait_for(since=since, event="sleep")
        return next((told for told in self.said[since:] if told["event"] == "update"), {})

    @property
    def descriptors(self) -> int:
        """How many it has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))


class Application(Process):
    """`application.py`."""

    def __enter__(self) -> Application:
        return self

    def goes_on(self) -> dict[str, Any]:
        """Return an answer that it gets from now on."""
        since = len(self.said)
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self.wait_for(since=since, event="goes-on")

    def over(self) -> dict[str, Any]:
        """End it; returns all that it saw."""
        code = self.end()
        assert code == 0, self.said
        return self.wait_for(event="over")


class Device:
    """A device that follows a fleet.

    Args:
        fleet: Its fleet.
        folder: Its configuration goes here, and its state unless that is elsewhere.
        state: Where it keeps its state.
        more: Further sections of its configuration.
    """

    def __init__(self, fleet: Fleet, folder: Path, *, state: Path | None = None, **more: Any) -> None:
        folder.mkdir()
        self.config, self.state = folder / "agent.json", state or folder / "state"
        signed = fleet.signed
        done = self.do(
            "init", "--device-id", folder.name, "--class", CLASS, "--source", signed.url, "--root",
            str(signed.metadata / "1.root.json"), "--key", str(signed.keys / "signing.pub"), "--state",
            str(self.state), "--reserve-bytes", "0", "--out", str(self.config),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        self.configure(**more)

    def configure(self, **more: Any) -> None:
        """Change sections of its configuration; None takes one away."""
        document = json.loads(self.config.read_text()) | more
        self.config.write_text(
            json.dumps({key: value for key, value in document.items() if value is not None})
        )

    def words(self, verb: str, *more: str) -> list[str]:
        """Return a command line."""
        given = [] if verb == "init" else ["--config", str(self.config)]
        return [sys.executable, "-m", "edgewright_agent", verb, *given, *more]

    def do(self, verb: str, *more: str) -> subprocess.CompletedProcess[str]:
        """Run a command as a person would."""
        return subprocess.run(
            self.words(verb, *more),
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
            env=_ENVIRONMENT,
        )

    def told(self, verb: str, *more: str) -> Any:
        """Run a command that has to work, and return the JSON it prints."""
        done = self.do(verb, *more, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def agent(self) -> Agent:
        """Start its agent, and wait for the end of its first poll."""
        agent = Agent(self.words("run"), speaks="stderr")
        agent.wait_for(event="sleep")
        return agent

    def application(self, *, threads: int = 1, abort_on: str | None = None) -> Application:
        """Start an application, and wait until it has its model."""
        words = [sys.executable, str(ROOT / "tests/e2e/application.py"), str(self.state), MODEL]
        words += ["--threads", str(threads), *(["--abort-on", abort_on] if abort_on else [])]
        application = Application(words, speaks="stdout")
        application.wait_for(event="opened")
        return application

    def ask(self, page: str = "/v1/status") -> dict[str, Any]:
        """Ask its agent."""
        return fetch(self.state, page)

    def model(self) -> Mapping[str, Any]:
        """Return what `status --json` says of its model."""
        found: Mapping[str, Any] = self.told("status")["models"][MODEL]
        return found
