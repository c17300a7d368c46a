"""Nets of a recipe: the same bytes every time, and such that the engine runs them."""

from __future__ import annotations

import doctest

import numpy as np
import onnxruntime
import pytest

from edgewright.bench.calibration import nets
from edgewright.bench.calibration.families import FAMILIES
from edgewright.bench.calibration.nets import Net, Recipe, draw, make

RECIPE = Recipe(seed=1, nets=4)


@pytest.fixture(scope="module")
def made() -> list[Net]:
    return list(make(RECIPE))


def test_a_recipe_gives_the_same_bytes_every_time(made: list[Net]) -> None:
    assert list(make(RECIPE)) == made


def test_another_seed_gives_other_nets() -> None:
    one, other = (next(draw(Recipe(seed=seed, nets=1))) for seed in (1, 2))
    assert one.model.SerializeToString() != other.model.SerializeToString()


def test_more_nets_begin_with_the_same_nets(made: list[Net]) -> None:
    assert list(make(Recipe(seed=1, nets=3))) == made[:3]


def test_every_net_comes_in_both_precisions_with_one_number_of_multiply_adds(made: list[Net]) -> None:
    assert [net.name for net in made] == [
        "cnn-000-fp32",
        "cnn-000-int8",
        "mobile-001-fp32",
        "mobile-001-int8",
    ]
    assert [net.precision for net in made] == ["fp32", "int8"] * 2
    for fp32, int8 in zip(made[::2], made[1::2], strict=True):
        assert (fp32.shape, fp32.macs) == (int8.shape, int8.macs)
        assert len(int8.model) < len(fp32.model)


@pytest.mark.parametrize("place", range(RECIPE.nets))
def test_the_engine_runs_every_net_on_its_input_x(made: list[Net], place: int) -> None:
    net = made[place]
    session = onnxruntime.InferenceSession(net.model, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"x": np.ones((1, *net.shape), np.float32)})
    assert np.isfinite(output).all()
    assert output.size


def test_the_first_fifteen_drawings_have_every_family() -> None:
    assert set(nets.TURNS) == set(FAMILIES)


def test_multiply_adds_are_within_their_bounds() -> None:
    for drawn in draw(Recipe(seed=1, nets=12)):
        least, most = nets.MACS_OF_FAMILY.get(drawn.name.rpartition("-")[0], nets.MACS)
        assert least / 2**0.5 <= drawn.macs <= most * 2**0.5


def test_weights_of_reduced_range_are_other_weights(made: list[Net]) -> None:
    reduced = list(make(Recipe(seed=1, nets=2, reduce_range=True)))
    assert reduced[0] == made[0]
    assert reduced[1].model != made[1].model


def test_progress_counts_every_net() -> None:
    seen: list[tuple[int, int]] = []
    list(make(Recipe(seed=1, nets=2), lambda *step: seen.append(step)))
    assert seen == [(1, 2), (2, 2)]


def test_the_examples_in_the_module_are_true() -> None:
    assert doctest.testmod(nets).failed == 0
