from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from edgewright.cli.train import command
from edgewright.errors import EnvironmentFault, SpecError
from edgewright.spec.problem import InvalidSpec
from unit.build.tiny import Repository

MODEL = """\
version: 1
modelVersion: 1.0.0
description: Tiny.
license: Apache-2.0
network:
  factory: network:build
  arguments: {width: 8}
checkpoint:
  path: weights.safetensors # kept beside this file
  sha256: "%s" # of that file
signature:
  inputs: [{name: point, dtype: float32, shape: [batch, 4]}]
  outputs: [{name: logits, dtype: float32, shape: [batch, 3]}]
labels: [red, green, blue]
data: {calibration: data:calibration, selection: data:calibration, test: data:test}
metric: {name: accuracy, floor: 0.5, maxDrop: 0.1}
"""


@pytest.fixture
def model(repository: Repository) -> Path:
    (repository.root / "fleet.yaml").write_text("version: 1\n")
    train = repository.folder / "train.py"
    train.write_text(train.read_text().replace("seed, steps", "seed, steps=60"))
    path = repository.folder / "model.yaml"
    path.write_text(MODEL % ("0" * 64))
    return path


def ran(repository: Repository, *args: str) -> str:
    result = CliRunner().invoke(
        command, ["--root", str(repository.root), *args], catch_exceptions=False, standalone_mode=False
    )
    return result.output


def digest_of_weights(repository: Repository) -> str:
    return hashlib.sha256((repository.folder / "weights.safetensors").read_bytes()).hexdigest()


def test_train_says_what_the_weights_are_worth_and_touches_nothing(
    repository: Repository, model: Path
) -> None:
    (repository.folder / "weights.safetensors").write_bytes(b"the shipped ones")
    output = ran(repository, "tiny", "--seed", "4")
    assert "on 90 held-out samples" in output
    assert "nothing was written" in output
    assert (repository.folder / "weights.safetensors").read_bytes() == b"the shipped ones"
    assert model.read_text() == MODEL % ("0" * 64)


def test_with_write_the_weights_and_their_digest_change_and_nothing_else_in_the_yaml(
    repository: Repository, model: Path
) -> None:
    output = ran(repository, "tiny", "--write")
    assert digest_of_weights(repository) in output
    assert model.read_text() == MODEL % digest_of_weights(repository)


def test_training_again_gives_the_same_file(repository: Repository, model: Path) -> None:
    ran(repository, "tiny", "--write")
    first = digest_of_weights(repository)
    ran(repository, "tiny", "--write")
    assert digest_of_weights(repository) == first


def test_a_model_the_pipeline_trains_is_only_tried(repository: Repository, model: Path) -> None:
    head, tail = (MODEL % "").split("checkpoint:")[0], (MODEL % "").split("that file\n")[1]
    model.write_text(f"{head}train: {{entry: train:fit, arguments: {{steps: 5}}}}\n{tail}")
    assert "nothing was written" in ran(repository, "tiny")
    assert not (repository.folder / "weights.safetensors").exists()


def test_an_unknown_model_is_answered_with_those_there_are(repository: Repository, model: Path) -> None:
    with pytest.raises(SpecError, match="there is no model 'tinny'") as caught:
        ran(repository, "tinny")
    assert caught.value.hint == "models here: tiny"


def test_a_broken_yaml_is_shown_with_its_place(repository: Repository, model: Path) -> None:
    model.write_text((MODEL % ("0" * 64)).replace("license:", "licence:"))
    with pytest.raises(InvalidSpec, match=r"models/tiny/model\.yaml:4:1"):
        ran(repository, "tiny")


@pytest.mark.parametrize(
    "path", ["../../fleet.yaml", "../other/weights.safetensors", "/tmp/weights.safetensors"]
)
def test_weights_are_never_written_outside_the_models_folder(
    repository: Repository, model: Path, path: str
) -> None:
    model.write_text((MODEL % ("0" * 64)).replace("path: weights.safetensors", f"path: {path}"))
    with pytest.raises(SpecError, match="leaves the model's folder"):
        ran(repository, "tiny", "--write")
    assert (repository.root / "fleet.yaml").read_text() == "version: 1\n"


def test_a_disk_that_fills_up_leaves_the_old_weights_and_their_digest(
    repository: Repository, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository.folder / "weights.safetensors").write_bytes(b"the shipped ones")

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EnvironmentFault, match="no space left"):
        ran(repository, "tiny", "--write")
    assert (repository.folder / "weights.safetensors").read_bytes() == b"the shipped ones"
    assert model.read_text() == MODEL % ("0" * 64)


@pytest.mark.parametrize("seed", ["-1", "99999999999999999999"])
def test_a_seed_no_generator_takes_is_a_usage_error(repository: Repository, model: Path, seed: str) -> None:
    with pytest.raises(click.UsageError, match="not in the range"):
        ran(repository, "tiny", "--seed", seed)
