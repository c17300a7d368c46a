from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgewright.build.search.pareto import dominates, fronts

POINTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)), max_size=12)


@given(POINTS)
def test_every_point_is_in_one_front_and_none_of_a_front_beats_another_of_it(
    points: list[tuple[int, ...]],
) -> None:
    found = fronts(points)
    assert sorted(index for front in found for index in front) == list(range(len(points)))
    for front in found:
        assert not any(dominates(points[a], points[b]) for a in front for b in front)


@given(POINTS)
def test_whoever_is_in_a_later_front_is_beaten_by_somebody_of_the_one_before(
    points: list[tuple[int, ...]],
) -> None:
    found = fronts(points)
    for before, after in zip(found, found[1:], strict=False):
        for index in after:
            assert any(dominates(points[other], points[index]) for other in before)


def test_equal_points_share_a_front() -> None:
    assert fronts([(1, 1), (1, 1)]) == [[0, 1]]
