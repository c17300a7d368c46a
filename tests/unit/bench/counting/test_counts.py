from __future__ import annotations

import json

import pytest

from edgewright.bench.counting.counts import from_spans, rounds
from edgewright.bench.counting.spans import read_span
from edgewright.errors import BuildError

IMPORTED, LOADED, INFERENCE, INFERRED, ENGINE = 1, 2, 3, 4, 6


def line(mark: int | str, instructions: int, *, threads: int = 1, **kinds: int) -> str:
    return json.dumps({"mark": mark, "threads": threads, "instructions": instructions, **kinds})


def process(*inferred: int, threads: int = 1) -> list[str]:
    """What the plugin writes about one process."""
    inferences = [
        text for count in inferred for text in (line(INFERENCE, 7), line(INFERRED, count, threads=threads))
    ]
    return [line(ENGINE, 2_500_000), line(IMPORTED, 10**9), line(LOADED, 5000), *inferences, line("exit", 99)]


def test_a_line_keeps_kinds_apart_from_totals_and_bytes() -> None:
    span = read_span(line(INFERRED, 12, loads=5, scalar=7, loadBytes=40, storeBytes=8))
    assert (span.mark, span.threads) == (INFERRED, 1)
    assert span.counts.instructions == 12
    assert span.counts.kinds == {"loads": 5, "scalar": 7}
    assert (span.counts.load_bytes, span.counts.store_bytes) == (40, 8)


def test_the_end_of_the_program_is_no_mark() -> None:
    assert read_span(line("exit", 99)).mark is None


def test_load_and_inference_are_the_spans_between_their_marks() -> None:
    counts = from_spans([read_span(text) for text in process(900, 300, 310, 305)], target="some core")
    assert counts.load.instructions == 5000
    assert counts.per_inference.instructions == 300
    assert counts.target == "some core"


def test_the_first_inference_is_not_taken_for_the_cost() -> None:
    counts = from_spans([read_span(text) for text in process(200, 300, 310)], target="")
    assert counts.inferences == (300, 310)
    assert counts.per_inference.instructions == 300


def test_awakening_is_the_engine_and_the_first_inference_in_whole_millions() -> None:
    counts = from_spans([read_span(text) for text in process(900, 300)], target="")
    assert counts.awakening == 3_000_000


def test_inferences_before_counting_are_as_many_as_asked_for() -> None:
    spans = [read_span(text) for text in process(900, 100, 200, 300)]
    assert from_spans(spans, target="", warm_up=3).per_inference.instructions == 300


@pytest.mark.parametrize(
    ("size_bytes", "expected"), [(1, (6, 6)), (1_000_000, (6, 6)), (1_000_001, (6, 3)), (10**9, (2, 2))]
)
def test_a_large_model_is_run_less_often(size_bytes: int, expected: tuple[int, int]) -> None:
    assert rounds(size_bytes) == expected


def test_a_single_inference_is_better_than_none() -> None:
    assert from_spans([read_span(text) for text in process(200)], target="").per_inference.instructions == 200


def test_more_than_one_thread_is_refused_because_its_counts_mean_nothing() -> None:
    spans = [read_span(text) for text in process(900, 300, threads=2)]
    with pytest.raises(BuildError, match="some core: 2 threads ran"):
        from_spans(spans, target="some core")


@pytest.mark.parametrize("missing", [IMPORTED, LOADED, INFERENCE, INFERRED])
def test_a_mark_that_was_never_set_is_named(missing: int) -> None:
    spans = [span for span in map(read_span, process(900, 300)) if span.mark != missing]
    with pytest.raises(BuildError, match=f"never set mark {missing}"):
        from_spans(spans, target="")


def test_what_a_processor_cannot_tell_apart_is_left_out_of_the_document() -> None:
    counts = from_spans([read_span(text) for text in process(900, 300)], target="riscv64")
    assert counts.to_json()["perInference"] == {"instructions": 300}
