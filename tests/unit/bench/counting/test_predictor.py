"""What the plugin's branch predictor guesses wrong, asked of the C code itself."""

from __future__ import annotations

import ctypes
import random
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from edgewright.bench import counting
from edgewright.bench.counting.build import FLAGS

Branches = Iterable[tuple[int, bool]]
Play = Callable[[Branches], int]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("predictor")
    source, compiled = folder / "play.c", folder / "play.so"
    source.write_text(
        '#include "predictor.h"\n#define OUT __attribute__((visibility("default")))\n'
        "OUT void start(void) { forget(); }\n"
        "OUT int met(uint64_t branch, int taken) { return guessed_wrong(branch, taken); }\n"
    )
    include = f"-I{Path(counting.__file__).parent}"
    subprocess.run(["gcc", *FLAGS, "-Werror", include, str(source), "-o", str(compiled)], check=True)
    loaded = ctypes.CDLL(str(compiled))
    loaded.met.argtypes = (ctypes.c_uint64, ctypes.c_int)
    return loaded


@pytest.fixture
def play(library: ctypes.CDLL) -> Play:
    """Return how many of some branches, (address, whether taken), are guessed wrong by a new predictor."""

    def call(branches: Branches) -> int:
        library.start()
        return sum(library.met(address, taken) for address, taken in branches)

    return call


def loop(address: int, rounds: int) -> list[tuple[int, bool]]:
    """A branch back at the end of a loop."""
    return [(address, True)] * (rounds - 1) + [(address, False)]


def test_what_always_goes_one_way_is_guessed(play: Play) -> None:
    assert play([(0x401000, True)] * 1000) == 0
    assert play([(0x401000, False)] * 1000) == 0


def test_a_loop_of_always_as_many_rounds_costs_until_it_is_known(play: Play) -> None:
    once, often = play(loop(0x401000, 100)), play(loop(0x401000, 100) * 1000)
    assert once == 1
    assert often <= 10


def test_loops_in_a_loop_are_known_too(play: Play) -> None:
    body = loop(0x401000, 7) + loop(0x402000, 300) + [(0x403000, True)]
    assert play(body * 500) <= 20


def test_what_nobody_can_know_is_wrong_half_the_time(play: Play) -> None:
    dice = random.Random(1)
    branches = [(0x401000, dice.random() < 0.5) for _ in range(20_000)]
    assert play(branches) == pytest.approx(10_000, rel=0.05)


def test_what_is_likely_is_wrong_when_the_unlikely_happens(play: Play) -> None:
    dice = random.Random(2)
    branches = [(0x401000, dice.random() < 0.9) for _ in range(20_000)]
    assert 0.09 < play(branches) / 20_000 < 0.19


def test_turns_before_tell_what_a_branch_does(play: Play) -> None:
    dice = random.Random(3)
    branches = []
    for _ in range(20_000):
        way = dice.random() < 0.5
        branches += [(0x401000, way), (0x402000, way)]
    assert play(branches) < 0.35 * len(branches)  # a quarter is the least: the first of each pair


def test_nothing_is_remembered_from_before(library: ctypes.CDLL, play: Play) -> None:
    branches = loop(0x401000, 100) * 3
    assert play(branches) == play(branches) > 0
