from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnxruntime.quantization.quant_utils import compute_scale_zp, quantize_nparray

from edgewright.build.export import export
from edgewright.build.variants.origin import DoesNotApply, Origin
from edgewright.build.variants.qat import ActivationGrid, WeightGrid, tune
from unit.build.variants.origins import RUN, SIGNATURE, origin


def test_weights_fall_on_the_grid_onnxruntime_uses(convolutions: Origin) -> None:
    weight = convolutions.network()[0].weight.detach()
    ours = WeightGrid()(weight)
    for channel, rounded in zip(weight.numpy(), ours.numpy(), strict=True):
        zero, scale = compute_scale_zp(
            *(np.array(bound, np.float32) for bound in (channel.min(), channel.max(), -127, 127)),
            symmetric=True,
        )
        steps = quantize_nparray(onnx.TensorProto.INT8, channel, scale, zero, -127, 127)
        assert np.allclose(rounded, steps.astype(np.float32) * scale, atol=1e-7)


def test_a_channel_of_zeros_stays_zero() -> None:
    assert torch.equal(WeightGrid()(torch.zeros(2, 3)), torch.zeros(2, 3))


def test_activations_fall_on_256_steps_over_the_range_seen_with_zero_in_it() -> None:
    grid, layer = ActivationGrid(), torch.nn.Identity().train()
    (rounded,) = grid(layer, (torch.linspace(0.5, 2.0, 1000),))
    assert (grid.low, grid.high) == (0.0, 2.0)
    assert len(rounded.unique()) <= 256
    assert float((rounded - torch.linspace(0.5, 2.0, 1000)).abs().max()) <= 2.0 / 255 / 2 + 1e-6
    assert float(grid(layer.eval(), (torch.zeros(1),))[0]) == 0.0


def test_the_range_follows_training_and_stays_in_evaluation() -> None:
    grid, layer = ActivationGrid(), torch.nn.Identity().train()
    grid(layer, (torch.tensor([-1.0, 1.0]),))
    grid(layer, (torch.tensor([-1.0, 3.0]),))
    assert grid.high == pytest.approx(1.2)
    grid(layer.eval(), (torch.tensor([50.0]),))
    assert grid.high == pytest.approx(1.2)


def test_gradients_pass_through_the_rounding() -> None:
    weight = torch.randn(4, 5, requires_grad=True)
    WeightGrid()(weight).sum().backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, torch.ones(4, 5))


def test_the_latent_weights_are_exported_without_a_trace_of_the_rounding(convolutions: Origin) -> None:
    network, facts = tune(convolutions, RUN)
    assert facts["roundedLayers"] == ["0", "3.inner", "6"]
    assert facts["roundedMetric"] >= 0.9
    assert sorted(network.state_dict()) == sorted(convolutions.network().state_dict())
    assert not any(module._forward_pre_hooks for module in network.modules())
    weight = network[0].weight.detach()
    assert not torch.allclose(weight, WeightGrid()(weight), atol=1e-6)
    operators = {node.op_type for node in export(network, SIGNATURE).graph.node}
    assert not {op for op in operators if "Quantize" in op or op == "Round"}


def test_tuning_sees_rounded_numbers(convolutions: Origin) -> None:
    still, facts = tune(convolutions, {**RUN, "arguments": {"steps": 1, "rate": 0.0}})
    assert torch.equal(still[0].weight, convolutions.network()[0].weight)
    assert facts["roundedMetric"] <= 1.0


def test_a_network_of_nothing_but_a_recurrent_layer_says_why_it_does_not_apply(tmp_path: Path) -> None:
    code = (
        "import torch\nclass Network(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.memory = torch.nn.GRU(1, 3, batch_first=True)\n"
        "    def forward(self, signal):\n        return self.memory(signal.transpose(1, 2))[0][:, -1]\n"
        "def build():\n    return Network()\n"
    )
    with pytest.raises(DoesNotApply, match="neither convolutions nor linear layers"):
        tune(origin(tmp_path / "models" / "signals", code), RUN)
