from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.spec.quantity import (
    BITS_PER_SECOND,
    BYTES,
    BYTES_PER_SECOND,
    CELSIUS,
    COUNT,
    MEGAHERTZ,
    MILLISECONDS,
    PERCENT,
    SECONDS,
    WATTS,
    Quantity,
)

ALL = [
    BYTES,
    MILLISECONDS,
    SECONDS,
    BYTES_PER_SECOND,
    BITS_PER_SECOND,
    MEGAHERTZ,
    WATTS,
    CELSIUS,
    PERCENT,
    COUNT,
]


@pytest.mark.parametrize(
    ("quantity", "text", "value"),
    [
        (BYTES, "4GiB", 4 * 2**30),
        (BYTES, "20MB", 20_000_000),
        (BYTES, "64kB", 64_000),
        (BYTES, "1.1MB", 1_100_000),
        (BYTES, "0B", 0),
        (MILLISECONDS, "30ms", 30.0),
        (MILLISECONDS, "1.5s", 1500.0),
        (MILLISECONDS, "250us", 0.25),
        (SECONDS, "15m", 900.0),
        (SECONDS, "7d", 604_800.0),
        (SECONDS, "30s", 30.0),
        (BYTES_PER_SECOND, "90MB/s", 90_000_000),
        (BITS_PER_SECOND, "10Mbit/s", 10_000_000),
        (MEGAHERTZ, "1.5GHz", 1500.0),
        (WATTS, "15W", 15.0),
        (CELSIUS, "85C", 85.0),
        (CELSIUS, "85°C", 85.0),
        (CELSIUS, "-20C", -20.0),
        (PERCENT, "20%", 20.0),
        (COUNT, "2.5M", 2_500_000),
        (COUNT, "1.001k", 1001),
        (COUNT, "345108", 345_108),
        (COUNT, "12G", 12_000_000_000),
    ],
)
def test_a_number_with_its_unit_becomes_the_base_unit(quantity: Quantity, text: str, value: float) -> None:
    parsed = quantity.parse(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("quantity", "value", "message"),
    [
        (MILLISECONDS, 30, "a duration needs a unit: write 30ms"),
        (MILLISECONDS, "30", "a duration needs a unit: write 30ms"),
        (MILLISECONDS, 1.5, "a duration needs a unit: write 1.5ms"),
        (BYTES, 64, "a size needs a unit: write 64MiB"),
        (BYTES, 4294967296, "a size needs a unit: write 4294967296B"),
        (MILLISECONDS, "30 ms", "30 ms is not a duration: write 30ms"),
        (MILLISECONDS, "30MS", "30MS is not a duration: write 30ms"),
        (SECONDS, "5min", "5min is not a duration: write 5m"),
        (BYTES, "4G", "4G is not a size: write 4GB or 4GiB"),
        (BYTES, "4KB", "4KB is not a size: write 4kB"),
        (BITS_PER_SECOND, "10Mbps", "10Mbps is not a bit rate: write 10Mbit/s"),
        (
            BYTES,
            "4 bananas",
            "unknown unit 'bananas' of a size; units are B, kB, KiB, MB, MiB, GB, GiB, TB, TiB",
        ),
        (MILLISECONDS, "-5ms", "a duration has no sign: write 5ms"),
        (MILLISECONDS, "0ms", "must be more than nothing, such as 30ms"),
        (PERCENT, "120%", "must be at most 100%"),
        (BYTES, "0.3B", "must come to a whole number of B"),
        (BYTES, "much", "must be a size: a number and a unit, such as 256MiB"),
        (BYTES, None, "must be a size such as 256MiB"),
        (BYTES, True, "must be a size such as 256MiB"),
        (BYTES, [1], "must be a size such as 256MiB"),
        (COUNT, "2.5 M", "2.5 M is not a count: write 2.5M"),
        (COUNT, "2.5m", "2.5m is not a count: write 2.5M"),
        (COUNT, "2bn", "2bn is not a count: write 2G"),
        (COUNT, "7 ", "7  is not a count: write 7"),
        (COUNT, "2.5Q", "unknown unit 'Q' of a count; units are k, M, G, T"),
        (COUNT, 2.5, "must come to a whole number"),
        (COUNT, 0, "must be more than nothing, such as 2.5M"),
        (COUNT, -5, "a count has no sign: write 5"),
        (COUNT, "many", "must be a count: a number, alone or with a unit, such as 2.5M"),
        (COUNT, True, "must be a count such as 2.5M"),
    ],
)
def test_anything_else_says_what_would_be_right(quantity: Quantity, value: object, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        quantity.parse(value)


@pytest.mark.parametrize("quantity", ALL)
def test_the_editor_pattern_accepts_what_the_parser_accepts(quantity: Quantity) -> None:
    for text in quantity.examples:
        quantity.parse(text)
        assert re.search(quantity.pattern, text)
    for unit in quantity.units:
        assert re.search(quantity.pattern, f"3{unit}")
    assert bool(re.search(quantity.pattern, "3")) == ("" in quantity.units)


@pytest.mark.parametrize("number", [1, 1001, 345_108, 2_500_000.0])
def test_what_is_only_counted_may_be_a_bare_number(number: float) -> None:
    assert COUNT.parse(number) == int(number)


@given(st.sampled_from(ALL), st.integers(1, 10**6))
def test_what_is_formatted_is_parsed_back(quantity: Quantity, number: int) -> None:
    if quantity.maximum is None or number <= quantity.maximum:
        assert quantity.parse(quantity.format(number)) == number


@given(st.sampled_from(ALL), st.text(max_size=40) | st.floats() | st.integers() | st.none() | st.booleans())
def test_no_input_gives_anything_but_a_number_or_a_sentence(quantity: Quantity, value: object) -> None:
    try:
        assert isinstance(quantity.parse(value), int | float)
    except ValueError as error:
        assert str(error)
