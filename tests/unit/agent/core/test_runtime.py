"""What an application gets from a session: named arrays, labels, who answered, and sentences about wrong inputs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgewright_agent.engine import InputError
from edgewright_agent.errors import AgentError, ConfigError
from edgewright_agent.files import Disk
from edgewright_agent.runtime import open_model
from edgewright_agent.store import Store
from real import ROOT
from unit.agent.core import onnx_artifact
from unit.agent.core.onnx_artifact import LABELS, PIXELS, WEIGHTS, scores

ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A device whose active digit-reader is ONE; TWO, with other weights, is stored."""
    providers = ["CPUExecutionProvider"]
    onnx_artifact.write(tmp_path / "store" / ("1" * 64), providers=providers)
    onnx_artifact.write(tmp_path / "store" / ("2" * 64), weights=-WEIGHTS, providers=providers)
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


@pytest.mark.parametrize("file", ["runtime.json", "labels.json"])
@pytest.mark.parametrize("content", [b"{}", b'{"labels": "zero", "versions": 1}'])
def test_a_model_whose_settings_or_labels_make_no_sense_is_not_swapped_in(
    state: Path, file: str, content: bytes
) -> None:
    model = open_model("digit-reader", state)
    (state / "store" / ("2" * 64) / file).write_bytes(content)
    make_current(state, TWO)
    model.refresh()
    assert model.run({"image": PIXELS})["scores"].shape == (8, 3)
    assert (model.digest, model.labels) == (ONE, tuple(LABELS))
    with pytest.raises(AgentError):
        open_model("digit-reader", state)


class Odd:
    """What says no when it is asked to be an array, as tensors of other libraries do."""

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        raise RuntimeError("it needs its gradient")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, r"the inputs are \[\], the model takes \['image'\]"),
        ({"image": PIXELS, "mask": PIXELS}, "takes"),
        ({"image": PIXELS.astype("float64")}, "image is float64, the model takes float32"),
        ({"image": PIXELS[:, :3]}, r"image has shape \[8, 3\], the model takes \[any, 4\]"),
        (
            {"image": PIXELS[0]},
            r"image has shape \[4\], the model takes \[any, 4\]: image\[None\] is a batch of one",
        ),
        (
            {"image": PIXELS.astype(">f4")},
            r"another machine's order: image.astype\(\"float32\"\) puts them right",
        ),
        (
            {"image": PIXELS.tolist()},
            r"image is float64, the model takes float32: image.astype\(\"float32\"\)",
        ),
        ({"image": None}, "image is object, the model takes float32"),
        ({"image": [[1.0, 2.0], [3.0]]}, "image cannot be made an array: .*inhomogeneous"),
        ({"image": Odd()}, "image cannot be made an array: it needs its gradient"),
        ({"image": PIXELS, 1: PIXELS}, r"the inputs are \['1', 'image'\], the model takes \['image'\]"),
        (PIXELS, r'the inputs are a ndarray, not arrays by name: \{"image": …\}'),
    ],
)
def test_wrong_inputs_are_refused_with_what_would_be_right(
    state: Path, inputs: dict[str, np.ndarray], message: str
) -> None:
    with open_model("digit-reader", state) as model:
        with pytest.raises(InputError, match=message):
            model.run(inputs)
        assert model.figures.input_errors == 1


def test_slices_and_transposed_views_are_taken_as_they_are(state: Path) -> None:
    wide = np.asfortranarray(np.repeat(PIXELS, 2, axis=0))
    with open_model("digit-reader", state) as model:
        np.testing.assert_allclose(model.run({"image": wide[::2]})["scores"], scores(PIXELS), atol=1e-5)


def test_an_answer_says_who_gave_it_and_what_it_means(state: Path) -> None:
    with open_model("digit-reader", state) as model:
        answer = model.answer({"image": PIXELS[:2]})
    winners = scores(PIXELS[:2]).argmax(axis=1)
    assert answer.labels == tuple(LABELS[index] for index in winners)
    assert (answer.digest, answer.rung, answer.decided) == (ONE, "normal", True)
    assert answer.latency_ms > 0


def test_a_batch_of_none_is_a_batch(state: Path) -> None:
    with open_model("digit-reader", state) as model:
        answer = model.answer({"image": PIXELS[:0]})
    assert (answer.outputs["scores"].shape, answer.labels) == ((0, 3), ())


def test_a_closed_session_says_so_and_may_be_closed_again(state: Path) -> None:
    model = open_model("digit-reader", state)
    model.close()
    model.close()
    with pytest.raises(AgentError, match="is closed: open another one") as refused:
        model.run({"image": PIXELS})
    assert refused.value.code == "closed"


def test_a_way_of_swapping_that_does_not_exist_is_refused(state: Path) -> None:
    with pytest.raises(ConfigError, match="swap is 'never', not one of auto, beside, after-release"):
        open_model("digit-reader", state, swap="never")


def test_a_forked_child_loads_the_model_anew(state: Path) -> None:
    program = (
        "import os, sys\n"
        "from edgewright_agent.runtime import open_model\n"
        "from unit.agent.core.onnx_artifact import PIXELS\n"
        "model = open_model('digit-reader', sys.argv[1])\n"
        "before = model.run({'image': PIXELS})['scores']\n"
        "child = os.fork()\n"
        "same = (model.run({'image': PIXELS})['scores'] == before).all()\n"
        "if child == 0:\n"
        "    print('child', same, flush=True)\n"
        "    sys.exit()\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0\n"
        "print('parent', same)\n"
    )
    # Two threads: those of the engine in the parent do not exist in the child, which would wait for them for ever.
    folder = state / "store" / ("1" * 64)
    settings = json.loads((folder / "runtime.json").read_text())
    (folder / "runtime.json").write_text(json.dumps({**settings, "threads": 2}))
    ran = subprocess.run(
        [sys.executable, "-c", program, str(state)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}/tests:{ROOT}/agent"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (0, "child True\nparent True\n"), ran.stderr


def test_importing_the_runtime_loads_no_engine() -> None:
    program = (
        "import sys, edgewright_agent.runtime; print({'numpy', 'onnxruntime', 'tuf'} & set(sys.modules))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stdout == "set()\n"


def test_a_model_that_was_never_installed_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no digit-reader has been installed here yet"):
        open_model("digit-reader", tmp_path)
    with pytest.raises(ConfigError, match="not a model name"):
        open_model("../../etc", tmp_path)
