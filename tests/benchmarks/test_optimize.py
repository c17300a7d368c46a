"""Edgewright against Olive: the same models, samples, core and request, one after the other. Prints; asserts no time.

$ make bench PYTEST_ARGS='-k against_olive'

Every model of this repository, and two of the size that people bring: ResNet-18 and the real MiniLM encoder. Olive gets
an environment of its own (see `benchmarks.olive`), and its installation counts for nothing. Both run on one core.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import minilm, peers, resnet18
from benchmarks.olive.environment import environment, installed, quiet
from benchmarks.peers import Judged, Outcome, Request
from edgewright.build.canonical import to_bytes
from edgewright.build.checkpoint import restore
from edgewright.build.entry import ModelCode
from edgewright.build.export import export
from edgewright.build.samples import Samples, load
from edgewright.build.torch_mode import repeatable
from real import NOTHING_MAY_BE_SKIPPED, ROOT

RUN_OLIVE = Path(__file__).with_name("olive") / "run.py"
OURS = (sys.executable, "-m", "benchmarks.ours")
Case = tuple[Request, Samples]


def of_repository(name: str) -> Case:
    """A model of this repository as its `model.yaml` describes it."""
    folder = ROOT / "models" / name
    spec: Mapping[str, Any] = yaml.safe_load((folder / "model.yaml").read_text())
    code, signature = ModelCode(folder), spec["signature"]
    with repeatable(seed=0):
        network = restore(code, spec["network"], (folder / spec["checkpoint"]["path"]).read_bytes())
        model = to_bytes(export(network, signature))
    parts = {part: load(code, entry, signature) for part, entry in spec["data"].items()}
    if "selection" not in parts:  # then what chooses is one half of what nothing else has seen
        held_out = parts["validation"]
        parts["selection"], parts["test"] = (every_other(held_out, first) for first in (0, 1))
    return (
        Request(
            model,
            parts["calibration"],
            parts["selection"],
            spec["metric"]["name"],
            spec["optimization"].get("objective", "latency"),
            spec["metric"]["maxDrop"],
            len(spec.get("labels", ())),
        ),
        parts["test"],
    )


def every_other(samples: Samples, first: int) -> Samples:
    """Return one half of the samples, in the order of their digests: data functions may yield classes in turn."""
    digests = samples.digests()
    rows = sorted(sorted(range(len(samples)), key=lambda row: digests[row])[first::2])
    inputs = {name: array[rows] for name, array in samples.inputs.items()}
    return Samples(samples.entry, inputs, samples.targets[rows])


def resnet18_case() -> Case:
    parts = resnet18.samples()
    model = resnet18.fp32()
    return Request(
        model, parts["calibration"], parts["selection"], "accuracy", "latency", 0.01, classes=10
    ), parts["test"]


def minilm_case() -> Case:
    parts = minilm.samples()
    sizes = {"num_heads": minilm.HEADS, "hidden_size": minilm.WIDTH}
    return Request(
        minilm.fp32(), parts["calibration"], parts["selection"], "cosine", "latency", 0.01, transformer=sizes
    ), parts["test"]


CASES: dict[str, Callable[[], Case]] = {
    **{
        path.parent.name: (lambda name=path.parent.name: of_repository(name))
        for path in sorted((ROOT / "models").glob("*/model.yaml"))
    },
    "resnet18": resnet18_case,
    "minilm": minilm_case,
}


def made(name: str) -> Case:
    """Return a case, or skip the test where the package that bundles MiniLM's weights is out of reach."""
    try:
        return CASES[name]()
    except minilm.Unreachable as error:
        if NOTHING_MAY_BE_SKIPPED:
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def olive() -> Path:
    python = environment()
    versions = installed(python)
    named = [name for name in versions if name.startswith(("olive-ai=", "onnxruntime=", "onnx="))]
    print(f"\nOlive's environment: {len(versions)} distributions, {', '.join(named)}")
    return python


@pytest.fixture(scope="module")
def one_core() -> Iterator[None]:
    """Both sides may use one core; what Olive's evaluator or a library of ours does with threads changes nothing."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    yield
    os.sched_setaffinity(0, allowed)


@pytest.fixture(scope="module")
def table() -> Iterator[list[str]]:
    rows: list[str] = []
    yield rows
    print("\n\n" + "\n".join([HEADER, *rows]))


EQUAL = 0.02  # CPU times of one and the same model differ by that from run to run
HEADER = (
    f"{'model':18} {'who':10} {'metric  [95 %]':32} {'cosine':>7} {'size':>6} {'latency':>7} {'wall s':>7} {'CPU s':>7}"
    "  passes"
)


def row(name: str, who: str, metric: str, judged: Judged, outcome: Outcome) -> str:
    interval = f"{metric} {judged.value:.4f} [{judged.low:.4f}, {judged.high:.4f}]"
    passes = ", ".join(outcome.passes) if outcome.changed else "none: fp32 as it was"
    return (
        f"{name:18} {who:10} {interval:32} {judged.cosine:7.4f} {judged.size_ratio:6.3f} {judged.latency_ratio:7.3f}"
        f" {outcome.wall_s:7.1f} {outcome.cpu_s:7.1f}  {passes}"
    )


def verdict(objective: str, ours: tuple[Judged, Outcome], theirs: tuple[Judged, Outcome]) -> str:
    """Say who wins: first within the interval of the metric, then on the objective; and what it took."""
    (mine, my_run), (its, its_run) = ours, theirs
    if mine.value < its.low:
        winner = "Olive: Edgewright's model is worse than its interval"
    elif its.value < mine.low:
        winner = "Edgewright: Olive's model is worse than its interval"
    elif abs(mine.on(objective) / its.on(objective) - 1) <= EQUAL:
        winner = "neither"
    elif mine.on(objective) < its.on(objective):
        winner = "Edgewright"
    else:
        winner = "Olive"
    return (
        f"{'':18} {'->':10} {objective}: {winner} ({mine.on(objective):.3f} against {its.on(objective):.3f}),"
        f" in {my_run.wall_s / its_run.wall_s:.2f} of Olive's time"
    )


@pytest.mark.parametrize("name", CASES)
def test_edgewright_against_olive(
    name: str, olive: Path, one_core: None, table: list[str], tmp_path: Path
) -> None:
    request, test = made(name)
    sides: list[tuple[Judged, Outcome]] = []
    for who, command, variables in (
        ("Olive", (olive, RUN_OLIVE), quiet()),
        ("Edgewright", OURS, {**peers.own_environment(), "PYTHONPATH": os.pathsep.join(sys.path)}),
    ):
        outcome = peers.run(command, request, tmp_path / who, variables)
        judged = peers.judge(request.model, outcome.model, test, request.metric)
        table.append(row(name, who, request.metric, judged, outcome))
        print(f"\n{table[-1]}", flush=True)
        for tried in outcome.evaluated:
            figures = {key: value for key, value in tried.items() if key != "passes"}
            print(f"    {' + '.join(tried['passes']) or 'fp32'}: {figures}")
        sides.append((judged, outcome))
    theirs, ours = sides
    table.append(verdict(request.objective, ours, theirs))
