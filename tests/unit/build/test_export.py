from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from edgewright.build.canonical import canonical, to_bytes
from edgewright.build.export import OPSET, check_parity, export
from edgewright.build.samples import Network
from edgewright.errors import BuildError
from unit.build.tiny import CODE, SIGNATURE, Repository


@pytest.fixture
def model(exported: Repository) -> onnx.ModelProto:
    return onnx.load_model_from_string(exported.files["exported/model.onnx"].read_bytes())


def test_any_number_of_samples_goes_through_at_once(model: onnx.ModelProto) -> None:
    session = Network(to_bytes(model))
    for count in (1, 2, 17):
        assert session.run({"point": np.zeros((count, 4), np.float32)}, batch=count)["logits"].shape == (
            count,
            3,
        )


def test_the_graph_speaks_the_names_and_shapes_of_the_signature(model: onnx.ModelProto) -> None:
    point, logits = model.graph.input[0], model.graph.output[0]
    assert (point.name, logits.name) == ("point", "logits")
    assert point.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert logits.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)]


def test_another_folder_and_hash_seed_give_the_same_bytes(exported: Repository, tmp_path: Path) -> None:
    weights = exported.files["checkpoint/weights.safetensors"]
    script = (
        "import sys; from pathlib import Path; from unit.build.tiny import Repository\n"
        "r = Repository(Path(sys.argv[1])); r.files['checkpoint/weights.safetensors'] = Path(sys.argv[2])\n"
        "r.run('exported'); r.run('variants'); r.run('searched'); r.run('optimized')\n"
        "print(r.files['exported/model.onnx']); print(r.files['optimized/model.onnx'])"
    )
    made = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "elsewhere" / "deep"), str(weights)],
        env={**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": os.pathsep.join([*sys.path])},
        capture_output=True,
        text=True,
        check=True,
    )
    elsewhere = [Path(line).read_bytes() for line in made.stdout.splitlines()[-2:]]
    assert elsewhere == [
        exported.files[f"{stage}/model.onnx"].read_bytes() for stage in ("exported", "optimized")
    ]


def test_the_model_carries_no_path_and_no_tool(exported: Repository) -> None:
    data = exported.files["exported/model.onnx"].read_bytes()
    for trace in (
        b"/network.py",
        b"site-packages",
        b"pytorch",
        b"torch",
        str(exported.root.anchor + "tmp").encode(),
    ):
        assert trace not in data


def test_canonical_is_the_same_the_second_time(model: onnx.ModelProto) -> None:
    model.doc_string = "made on a sunny day"
    model.graph.node[0].metadata_props.add(key="source", value="/home/me/network.py")
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    once = canonical(model)
    assert to_bytes(canonical(once)) == to_bytes(once)
    assert b"sunny" not in to_bytes(once)
    assert b"/home/me" not in to_bytes(once)
    assert [o.domain for o in once.opset_import] == [""]


def test_a_model_that_is_not_the_network_is_refused_with_the_difference(model: onnx.ModelProto) -> None:
    other = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).eval()
    with pytest.raises(BuildError, match=r"not the network: logits differs by .* tolerated"):
        check_parity(other, model, SIGNATURE)


def test_a_network_that_gives_nan_does_not_pass_for_equal() -> None:
    class Broken(torch.nn.Module):
        def forward(self, point: torch.Tensor) -> torch.Tensor:
            return torch.log(point[:, :3] - 100.0)

    network = Broken().eval()
    with pytest.raises(BuildError, match=r"gives NaN or infinity in output 'logits' .*; first in log"):
        check_parity(network, export(network, SIGNATURE), SIGNATURE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"outputs": [{"name": "logits", "dtype": "float32", "shape": ["batch", 4]}]},
            r"signature says float32\[batch, 4\]",
        ),
        ({"outputs": [{"name": "logits", "dtype": "int64", "shape": ["batch", 3]}]}, "signature says int64"),
        ({"inputs": [{"name": "point", "dtype": "float32", "shape": ["batch", 5]}]}, "torch cannot export"),
    ],
)
def test_a_signature_that_contradicts_the_network_is_refused(
    exported: Repository, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(BuildError, match=message):
        exported.run("exported", signature={**SIGNATURE, **change})


def test_weights_of_an_older_network_are_refused_before_export(exported: Repository) -> None:
    (exported.folder / "network.py").write_text(CODE["network.py"].replace("width, 3", "width, 4"))
    with pytest.raises(BuildError, match="does not fit"):
        exported.run("exported")
