"""Models of the size that people bring, against what this repository promises of them. Prints; asserts no time.

$ make bench PYTEST_ARGS='-k reference'

| model | size | one-sample latency | kept |
|---|---|---|---|
| ResNet-18, pruned by the pipeline and int8 | at most .10 of fp32 | at most .25 | accuracy within one point |
| the real MiniLM-L6 encoder | at most .28 | at most .70 | mean cosine to fp32 at least .99 |

Latency is CPU time on this machine, both models open in one process and timed in turn (`benchmarks.peers`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import save

from benchmarks import minilm, peers, resnet18
from benchmarks.ours import LIMITS, HostMeter, host_facts
from edgewright.build.entry import ModelCode
from edgewright.build.metric import metric
from edgewright.build.samples import Samples
from edgewright.build.search.candidate import TRAINED
from edgewright.build.search.choose import choose
from edgewright.build.search.demands import Demands
from edgewright.build.search.explore import explore
from edgewright.build.search.shelf import Shelf
from edgewright.build.search.workshop import Workshop
from edgewright.build.variants.derive import derive
from edgewright.build.variants.origin import Origin
from edgewright.spec.model import RECIPES
from real import NOTHING_MAY_BE_SKIPPED

CODE = {
    "network.py": "from benchmarks.resnet18 import network as build\n",
    "train.py": (
        "from benchmarks import resnet18\n"
        "def fit(network, seed, epochs):\n"
        "    resnet18.fit(network, epochs=epochs)\n"
    ),
}
PRUNED = {
    "name": "pruned",
    "recipe": "prune",
    "ratio": 50.0,
    "train": {"entry": "train:fit", "arguments": {"epochs": 3}},
}


@pytest.fixture(autouse=True)
def one_core() -> Iterator[None]:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    yield
    os.sched_setaffinity(0, allowed)


def chosen(
    bases: dict[str, bytes], parts: dict[str, Samples], name: str, max_drop: float
) -> tuple[str, bytes]:
    """Return what the search chooses for latency on this machine, and its bytes."""
    shop = Workshop(bases, parts["calibration"], parts["selection"], metric(name), Shelf())
    meter = HostMeter({key: array[:1] for key, array in parts["selection"].inputs.items()})
    found = explore(shop, host_facts(), RECIPES, meter, budget_s=600.0)
    choice = choose(found.candidates, Demands(LIMITS, floor=0.0, max_drop=max_drop), "latency")
    return choice.winner.name, found.models[choice.winner.digest]


def test_reference_resnet18_pruned_and_int8(tmp_path: Path) -> None:
    for file, text in CODE.items():
        (tmp_path / file).write_text(text)
    parts, fp32 = resnet18.samples(), resnet18.fp32()
    weights = save({name: tensor.contiguous() for name, tensor in resnet18.trained().state_dict().items()})
    origin = Origin(
        ModelCode(tmp_path),
        {"factory": "network:build"},
        weights,
        resnet18.SIGNATURE,
        parts["selection"],
        "accuracy",
    )
    pruned = derive(origin, PRUNED)
    assert pruned.model is not None, pruned.facts
    name, model = chosen({TRAINED: fp32, "pruned": pruned.model}, parts, "accuracy", 0.01)
    judged = peers.judge(fp32, model, parts["test"], "accuracy")
    print(
        f"\nresnet18: {name}: accuracy {judged.value:.4f} [{judged.low:.4f}, {judged.high:.4f}], fp32"
        f" {judged.fp32_value:.4f}; size {judged.size_ratio:.3f} (≤ .10), latency {judged.latency_ratio:.3f} (≤ .25)"
    )


def test_reference_minilm_encoder() -> None:
    try:
        fp32, parts = minilm.fp32(), minilm.samples()
    except minilm.Unreachable as error:
        if NOTHING_MAY_BE_SKIPPED:
            raise
        pytest.skip(str(error))
    name, model = chosen({TRAINED: fp32}, parts, "cosine", 0.01)
    judged = peers.judge(fp32, model, parts["test"], "cosine")
    print(
        f"\nminilm: {name}: cosine {judged.cosine:.4f} (≥ .99); size {judged.size_ratio:.3f} (≤ .28),"
        f" latency {judged.latency_ratio:.3f} (≤ .70)"
    )
