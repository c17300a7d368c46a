from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from edgewright.build.leakage import UNPROVEN, check_separate
from edgewright.build.samples import Samples
from edgewright.errors import BuildError


def samples(name: str, values: list[int], targets: list[int] | None = None) -> Samples:
    """Samples told apart by one number each."""
    inputs = {"x": np.array(values, np.float32)[:, None], "y": np.zeros((len(values), 3), np.float32)}
    return Samples(f"data:{name}", inputs, np.array(targets or [0] * len(values)))


def sets(**values: list[int]) -> dict[str, Samples]:
    return {name: samples(name, found) for name, found in values.items()}


def test_sets_that_share_nothing_pass_and_only_what_is_not_named_is_unproven() -> None:
    named = sets(training=[1, 2], calibration=[3], selection=[4], test=[5, 6])
    assert check_separate(named).notes == ()
    del named["training"]
    assert check_separate(named).notes == (UNPROVEN,)


@pytest.mark.parametrize("name", ["training", "calibration", "selection"])
def test_a_test_sample_in_any_other_set_is_leakage_told_with_both_entries_and_the_rows(name: str) -> None:
    named = sets(training=[1, 2], calibration=[3, 4], selection=[5, 6], test=[7, 8, 9])
    leaked = float(named[name].inputs["x"][1, 0])
    named["test"].inputs["x"][1:] = leaked  # type: ignore[index]
    with pytest.raises(BuildError) as caught:
        check_separate(named)
    assert str(caught.value).startswith(
        f"2 of 3 samples of data:test are also in data:{name} (test rows 1, 2)"
    )
    assert (
        caught.value.hint
        == "split the data so that training, calibration, selection and test share no sample"
    )


def test_leakage_between_sets_other_than_test_is_an_error_too() -> None:
    with pytest.raises(BuildError, match=r"1 of 1 samples of data:selection are also in data:training"):
        check_separate(sets(training=[1], calibration=[2], selection=[1], test=[3]))


def test_everything_that_leaks_is_told_at_once() -> None:
    with pytest.raises(
        BuildError, match=r"also in data:calibration .*; 1 of 2 samples of data:test are also in"
    ):
        check_separate(sets(calibration=[1], selection=[1], test=[1, 2]))


def test_of_many_rows_the_first_are_told() -> None:
    with pytest.raises(BuildError, match=r"9 of 9 .*\(test rows 0, 1, 2, 3, 4, …\)"):
        check_separate(sets(calibration=list(range(9)), test=list(range(9))))


def test_a_sample_is_all_of_its_inputs() -> None:
    one, other = samples("calibration", [1]), samples("test", [1])
    other.inputs["y"][0, 2] = 1  # type: ignore[index]
    assert check_separate({"calibration": one, "test": other}).duplicates == {"calibration": 0, "test": 0}


def test_duplicates_inside_a_set_are_counted_and_allowed() -> None:
    found = check_separate(sets(calibration=[1, 1, 1], test=[2, 3, 2]))
    assert found.duplicates == {"calibration": 2, "test": 1}


def test_equal_samples_with_two_targets_are_refused_where_targets_decide_a_figure() -> None:
    contradiction = samples("test", [5, 6, 5], [0, 1, 1])
    with pytest.raises(
        BuildError, match="data:test: rows 0 and 2 are the same sample with two targets, 0 and 1"
    ):
        check_separate({"test": contradiction})
    assert check_separate({"calibration": contradiction}).duplicates == {"calibration": 1}
    assert check_separate({"test": contradiction}, judged=False).duplicates == {"test": 1}


@given(
    some.lists(some.integers(0, 30), min_size=1, max_size=20), some.lists(some.integers(0, 30), min_size=1)
)
def test_what_two_sets_share_is_found_exactly(one: list[int], other: list[int]) -> None:
    named = sets(calibration=one, test=other)
    shared = [row for row, value in enumerate(other) if value in one]
    if not shared:
        check_separate(named)
        return
    with pytest.raises(BuildError, match=f"^{len(shared)} of {len(other)} samples of data:test"):
        check_separate(named)
