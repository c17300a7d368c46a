"""Options of execution providers: known words, and only where somebody reads them."""

from __future__ import annotations

import pytest

from edgewright.spec.load import load_fleet

from .conftest import Repository, only

BOARD = "hardware/board.yaml"
GPU = "accelerator: {kind: gpu, name: Orin}\nmemory:"


def with_runtime(repository: Repository, provider: str, section: str, *, versions: str = ">=1.20,<2") -> None:
    repository.edit(BOARD, "memory:", GPU)
    repository.edit(BOARD, '">=1.20,<2"', f'"{versions}"')
    repository.edit(BOARD, "[CPUExecutionProvider]", f"[{provider}, CPUExecutionProvider]\n  {section}")


def test_options_are_read_with_their_units(repository: Repository) -> None:
    with_runtime(
        repository,
        "TensorrtExecutionProvider",
        "tensorrt: {int8: true, workspace: 256MiB, engineCache: true}",
    )
    options = load_fleet(repository.root).hardware["board"].runtime.tensorrt
    assert options is not None
    assert (options.int8, options.workspace, options.engine_cache, options.fp16) == (True, 2**28, True, False)


@pytest.mark.parametrize(
    ("section", "provider"),
    [
        ("tensorrt: {int8: true}", "TensorrtExecutionProvider"),
        ("cuda: {tf32: false}", "CUDAExecutionProvider"),
        ("openvino: {deviceType: CPU}", "OpenVINOExecutionProvider"),
    ],
)
def test_options_without_their_provider_are_an_error_with_a_hint(
    repository: Repository, section: str, provider: str
) -> None:
    repository.edit(BOARD, "  threads: 2\n", f"  threads: 2\n  {section}\n")
    name = section.partition(":")[0]
    assert only(repository) == (
        f"{BOARD}:13:3: {name} has options, but {provider} is not among the providers;"
        f" add {provider} to runtime.providers, or leave '{name}' out"
    )


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            "tensorrt: {fp16: true}",
            "TensorRT would compute in fp16, which the class does not list; add fp16 to precisions",
        ),
        ("tensorrt: {dlaCore: 1}", "a DLA core without the DLA; add dla: true"),
        ("tensorrt: {fp61: true}", "unknown key 'fp61'"),
        ("tensorrt: {workspace: 3}", "a size needs a unit"),
        ("tensorrt: {workspace: 5GiB}", "more than there is (memory.total: 4GiB)"),
        ("tensorrt: {workspace: 0B}", "must be more than nothing (memory.total: 4GiB)"),
        ("tensorrt: {builderOptimizationLevel: 6}", "5"),
    ],
)
def test_tensorrt_options_that_cannot_hold_are_refused(
    repository: Repository, section: str, message: str
) -> None:
    with_runtime(repository, "TensorrtExecutionProvider", section)
    assert message in only(repository)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("openvino: {precision: FP16}", "OpenVINO has no FP16 on CPU; write FP32 or ACCURACY"),
        ("openvino: {deviceType: NPU, precision: FP32}", "OpenVINO has no FP32 on NPU; write FP16"),
        ("openvino: {performanceHint: LATENCY}", 'write runtime.versions: ">=1.23,<2"'),
        ("openvino: {deviceType: TPU}", "must be CPU, GPU, GPU.0, NPU, or AUTO, HETERO or MULTI"),
        ('openvino: {deviceType: "AUTO:GPU"}', "must be CPU, GPU, GPU.0, NPU, or AUTO, HETERO or MULTI"),
    ],
)
def test_openvino_options_that_would_not_start_it_are_refused(
    repository: Repository, section: str, message: str
) -> None:
    with_runtime(repository, "OpenVINOExecutionProvider", section)
    assert message in only(repository)


def test_a_hint_is_fine_where_every_version_takes_it(repository: Repository) -> None:
    section = 'openvino: {deviceType: "AUTO:GPU,CPU", performanceHint: LATENCY}'
    with_runtime(repository, "OpenVINOExecutionProvider", section, versions=">=1.23,<2")
    assert load_fleet(repository.root).hardware["board"].runtime.openvino is not None
