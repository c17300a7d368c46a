from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgewright.build.variants.origin import DoesNotApply, Origin, size_of
from edgewright.build.variants.prune import prune, rounding
from unit.build.variants.origins import origin

HEAD = "import torch\nfrom torch import nn\n"


def test_channels_of_coupled_layers_go_together_and_the_head_stays(convolutions: Origin) -> None:
    network, facts = prune(convolutions, 0.5)
    assert facts["channels"] == {"0": [16, 8], "3.inner": [16, 8]}
    assert facts["kept"] == {"6": "it makes an output"}
    assert facts["roundedTo"] == 8
    assert facts["parametersBefore"] > 2 * size_of(network)
    assert network(torch.zeros(3, 1, 16)).shape == (3, 3)


def test_the_trained_network_itself_is_not_touched(convolutions: Origin) -> None:
    before = convolutions.weights
    prune(convolutions, 0.5)
    assert convolutions.network().state_dict()["0.weight"].shape[0] == 16
    assert convolutions.weights == before


def test_the_least_important_channels_go(tmp_path: Path) -> None:
    code = HEAD + (
        "def build():\n"
        "    pooled = nn.AdaptiveAvgPool1d(4), nn.Flatten()\n"
        "    return nn.Sequential(nn.Conv1d(1, 8, 3, padding=1), *pooled, nn.Linear(32, 3))\n"
    )
    made = origin(tmp_path / "models" / "signals", code)
    whole = made.network()
    with torch.no_grad():
        for layer in (whole[0].weight, whole[0].bias):
            layer[2:6] *= 1e-3
        whole[3].weight.view(3, 8, 4)[:, 2:6] *= 1e-3
    from safetensors.torch import save

    faint = Origin(made.code, made.spec, save(whole.state_dict()), made.signature, made.selection, "accuracy")
    pruned, facts = prune(faint, 0.5)
    assert facts["channels"] == {"0": [8, 4]}
    assert torch.equal(pruned[0].weight, whole[0].weight[[0, 1, 6, 7]])


@pytest.mark.parametrize(
    ("widths", "ratio", "step"),
    [
        ([64, 128], 0.5, 8),
        ([16], 0.5, 8),
        ([12, 24], 0.5, 2),
        ([24, 48, 72], 0.67, 8),
        ([8], 0.5, 4),
        ([6], 0.5, 1),
        ([100], 0.3, 8),
        ([16], 0.1, 2),
    ],
)
def test_what_remains_is_a_multiple_near_to_what_was_asked(
    widths: list[int], ratio: float, step: int
) -> None:
    assert rounding(widths, ratio) == step


RECURRENT = (
    HEAD
    + """
class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.front = nn.Conv1d(1, 16, 3, padding=1)
        self.memory = nn.GRU(16, 16, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, signal):
        x = nn.functional.relu(self.front(signal)).transpose(1, 2)
        return self.head(self.memory(x)[0][:, -1])

def build():
    return Network()
"""
)


def test_a_recurrent_network_is_left_alone_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(DoesNotApply) as caught:
        prune(origin(tmp_path / "models" / "signals", RECURRENT), 0.5)
    assert str(caught.value) == (
        "no layer can lose channels (head: it makes an output; front: GRU behind it cannot be followed)"
    )


PARTLY = (
    HEAD
    + """
class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.front = nn.Conv1d(1, 16, 3, padding=1)
        self.memory = nn.GRU(16, 16, batch_first=True)
        self.middle = nn.Linear(16, 32)
        self.head = nn.Linear(32, 3)

    def forward(self, signal):
        x = nn.functional.relu(self.front(signal)).transpose(1, 2)
        return self.head(nn.functional.relu(self.middle(self.memory(x)[0][:, -1])))

def build():
    return Network()
"""
)


def test_layers_beside_a_recurrent_one_are_pruned(tmp_path: Path) -> None:
    network, facts = prune(origin(tmp_path / "models" / "signals", PARTLY), 0.5)
    assert facts["channels"] == {"middle": [32, 16]}
    assert set(facts["kept"]) == {"front", "head"}
    assert network(torch.zeros(2, 1, 16)).shape == (2, 3)


SIZES = (
    HEAD
    + """
class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.front = nn.Conv1d(1, 16, 3, padding=1)
        self.back = nn.Conv1d(16, 16, 3, padding=1)
        self.head = nn.Linear(256, 3)

    def forward(self, signal):
        x = self.back(nn.functional.relu(self.front(signal)))
        return self.head(x.reshape(-1, 16 * 16))

def build():
    return Network()
"""
)


def test_a_layer_whose_size_python_code_took_down_is_kept_with_what_failed(tmp_path: Path) -> None:
    _, facts = prune(origin(tmp_path / "models" / "signals", SIZES), 0.5)
    assert facts["channels"] == {"front": [16, 8]}
    assert set(facts["kept"]) == {"back", "head"}


ATTENTION = (
    HEAD
    + """
class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(4, 16)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.wide = nn.Linear(16, 64)
        self.narrow = nn.Linear(64, 16)
        self.head = nn.Linear(16, 3)

    def forward(self, signal):
        x = self.embed(signal.reshape(-1, 4, 4))
        x = x + self.attention(x, x, x, need_weights=False)[0]
        x = x + self.narrow(nn.functional.relu(self.wide(x)))
        return self.head(x.mean(1))

def build():
    return Network()
"""
)


def test_of_a_transformer_only_the_feed_forward_part_is_pruned(tmp_path: Path) -> None:
    network, facts = prune(origin(tmp_path / "models" / "signals", ATTENTION), 0.5)
    assert facts["channels"] == {"wide": [64, 32]}
    assert network.attention.in_proj_weight.shape == (48, 16)
    assert network(torch.zeros(2, 1, 16)).shape == (2, 3)


GROUPED = (
    HEAD
    + """
def build():
    return nn.Sequential(
        nn.Conv1d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv1d(16, 16, 3, padding=1, groups=16), nn.ReLU(),
        nn.Conv1d(16, 32, 1), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, 3),
    )
"""
)


def test_depthwise_convolutions_follow_their_input(tmp_path: Path) -> None:
    network, facts = prune(origin(tmp_path / "models" / "signals", GROUPED), 0.5)
    assert facts["channels"] == {"0": [16, 8], "2": [16, 8], "4": [32, 16]}
    assert network[2].groups == 8
    assert network(torch.zeros(2, 1, 16)).shape == (2, 3)


def test_a_network_without_channels_says_so(tmp_path: Path) -> None:
    code = HEAD + "def build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))\n"
    with pytest.raises(DoesNotApply, match=r"no layer can lose channels \(1: it makes an output\)"):
        prune(origin(tmp_path / "models" / "signals", code), 0.5)
