"""The counting plugin in the real emulator: exact on a program of known instructions, repeatable on models."""

from __future__ import annotations

import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from e2e.busy import busy_machine
from edgewright.bench.counting.build import build
from edgewright.bench.counting.counts import Counts, count
from edgewright.bench.counting.spans import Span, read_span
from edgewright.bench.target.emulator import Target, emulated_target, open_target
from edgewright.bench.target.processor import Core
from edgewright.bench.target.userland import EMULATOR, USERLANDS, inspect, targets_cache
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
    sub $64, %rsp
    mov %rsp, %rdi
    mov $16, %ecx
    xor %eax, %eax
    rep stosb
    movups (%rsp), %xmm0
    addps (%rsp), %xmm0
    pmaddwd (%rsp), %xmm0
    movups %xmm0, (%rsp)
    call 2f
    jmp 3f
2:  ret
3:  mark 3
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


def wide_product(path: Path, dtype: str) -> tuple[Path, dict[str, Any]]:
    """Write a model of one product, [64, 256] times [256, 256], of floats or bytes; return it with its input."""
    helper, integer = onnx.helper, dtype != "float"
    weights = np.ones((256, 256), np.int8 if integer else np.float32)
    of_input, of_output = ("UINT8", "INT32") if integer else ("FLOAT", "FLOAT")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger" if integer else "MatMul", ["x", "w"], ["y"])],
        "model",
        [helper.make_tensor_value_info("x", onnx.TensorProto.DataType.Value(of_input), ["batch", 64, 256])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.DataType.Value(of_output), ["batch", 64, 256])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path.write_bytes(made.SerializeToString())
    rows = np.ones((1, 64, 256), np.uint8 if integer else np.float32)
    return path, {"inputs": {"x": encoded(rows)}}


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
    stores = 16 + 1  # QEMU begins a repeated instruction once more, to find that it is over
    assert [(span.mark, span.counts.instructions) for span in spans] == [
        (1, 4),
        (2, 1 + 2 * 1000 + 4),
        (3, 4 + stores + 4 + 3 + 4),
        (None, 3),
    ]
    assert {span.threads for span in spans} == {1}
    assert _met(spans[1]) == {"scalar": 1 + 1000 + 4, "branches": 1000}
    assert _met(spans[2]) == {
        "scalar": 4 + 4,
        "stores": stores + 1,
        "loads": 1,
        "simdFp": 1,
        "simdDot": 1,
        "branches": 1,
        "calls": 2,
    }
    assert [span.counts.branch_misses for span in spans] == [0, 1, 0, 0]  # where the loop ends
    assert (spans[2].counts.load_bytes, spans[2].counts.store_bytes) == (3 * 16 + 8, stores + 16 + 8)


@pytest.mark.parametrize("name", ["armv7", "riscv64"])
def test_processors_whose_instructions_cannot_be_told_apart_have_a_total_alone(
    plugin: Path, tmp_path: Path, name: str
) -> None:
    require_target(name)
    emulator, root = inspect(EMULATOR, targets_cache()).root, inspect(name, targets_cache()).root
    out = tmp_path / "spans.jsonl"
    subprocess.run(
        [
            str(emulator / "bin" / str(USERLANDS[name].qemu)),
            *("-L", str(root), "-U", "LD_LIBRARY_PATH", "-plugin", f"{plugin},out={out}"),
            *(str(root / USERLANDS[name].python), "--version"),
        ],
        env={"LD_LIBRARY_PATH": str(emulator / "lib")},
        check=True,
    )
    counts = read_span(out.read_text()).counts
    assert counts.instructions > 10_000
    assert (counts.kinds, counts.load_bytes, counts.store_bytes) == ({}, 0, 0)


def _met(span: Span) -> dict[str, int]:
    """Return the kinds that occurred."""
    return {kind: number for kind, number in span.counts.kinds.items() if number}


def test_an_idle_and_a_busy_machine_count_the_same_in_separate_processes(
    raspberry_pi: Target, plugin: Path, model: Path
) -> None:
    quiet = count(raspberry_pi, model, RUNTIME, GOLDEN, plugin=plugin)
    with busy_machine():
        busy = count(raspberry_pi, model, RUNTIME, GOLDEN, plugin=plugin)
    for before, after in ((quiet.load, busy.load), (quiet.per_inference, busy.per_inference)):
        assert after.instructions == pytest.approx(before.instructions, rel=0.002)
        assert after.branch_misses == pytest.approx(before.branch_misses, rel=0.01)


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


@pytest.mark.parametrize(
    ("cpu", "dtype", "most"),
    [
        ("Haswell", "float", "simdFma"),
        ("Denverton", "float", "simdFp"),  # multiplies and adds apart
        ("Haswell", "uint8", "simdDot"),
        ("Denverton", "uint8", "simdInt"),  # SSE kernels widen bytes first
    ],
)
def test_on_x86_the_kernels_of_a_core_decide_which_kind_there_is_most_of(
    plugin: Path, tmp_path: Path, cpu: str, dtype: str, most: str
) -> None:
    require_target("amd64-qemu")
    target = emulated_target(Core("amd64-qemu", cpu, cpu, 1), targets_cache())
    path, golden = wide_product(tmp_path / "model.onnx", dtype)
    per = count(target, path, RUNTIME, golden, plugin=plugin, inferences=1).per_inference
    assert sum(per.kinds.values()) == per.instructions
    assert max(per.kinds, key=lambda kind: per.kinds[kind]) == most
    assert (per.kinds["simdFma"] > 0) == (cpu == "Haswell" and dtype == "float")
    assert (per.kinds["simdDot"] > 0) == (dtype == "uint8")
    if cpu == "Haswell":  # a vector of products to an instruction; bytes take two
        floats, bytes_ = 64 * 256 * 256 / 8, 2 * 64 * 256 * 256 / 32
        assert per.kinds[most] == pytest.approx(floats if dtype == "float" else bytes_, rel=0.05)


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
    assert document["target"].startswith(f"{raspberry_pi.label}, harness ")
