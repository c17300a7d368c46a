"""JSON from strangers: what is refused that Python's own reader takes."""

from __future__ import annotations

import pytest

from edgewright_agent.transport.document import parse_json


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (r'{"a": "\ud800"}', "half of a surrogate pair"),
        (r'{"\udc00": 1}', "half of a surrogate pair"),
        ('{"a": 1, "a": 2}', "a key appears twice"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ("[" * 33 + "]" * 33, "nested more than 32 levels deep"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_two_readers_could_read_differently_or_none_could_write_is_refused(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=f"^it .*{told}"):
        parse_json(text.encode(), "it")


def test_a_whole_surrogate_pair_is_a_character_like_any_other() -> None:
    assert parse_json(rb'{"a": "\ud83d\ude00 \u00fc"}', "it") == {"a": "😀 ü"}
