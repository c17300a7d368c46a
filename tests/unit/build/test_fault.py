"""Networks that cannot be exported: each names the operator or the reason, and the author's own line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from edgewright.build.entry import ModelCode
from edgewright.build.export import check_parity, export
from edgewright.errors import BuildError
from unit.build.tiny import SIGNATURE, Repository

HEAD = """\
import torch
from torch import nn

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 3)

    def forward(self, point):
        x = self.inner(point)
"""
TAIL = "\n\ndef build():\n    return Network()\n"


@pytest.fixture
def refused(repository: Repository, write: Callable[[str, str], Path]) -> Callable[[str], BuildError]:
    """Export the network whose forward ends in `body` (its first line is line 11); return the error."""

    def _refused(body: str) -> BuildError:
        lines = "".join(f"        {line}\n" for line in body.splitlines())
        write("network.py", HEAD + lines + TAIL)
        code = ModelCode(repository.folder)
        network = code.call("network:build").eval()
        with pytest.raises(BuildError) as caught:
            check_parity(network, export(network, SIGNATURE, code.folder), SIGNATURE, code.folder)
        return caught.value

    return _refused


def test_an_operator_that_onnx_lacks_is_named_with_its_node_and_line(
    refused: Callable[[str], BuildError],
) -> None:
    error = refused("return torch.special.bessel_j0(x)")
    assert str(error) == (
        "models/tiny/network.py:11: torch cannot export prims.bessel_j0 (node bessel_j0):"
        " ONNX has no such operator"
    )
    assert "checkpoint" in str(error.hint)


def test_a_node_is_traced_through_operators_that_stand_between(refused: Callable[[str], BuildError]) -> None:
    error = refused("x = x * 2\nu, s, v = torch.linalg.svd(x)\nreturn v[:3].sum() + x")
    assert str(error).startswith("models/tiny/network.py:12: torch cannot export aten._linalg_svd ")


def test_an_operator_inside_a_module_names_the_module(
    repository: Repository, write: Callable[[str, str], Path]
) -> None:
    write(
        "network.py",
        "import torch\nfrom torch import nn\n\nclass Bessel(nn.Module):\n    def forward(self, x):\n"
        "        return torch.special.bessel_j0(x)\n\n"
        "def build():\n    return nn.Sequential(nn.Linear(4, 3), Bessel())\n",
    )
    code = ModelCode(repository.folder)
    with pytest.raises(BuildError, match=r"network\.py:6: .* \(node bessel_j0 of module 1, Bessel\)"):
        export(code.call("network:build").eval(), SIGNATURE, code.folder)


def test_a_branch_on_data_names_its_line(refused: Callable[[str], BuildError]) -> None:
    error = refused("if x.sum() > 0:\n    x = x * 2\nreturn x")
    assert str(error).startswith(
        "models/tiny/network.py:11: torch cannot export the network: what it does next depends on the data"
    )
    assert "torch.where" in str(error.hint)


def test_a_size_computed_from_values_names_its_line(refused: Callable[[str], BuildError]) -> None:
    error = refused("count = int(point.abs().sum().item())\nreturn x + torch.zeros(count)[:1]")
    assert str(error).startswith("models/tiny/network.py:11: ")
    assert "depends on the data" in str(error)


@pytest.mark.parametrize(
    "body",
    [
        "rows = int(point.shape[0])\nreturn x + torch.ones(2, 3) if rows == 2 else x",
        "return x.view(2, 3) * 1.0",
        "y = x.reshape(2, -1)\nreturn y[:, :3]",
    ],
)
def test_a_line_that_fixes_the_batch_is_named(refused: Callable[[str], BuildError], body: str) -> None:
    assert str(refused(body)) == (
        "models/tiny/network.py:11: this line works for one number of samples only, so the batch cannot be dynamic"
    )


def test_code_that_leaves_torch_names_its_line(refused: Callable[[str], BuildError]) -> None:
    error = refused("import numpy\nreturn torch.tensor(numpy.tanh(x.tolist()))")
    assert str(error).startswith("models/tiny/network.py:12: torch cannot export the network: ")


def test_the_first_nan_is_named_with_its_operator_and_line(refused: Callable[[str], BuildError]) -> None:
    error = refused("x = x - 100\nx = torch.log(x)\nreturn x + 1")
    assert str(error) == (
        "the network gives NaN or infinity in output 'logits' for 1 of 1 random inputs;"
        " first in log at models/tiny/network.py:12"
    )


def test_an_infinity_is_named_where_there_is_no_nan(refused: Callable[[str], BuildError]) -> None:
    error = refused("return (x + 1000).exp()")
    assert str(error).endswith("first in exp at models/tiny/network.py:11")


def test_without_the_authors_folder_the_operator_is_still_named() -> None:
    class Network(torch.nn.Module):
        def forward(self, point: torch.Tensor) -> torch.Tensor:
            return torch.special.bessel_j0(point[:, :3])

    with pytest.raises(BuildError, match=r"^torch cannot export prims\.bessel_j0 \(node bessel_j0\): "):
        export(Network().eval(), SIGNATURE)


def test_nothing_of_the_exporters_own_advice_reaches_the_terminal(
    refused: Callable[[str], BuildError], capfd: pytest.CaptureFixture[str]
) -> None:
    refused("if x.sum() > 0:\n    x = x * 2\nreturn x")
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
