"""What a model may declare as its safe output, and what a sheet may reserve."""

from __future__ import annotations

import pytest

from edgewright.plan.lane import StepId
from edgewright.plan.slices import optimized
from edgewright.spec.load import load_fleet
from edgewright.spec.problem import InvalidSpec
from edgewright.trust.assignment import policies_of
from unit.spec.conftest import Repository


def declared(repository: Repository, text: str) -> str:
    """Declare a safe output; return what is then said about it, empty when nothing is."""
    repository.append("models/reader/model.yaml", f"safeOutput: {text}\n")
    try:
        load_fleet(repository.root)
    except InvalidSpec as error:
        return error.render()
    return ""


def slice_of(repository: Repository) -> object:
    step = StepId("optimized", "reader", "board")
    return optimized(load_fleet(repository.root), step).get("safeOutput")


@pytest.mark.parametrize(
    ("text", "planned"),
    [
        ("{kind: no-decision}", None),
        ("{kind: hold-last, maxAge: 5s}", {"kind": "hold-last", "maxAge": 5.0}),
        ("{kind: constant, outputs: {logits: [0, 1]}}", {"kind": "constant", "outputs": {"logits": [0, 1]}}),
    ],
)
def test_a_model_may_declare_it_and_only_what_changes_something_changes_the_artifact(
    repository: Repository, text: str, planned: object
) -> None:
    assert slice_of(repository) is None
    assert declared(repository, text) == ""
    assert slice_of(repository) == planned


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{kind: constant}", "'outputs' is missing"),
        ("{kind: hold-last}", "'maxAge' is missing"),
        ("{kind: no-decision, maxAge: 5s}", "'maxAge' has no effect with no-decision"),
        ("{kind: hold-last, maxAge: 5s, outputs: {logits: [0, 1]}}", "'outputs' has no effect"),
        ("{kind: hold-last, maxAge: 5}", "needs a unit"),
        ("{kind: guess}", "guess"),
        ("{kind: constant, outputs: {logit: [0, 1]}}", "the signature has no output 'logit'"),
        ("{kind: constant, outputs: {logit: [0, 1]}}", "output 'logits' is missing"),
        (
            "{kind: constant, outputs: {logits: [0, 1, 2]}}",
            "'logits' is [2] for one sample, this is of shape [3]",
        ),
        ("{kind: constant, outputs: {logits: [[0, 1]]}}", "this is of shape [1, 2]"),
        ("{kind: constant, outputs: {logits: [0, [1]]}}", "this is no regular nested list"),
        ("{kind: constant, outputs: {logits: 1}}", "this is of shape []"),
        ("{kind: constant, outputs: {logits: []}}", "this is no regular nested list"),
        ("{kind: constant, outputs: {logits: [0, yes]}}", "is no number"),
        ("{kind: constant, outputs: {logits: [0, 1.0e+39]}}", "is beyond it"),
        ("{kind: constant, outputs: {logits: [1, 1]}}", "'logits' names no label: 2 values are the largest"),
    ],
)
def test_what_is_no_answer_of_the_model_is_an_error_with_its_place(
    repository: Repository, text: str, message: str
) -> None:
    said = declared(repository, text)
    assert message in said
    assert "models/reader/model.yaml:17:" in said


def test_whole_outputs_take_whole_numbers_of_their_range(repository: Repository) -> None:
    repository.edit(
        "models/reader/model.yaml",
        "    - {name: logits, shape: [batch, 2]}\n",
        "    - {name: logits, shape: [batch, 2]}\n    - {name: count, dtype: uint8, shape: [batch]}\n",
    )
    assert "'count' is uint8, and 256 is none" in declared(
        repository, "{kind: constant, outputs: {logits: [0, 1], count: 256}}"
    )


def test_inodes_may_be_reserved_and_devices_are_told_so_signed(repository: Repository) -> None:
    sheet = load_fleet(repository.root).hardware["board"]
    assert "inodeReserve" not in policies_of(sheet)["updatePolicy"], "an older sheet signs the same document"
    repository.edit("hardware/board.yaml", "diskReserve: 1GB", "diskReserve: 1GB\n  inodeReserve: 500")
    sheet = load_fleet(repository.root).hardware["board"]
    assert policies_of(sheet)["updatePolicy"]["inodeReserve"] == 500
