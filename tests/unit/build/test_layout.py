"""Layouts: chosen by the class and the model's size, undone to the last byte, the same bytes everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from edgewright.bench.memory import peak_memory
from edgewright.build.canonical import canonical, to_bytes
from edgewright.build.golden import encoded
from edgewright.build.layout import MIN_TENSOR_BYTES, SINGLE, Layout, apply, choose_layout, restore, whole
from edgewright.errors import BuildError
from edgewright_agent.contract import FILE_DATA, FILE_MODEL
from unit.bench.lane import RUNTIME
from unit.build.test_memory_estimate import chain

APART = Layout((FILE_DATA,))
MIB = 2**20


def model(width: int, layers: int) -> bytes:
    return to_bytes(canonical(onnx.load_model_from_string(chain(width, layers))))


def hardware(for_models: int = 1024 * MIB, providers: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "memory": {"forModels": for_models},
        "runtime": {"providers": [*providers, "CPUExecutionProvider"]},
    }


def test_a_small_model_stays_one_file_on_a_roomy_class() -> None:
    layout = choose_layout(hardware(), model(64, 2))
    assert (layout.external_data, layout.why) == (
        (),
        "one file: 0.0 MB of weights are too few to gain by a second one",
    )
    assert apply(layout, b"whatever it is") == {FILE_MODEL: b"whatever it is"}


def test_a_large_models_weights_are_laid_apart() -> None:
    layout = choose_layout(hardware(), model(512, 8))
    assert layout.external_data == (FILE_DATA,)
    assert layout.why == "8.4 MB of weights in a file of their own: mapped, they load faster and once only"


def test_little_memory_lays_apart_what_is_a_large_share_of_it() -> None:
    layout = choose_layout(hardware(16 * MIB), model(512, 2))
    assert layout.external_data == (FILE_DATA,)
    assert layout.why == "2.1 MB of weights in a file of their own: 12 % of the memory left to models"


def test_a_provider_that_was_never_seen_to_map_weights_gets_one_file() -> None:
    layout = choose_layout(hardware(providers=("TensorrtExecutionProvider",)), model(512, 8))
    assert layout.external_data == ()
    assert layout.why == "one file: TensorrtExecutionProvider was not seen to map weights from another"


@pytest.mark.parametrize("layout", [SINGLE, APART])
def test_a_layout_is_undone_to_the_last_byte(layout: Layout) -> None:
    data = model(100, 3)
    files = apply(layout, data)
    assert restore(files) == data
    assert apply(layout, data) == files


def test_weights_begin_on_pages_and_small_tensors_stay() -> None:
    files = apply(APART, model(100, 3))
    proto = onnx.load_model_from_string(files[FILE_MODEL])
    places = [{e.key: e.value for e in tensor.external_data} for tensor in proto.graph.initializer]
    assert [place["offset"] for place in places] == ["0", "40960", "81920"]
    assert {place["location"] for place in places} == {FILE_DATA}
    small = apply(APART, model(8, 2))
    assert MIN_TENSOR_BYTES > 8 * 8 * 4
    assert small == {FILE_MODEL: model(8, 2)}


def test_the_engine_finds_the_weights_and_computes_the_same(tmp_path: Path) -> None:
    data = model(100, 3)
    for name, content in apply(APART, data).items():
        (tmp_path / name).write_bytes(content)
    x = {"x": np.linspace(-1, 1, 200, dtype=np.float32).reshape(2, 100)}
    [inside] = onnxruntime.InferenceSession(data).run(None, x)
    [apart] = onnxruntime.InferenceSession(str(tmp_path / FILE_MODEL)).run(None, x)
    np.testing.assert_array_equal(inside, apart)


def test_a_stages_files_become_one_model_again_wherever_they_lie(tmp_path: Path) -> None:
    data, inputs = model(100, 3), {}
    for turn, (name, content) in enumerate(apply(APART, data).items()):
        inputs[f"optimized/{name}"] = tmp_path / str(turn)  # as in the cache, whose names say nothing
        inputs[f"optimized/{name}"].write_bytes(content)
    assert whole(inputs) == data


def test_weights_of_another_run_are_refused() -> None:
    files = apply(APART, model(100, 3))
    with pytest.raises(BuildError, match=r"model\.onnx looks for 'w.' where model\.onnx\.data has nothing"):
        restore({**files, FILE_DATA: files[FILE_DATA][:-1]})


def test_memory_is_measured_with_the_weights_apart_and_is_not_more(tmp_path: Path) -> None:
    data = model(512, 12)
    files = {name: tmp_path / str(turn) for turn, name in enumerate((FILE_MODEL, FILE_DATA))}
    for name, content in apply(APART, data).items():
        files[name].write_bytes(content)
    (tmp_path / "single").write_bytes(data)
    golden = {"inputs": {"x": encoded(np.ones((1, 512), np.float32))}}
    apart = peak_memory(files[FILE_MODEL], RUNTIME, golden, data=files[FILE_DATA])
    inside = peak_memory(tmp_path / "single", RUNTIME, golden)
    assert apart is not None
    assert inside is not None
    assert apart <= inside
