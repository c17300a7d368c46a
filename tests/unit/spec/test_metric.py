from __future__ import annotations

import pytest

from edgewright.spec.limits import effective_metric
from edgewright.spec.load import load_fleet

from .conftest import Repository, only, problems_of

MODEL = "models/reader/model.yaml"
LABELS = 'labels: ["0", "1"]\n'


def measured_by(repository: Repository, name: str, shape: str, rest: str = "") -> None:
    """Give the model a metric and a first output; labels go."""
    repository.edit(MODEL, LABELS, "")
    repository.edit(MODEL, "shape: [batch, 2]", f"shape: {shape}")
    repository.edit(
        MODEL,
        "metric: {floor: 0.9, maxDrop: 0.01",
        f"metric: {{name: {name}, floor: 0.9, maxDrop: 0.01{rest}",
    )


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("accuracy", "[batch, 2]"), ("auc", "[batch]"), ("auc", "[batch, 1]"), ("cosine", "[batch]"),
        ("cosine", "[batch, 384]"), ("cosine", "[batch, 16, 64]"),
    ],
)  # fmt: skip
def test_a_metric_that_suits_the_first_output_is_accepted(
    repository: Repository, name: str, shape: str
) -> None:
    measured_by(repository, name, shape)
    assert effective_metric(load_fleet(repository.root).models["reader"], "board").name == name


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        (
            "auc",
            "[batch, 2]",
            "auc needs one score per sample, and 'logits' is [batch, 2]; make the first output",
        ),
        ("auc", "[batch, 1, 1]", "auc needs one score per sample, and 'logits' is [batch, 1, 1]"),
        ("accuracy", "[batch]", "accuracy needs one score per class, and 'logits' is [batch]; write auc"),
        (
            "accuracy",
            "[batch, 1]",
            "with one class every answer is right, and 'logits' is [batch, 1]; write auc",
        ),
        ("accuracy", "[batch, 2, 8]", "accuracy needs one score per class, and 'logits' is [batch, 2, 8]"),
    ],
)
def test_a_metric_that_does_not_suit_the_first_output_is_told_at_its_name(
    repository: Repository, name: str, shape: str, message: str
) -> None:
    measured_by(repository, name, shape)
    problem = only(repository)
    assert problem.startswith(f"{MODEL}:15:16: ")
    assert message in problem


def test_cosine_needs_numbers_with_a_point(repository: Repository) -> None:
    measured_by(repository, "cosine", "[batch, 4], dtype: int64")
    assert "cosine needs a vector of float32, and 'logits' is int64" in only(repository)


@pytest.mark.parametrize("name", ["auc", "cosine"])
def test_labels_and_their_limit_belong_to_accuracy(repository: Repository, name: str) -> None:
    measured_by(repository, name, "[batch, 1]", ", maxLabelDrop: 0.1")
    repository.append(
        MODEL, f"{LABELS[:-7]}]\noverrides: [{{hardwareClass: board, metric: {{maxLabelDrop: 0.2}}}}]\n"
    )
    problems = [problem.partition(": ")[2] for problem in problems_of(repository)]
    assert sorted(problems) == [
        f"'labels' has no effect with {name}; remove it",
        f"'maxLabelDrop' has no effect with {name}; remove it",
        f"'maxLabelDrop' has no effect with {name}; remove it",
    ]


@pytest.mark.parametrize("value", ["-0.1", "1.1", "none"])
def test_a_limit_on_labels_is_a_share(repository: Repository, value: str) -> None:
    repository.edit(MODEL, "maxDrop: 0.01", f"maxDrop: 0.01, maxLabelDrop: {value}")
    assert "maxLabelDrop" in only(repository) or "must be" in only(repository)
