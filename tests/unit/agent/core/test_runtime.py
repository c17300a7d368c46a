"""The runtime an application uses: the current model, swapped when an update commits, strict about its inputs."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from edgewright_agent.engine import InputError
from edgewright_agent.errors import AgentError, ConfigError
from edgewright_agent.files import Disk
from edgewright_agent.runtime import open_model
from edgewright_agent.store import Store
from unit.agent.core import onnx_artifact
from unit.agent.core.onnx_artifact import LABELS, PIXELS, WEIGHTS, scores

ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A device whose active digit-reader is ONE; TWO, with other weights, is stored."""
    onnx_artifact.write(tmp_path / "store" / ("1" * 64))
    onnx_artifact.write(tmp_path / "store" / ("2" * 64), weights=-WEIGHTS)
    make_current(tmp_path, ONE)
    return tmp_path


def make_current(state: Path, digest: str) -> None:
    Store(state, Disk()).link("digit-reader", digest)


def test_an_application_gets_named_arrays_and_labels(state: Path) -> None:
    model = open_model("digit-reader", state)
    outputs = model.run({"image": PIXELS})
    np.testing.assert_allclose(outputs["scores"], scores(PIXELS), atol=1e-5)
    assert model.labels == tuple(LABELS)
    assert model.digest == ONE
    assert model.providers == ("CPUExecutionProvider",)
    assert [(p.name, p.dtype, p.shape) for p in model.inputs] == [("image", "float32", (None, 4))]


def test_an_update_is_picked_up_by_the_next_run(state: Path) -> None:
    model = open_model("digit-reader", state)
    make_current(state, TWO)
    np.testing.assert_allclose(model.run({"image": PIXELS})["scores"], scores(PIXELS, -WEIGHTS), atol=1e-5)
    assert model.digest == TWO


def test_a_model_that_cannot_be_loaded_is_not_swapped_in(state: Path) -> None:
    model = open_model("digit-reader", state)
    (state / "store" / ("2" * 64) / "model.onnx").write_bytes(b"junk")
    make_current(state, TWO)
    for _ in range(2):
        np.testing.assert_allclose(model.run({"image": PIXELS})["scores"], scores(PIXELS), atol=1e-5)
    assert model.digest == ONE


@pytest.mark.parametrize("file", ["runtime.json", "labels.json"])
@pytest.mark.parametrize("content", [b"{}", b'{"labels": "zero", "versions": 1}'])
def test_a_model_whose_settings_or_labels_make_no_sense_is_not_swapped_in(
    state: Path, file: str, content: bytes
) -> None:
    model = open_model("digit-reader", state)
    (state / "store" / ("2" * 64) / file).write_bytes(content)
    make_current(state, TWO)
    assert model.run({"image": PIXELS})["scores"].shape == (8, 3)
    assert (model.digest, model.labels) == (ONE, tuple(LABELS))
    with pytest.raises(AgentError):
        open_model("digit-reader", state)


def test_a_model_in_use_survives_the_removal_of_its_files(state: Path) -> None:
    model = open_model("digit-reader", state)
    Store(state, Disk()).discard(ONE)
    (state / "current" / "digit-reader").unlink()
    assert model.run({"image": PIXELS})["scores"].shape == (8, 3)


def test_many_threads_share_a_session_while_it_is_swapped(state: Path) -> None:
    model = open_model("digit-reader", state)
    allowed = [scores(PIXELS), scores(PIXELS, -WEIGHTS)]
    wrong: list[object] = []

    def work() -> None:
        for _ in range(200):
            got = model.run({"image": PIXELS})["scores"]
            if not any(np.allclose(got, want, atol=1e-5) for want in allowed):
                wrong.append(got)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for digest in (TWO, ONE, TWO):
        make_current(state, digest)
    for thread in threads:
        thread.join()
    assert wrong == []
    model.run({"image": PIXELS})
    assert model.digest == TWO


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, r"the inputs are \[\], the model takes \['image'\]"),
        ({"image": PIXELS, "mask": PIXELS}, "takes"),
        ({"image": PIXELS.astype("float64")}, "image is float64, the model takes float32"),
        ({"image": PIXELS[:, :3]}, r"image has shape \[8, 3\], the model takes \[any, 4\]"),
        ({"image": PIXELS[0]}, r"image has shape \[4\], the model takes \[any, 4\]"),
    ],
)
def test_wrong_inputs_are_refused_with_what_would_be_right(
    state: Path, inputs: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        open_model("digit-reader", state).run(inputs)


def test_a_model_that_was_never_installed_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no digit-reader has been installed here yet"):
        open_model("digit-reader", tmp_path)
    with pytest.raises(ConfigError, match="not a model name"):
        open_model("../../etc", tmp_path)
