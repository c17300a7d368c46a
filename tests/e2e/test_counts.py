"""The counting plugin in the real emulator: exact on a program of known instructions, repeatable on models."""

from __future__ import annotations

import json
import platform
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest

from e2e.busy import busy_machine
from edgewright.bench.counting.build import build
from edgewright.bench.counting.counts import Counts, count
from edgewright.bench.counting.spans import Span, read_span
from edgewright.bench.target.emulator import Target, open_target
from edgewright.bench.target.userland import EMULATOR, inspect, targets_cache
from edgewright.build.golden import encoded
from edgewright.errors import BuildError
from edgewright.spec.load import load_fleet
from real import ROOT, require_target

RUNTIME = {"arena": True, "graphOptimization": "extended"}

# No C library, so every instruction is on this page. getpriority is call 140, exit 60; a mark itself is 4 instructions.
KNOWN = """
    .globl _start
    .macro mark number
        mov $140, %eax
        mov $(0x5A00 + \\number), %edi
        xor %esi, %esi
        syscall
    .endm
_start:
    mark 1
    mov $1000, %ecx
1:  dec %ecx
    jnz 1b
    mark 2
    mark 3
    mov $60, %eax
    xor %edi, %edi
    syscall
"""


@pytest.fixture
def raspberry_pi() -> Target:
    require_target("arm64")
    return open_target(load_fleet(ROOT).hardware["raspberry-pi-4"], targets_cache())


@pytest.fixture
def plugin() -> Path:
    return build(targets_cache())


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """[1, 64] times [64, 64], eight times over."""
    helper = onnx.helper
    weights = onnx.numpy_helper.from_array(np.eye(64, dtype=np.float32), "w")
    names = ["x", *(f"h{i}" for i in range(7)), "y"]
    graph = helper.make_graph(
        [helper.make_node("MatMul", [names[i], "w"], [names[i + 1]]) for i in range(8)],
        "model",
        [helper.make_tensor_value_info("x", 1, ["batch", 64])],
        [helper.make_tensor_value_info("y", 1, ["batch", 64])],
        [weights],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path = tmp_path / "model.onnx"
    path.write_bytes(made.SerializeToString())
    return path


GOLDEN = {"inputs": {"x": encoded(np.ones((2, 64), np.float32))}}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the program is written for x86-64")
def test_a_program_of_known_instructions_is_counted_to_the_last_one(plugin: Path, tmp_path: Path) -> None:
    require_target("amd64-qemu")
    source, program, out = tmp_path / "known.s", tmp_path / "known", tmp_path / "a,comma.jsonl"
    source.write_text(KNOWN)
    subprocess.run(["gcc", "-nostdlib", "-static", str(source), "-o", str(program)], check=True)
    emulator = inspect(EMULATOR, targets_cache()).root
    subprocess.run(
        [
            str(emulator / "bin/qemu-x86_64"),
            "-plugin",
            f"{plugin},out={str(out).replace(',', ',,')}",
            str(program),
        ],
        env={"LD_LIBRARY_PATH": str(emulator / "lib")},
        check=True,
    )
    spans: list[Span] = [read_span(line) for line in out.read_text().splitlines()]
    assert [(span.mark, span.counts.instructions) for span in spans] == [
        (1, 4),
        (2, 1 + 2 * 1000 + 4),
        (3, 4),
        (None, 3),
    ]
    assert {span.threads for span in spans} == {1}
    assert spans[0].counts.kinds == {}


def test_an_idle_and_a_busy_machine_count_the_same_in_separate_processes(
    raspberry_pi: Target, plugin: Path, model: Path
) -> None:
    quiet = count(raspberry_pi, model, RUNTIME, GOLDEN, plugin=plugin)
    with busy_machine():
        busy = count(raspberry_pi, model, RUNTIME, GOLDEN, plugin=plugin)
    for before, after in ((quiet.load, busy.load), (quiet.per_inference, busy.per_inference)):
        assert after.instructions == pytest.approx(before.instructions, rel=0.002)


def test_kinds_add_up_and_tell_multiply_adds_from_the_rest(
    raspberry_pi: Target, plugin: Path, model: Path
) -> None:
    counts: Counts = count(raspberry_pi, model, RUNTIME, GOLDEN, plugin=plugin)
    per = counts.per_inference
    assert sum(per.kinds.values()) == per.instructions
    # 8 products of 64 x 64, four multiply-adds to an instruction
    assert per.kinds["simdFma"] >= 8 * 64 * 64 / 4
    assert per.kinds["simdDot"] == 0
    assert per.load_bytes >= 8 * 64 * 64 * 4


def test_a_model_that_does_not_load_is_a_named_failure(
    raspberry_pi: Target, plugin: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "model.onnx"
    broken.write_bytes(b"not a model")
    with pytest.raises(BuildError, match="qemu-aarch64 7.2, cpu cortex-a72: model-corrupt"):
        count(raspberry_pi, broken, RUNTIME, GOLDEN, plugin=plugin)


def test_nothing_is_counted_on_this_machines_own_processor(plugin: Path, model: Path) -> None:
    native = open_target(load_fleet(ROOT).hardware["medical-cart-cpu"], targets_cache())
    with pytest.raises(BuildError, match="counted under an emulator only"):
        count(native, model, RUNTIME, GOLDEN, plugin=plugin)


def test_the_plugin_says_what_it_lacks(plugin: Path) -> None:
    require_target("amd64-qemu")
    emulator = inspect(EMULATOR, targets_cache()).root
    for options, said in (
        ("", "say where to write"),
        (",out=/no/such/folder/x", "/no/such/folder/x"),
        (",k=1", "k=1"),
    ):
        ran = subprocess.run(
            [str(emulator / "bin/qemu-x86_64"), "-plugin", f"{plugin}{options}", "/bin/true"],
            env={"LD_LIBRARY_PATH": str(emulator / "lib")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode != 0
        assert said in ran.stderr


def test_documents_of_counts_are_json(raspberry_pi: Target, plugin: Path, model: Path) -> None:
    document = count(raspberry_pi, model, RUNTIME, GOLDEN, plugin=plugin, inferences=1).to_json()
    assert json.loads(json.dumps(document)) == document
    assert document["target"] == raspberry_pi.label
