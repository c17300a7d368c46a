from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgewright.build.export import export
from edgewright.build.variants.origin import DoesNotApply, Origin
from edgewright.build.variants.sparsify import check_zeros, sparsify
from edgewright.errors import BuildError
from unit.build.variants.origins import RUN, SIGNATURE, origin
from unit.build.variants.test_prune import RECURRENT


def zeros(network: torch.nn.Module) -> float:
    matrices = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    return sum(int((p == 0).sum()) for p in matrices) / sum(p.numel() for p in matrices)


@pytest.mark.parametrize("ratio", [0.5, 0.9])
def test_the_share_of_zeros_is_the_one_asked_for_in_torch_and_in_the_export(
    convolutions: Origin, ratio: float
) -> None:
    network, facts = sparsify(convolutions, ratio, RUN)
    assert zeros(network) == pytest.approx(ratio, abs=0.001)
    assert facts["zeros"] == pytest.approx(ratio, abs=0.001)
    assert check_zeros(export(network, SIGNATURE), ratio) == pytest.approx(ratio, abs=0.001)


def test_the_smallest_weights_of_the_whole_network_go(convolutions: Origin) -> None:
    matrices = [p.detach() for p in convolutions.network().parameters() if p.ndim > 1]
    network, _ = sparsify(convolutions, 0.5, {**RUN, "arguments": {"steps": 0}})
    after = [p for p in network.parameters() if p.ndim > 1]
    gone = torch.cat([old[new == 0].abs() for old, new in zip(matrices, after, strict=True)])
    left = torch.cat([old[new != 0].abs() for old, new in zip(matrices, after, strict=True)])
    assert gone.max() <= left.min()


def test_zeros_stay_zero_at_every_step_of_the_tuning_while_other_weights_move(
    convolutions: Origin,
) -> None:
    train = convolutions.code.folder / "train.py"
    train.write_text(
        train.read_text().replace(
            "        scores = network(signals)\n",
            "        seen.append(sum(int((p == 0).sum()) for p in network.parameters() if p.ndim > 1))\n"
            "        scores = network(signals)\n",
        )
        + "\nseen = []\n"
    )
    fresh = origin_of(convolutions)
    network, _ = sparsify(fresh, 0.75, {**RUN, "arguments": {"steps": 4}})
    seen = fresh.code.module("train").seen
    assert len(seen) == 4
    assert len(set(seen)) == 1
    assert seen[0] == sum(int((p == 0).sum()) for p in network.parameters() if p.ndim > 1)
    assert not torch.equal(network[0].weight, fresh.network()[0].weight)


def origin_of(made: Origin) -> Origin:
    """The same network with the folder's code as it is now."""
    from edgewright.build.entry import ModelCode

    code = ModelCode(made.code.folder)
    return Origin(code, made.spec, made.weights, made.signature, made.selection, made.metric)


def test_no_hook_is_left_on_other_peoples_optimizers(convolutions: Origin) -> None:
    sparsify(convolutions, 0.5, RUN)
    weight = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    weight.sum().backward()
    optimizer.step()
    assert torch.equal(weight, torch.full((2, 2), 0.5))


def test_recurrent_layers_are_sparsified_too(tmp_path: Path) -> None:
    network, facts = sparsify(origin(tmp_path / "models" / "signals", RECURRENT), 0.6, RUN)
    assert zeros(network) == pytest.approx(0.6, abs=0.001)
    assert "memory.weight_hh_l0" in facts["zerosPerLayer"]


def test_an_export_that_lost_the_zeros_is_an_error(convolutions: Origin) -> None:
    with pytest.raises(BuildError, match=r"0\.0% of the exported weights are zero; 50\.0% were made so"):
        check_zeros(export(convolutions.network(), SIGNATURE), 0.5)


def test_a_network_without_matrices_says_so(tmp_path: Path) -> None:
    code = (
        "import torch\nclass Network(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.scale = torch.nn.Parameter(torch.ones(3))\n"
        "    def forward(self, signal):\n        return signal[:, 0, :3] * self.scale\n"
        "def build():\n    return Network()\n"
    )
    with pytest.raises(DoesNotApply, match="no weight matrices"):
        sparsify(origin(tmp_path / "models" / "signals", code), 0.5, RUN)
