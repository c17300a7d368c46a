from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from edgewright.build.entry import ModelCode
from edgewright.build.variants import run as stage
from edgewright.cli.pin import pinned
from edgewright.cli.train import command as train_command
from edgewright.cli.variants import command
from edgewright.errors import SpecError
from edgewright.plan.job import Job
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
train: {entry: train:fit, seed: 3, arguments: {steps: 60}}
signature:
  inputs: [{name: point, dtype: float32, shape: [batch, 4]}]
  outputs: [{name: logits, dtype: float32, shape: [batch, 3]}]
data: {training: data:training, calibration: data:calibration, selection: data:selection, test: data:test}
metric: {name: accuracy, floor: 0.5, maxDrop: 0.1}
optimization:
  recipes: [static-int8]
  variants:
    - name: half # of the hidden layer
      recipe: prune
      ratio: 50%
      train: {entry: train:fit, arguments: {steps: 20}} # short

    # Transfer counts here.
    - {name: sparse, recipe: sparsify, ratio: 80%, train: {entry: train:fit, arguments: {steps: 20}}}
golden: {samples: 6}
"""


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A fleet with one model that declares two variants."""
    made = Repository(tmp_path / "repository")
    (made.root / "fleet.yaml").write_text("version: 1\n")
    (made.folder / "model.yaml").write_text(MODEL)
    return made


def ran(repository: Repository, *arguments: str) -> Result:
    return CliRunner().invoke(
        command,
        ["--root", str(repository.root), "tiny", *arguments],
        catch_exceptions=False,
        standalone_mode=False,
    )


def test_variants_are_compared_with_fp32_and_nothing_is_touched(repository: Repository) -> None:
    result = ran(repository)
    head, half, sparse = result.stdout.splitlines()[:3]
    assert head.split() == ["variant", "recipe", "parameters", "size", "metric", "fp32", "took"]
    assert half.split()[:3] == ["half", "prune", "35"]
    assert half.endswith("4 of 8 channels left; kept whole: 2")
    assert sparse.split()[:3] == ["sparse", "sparsify", "67"]
    assert sparse.endswith("80.4% zeros")
    assert "metric: accuracy on 90 selection samples" in result.stdout
    assert "nothing was written; `edgewright variants tiny --write`" in result.stdout
    assert "half: tuning 35 parameters with train:fit …" in result.stderr
    assert (repository.folder / "model.yaml").read_text() == MODEL
    assert not list(repository.folder.glob("*.onnx"))


def test_with_write_each_is_pinned_and_the_rest_of_the_yaml_stays(repository: Repository) -> None:
    result = ran(repository, "--write")
    digests = {
        name: hashlib.sha256((repository.folder / f"{name}.onnx").read_bytes()).hexdigest()
        for name in ("half", "sparse")
    }
    short, flow = "# short\n", "{entry: train:fit, arguments: {steps: 20}}}\n"
    expected = MODEL.replace(
        short, f'{short}      checkpoint:\n        path: half.onnx\n        sha256: "{digests["half"]}"\n'
    ).replace(flow, f'{flow[:-2]}, checkpoint: {{path: sparse.onnx, sha256: "{digests["sparse"]}"}}}}\n')
    assert (repository.folder / "model.yaml").read_text() == expected
    assert "wrote models/tiny/half.onnx" in result.stdout
    assert result.stdout.rstrip().endswith("next: git add models/tiny && edgewright run")
    notes = json.loads((repository.folder / "variants.json").read_bytes())
    assert [(note["name"], note["sha256"]) for note in notes["variants"]] == list(digests.items())
    assert "seconds" not in notes["variants"][0]


def test_what_was_written_is_what_the_pipeline_reads(repository: Repository, tmp_path: Path) -> None:
    ran(repository, "--write", "--only", "half")
    spec = yaml.safe_load((repository.folder / "model.yaml").read_text())
    (tmp_path / "out").mkdir()
    half = {**spec["optimization"]["variants"][0], "ratio": 50.0}
    job_spec = {"network": spec["network"], "signature": spec["signature"], "variants": [half]}
    stage(Job(repository.root, "tiny", None, job_spec, {}, tmp_path / "out"))
    assert (tmp_path / "out" / "half.onnx").read_bytes() == (repository.folder / "half.onnx").read_bytes()


def test_writing_twice_changes_nothing(repository: Repository) -> None:
    def written() -> dict[str, bytes]:
        return {
            path.name: path.read_bytes() for path in sorted(repository.folder.iterdir()) if path.is_file()
        }

    ran(repository, "--write")
    first = written()
    ran(repository, "--write")
    assert written() == first


def test_only_what_is_asked_for_is_made_and_notes_of_others_stay(repository: Repository) -> None:
    ran(repository, "--write")
    before = (repository.folder / "sparse.onnx").stat().st_mtime_ns
    train = repository.folder / "train.py"
    train.write_text(train.read_text().replace("lr=0.05", "lr=0.01"))
    ran(repository, "--write", "--only", "half")
    assert (repository.folder / "sparse.onnx").stat().st_mtime_ns == before
    notes = json.loads((repository.folder / "variants.json").read_bytes())["variants"]
    assert [note["name"] for note in notes] == ["half", "sparse"]
    half = hashlib.sha256((repository.folder / "half.onnx").read_bytes()).hexdigest()
    assert notes[0]["sha256"] == half
    assert half in (repository.folder / "model.yaml").read_text()


def test_json_is_for_machines_and_says_nothing_else(repository: Repository) -> None:
    result = ran(repository, "--json", "--only", "half")
    document = json.loads(result.stdout)
    assert result.stderr == ""
    (half,) = document["variants"]
    assert (document["model"], half["name"], half["recipe"]) == ("tiny", "half", "prune")
    assert half["metric"]["samples"] == 90
    assert half["seconds"] >= 0


def test_a_recipe_that_does_not_apply_is_a_row_and_no_error(repository: Repository) -> None:
    (repository.folder / "network.py").write_text(
        "from torch import nn\ndef build(width):\n    return nn.Sequential(nn.Linear(4, 3))\n"
    )
    result = ran(repository, "--only", "half", "--write")
    assert "does not apply: no layer can lose channels (0: it makes an output)" in result.stdout
    assert "nothing was written: no recipe applies" in result.stdout
    assert (repository.folder / "model.yaml").read_text() == MODEL


def edited(repository: Repository, old: str, new: str) -> None:
    assert MODEL.count(old) == 1
    (repository.folder / "model.yaml").write_text(MODEL.replace(old, new))


def test_an_unknown_variant_suggests_a_near_one(repository: Repository) -> None:
    with pytest.raises(SpecError, match="tiny has no variant 'hlaf'") as caught:
        ran(repository, "--only", "hlaf")
    assert caught.value.hint == "did you mean 'half'?"


def test_a_model_without_variants_says_where_they_go(repository: Repository) -> None:
    head, tail = MODEL.split("  variants:\n")
    (repository.folder / "model.yaml").write_text(head + tail[tail.index("golden") :])
    with pytest.raises(SpecError, match="tiny declares no variants"):
        ran(repository)


def test_what_a_recipe_lacks_is_said_with_its_line_before_anything_is_trained(repository: Repository) -> None:
    edited(repository, "      ratio: 50%\n", "")
    with pytest.raises(
        InvalidSpec, match=r"models/tiny/model\.yaml:17:.* 'ratio' is missing: the share of channels"
    ):
        ran(repository)


def test_a_variant_without_training_can_only_be_read(repository: Repository) -> None:
    pin = 'checkpoint: {path: half.onnx, sha256: "%s"}' % ("0" * 64)
    edited(repository, "train: {entry: train:fit, arguments: {steps: 20}} # short", pin)
    with pytest.raises(SpecError, match="variant 'half' of tiny has no 'train' entry: it can only be read"):
        ran(repository, "--only", "half")
    assert ran(repository).stdout.splitlines()[1].startswith("sparse")


def test_a_pin_outside_the_folder_is_never_written(repository: Repository) -> None:
    pin = '# short\n      checkpoint: {path: ../../fleet.yaml, sha256: "%s"}' % ("0" * 64)
    edited(repository, "# short", pin)
    with pytest.raises(SpecError, match="leaves the model's folder"):
        ran(repository, "--write", "--only", "half")
    assert (repository.root / "fleet.yaml").read_text() == "version: 1\n"


def test_a_model_that_is_an_onnx_file_has_nothing_to_train(repository: Repository) -> None:
    head, tail = MODEL.split("network:\n")
    _, rest = tail.split("arguments: {steps: 60}}\n")
    whole = 'checkpoint: {path: tiny.onnx, sha256: "%s"}\n' % ("0" * 64)
    (repository.folder / "model.yaml").write_text(head + whole + rest)
    with pytest.raises(SpecError, match="tiny has no network that variants could be trained from"):
        ran(repository)
    with pytest.raises(SpecError, match="its checkpoint is a whole ONNX model, which nothing here can train"):
        CliRunner().invoke(
            train_command,
            ["--root", str(repository.root), "tiny"],
            catch_exceptions=False,
            standalone_mode=False,
        )


def test_the_code_beside_the_yaml_is_what_runs(repository: Repository) -> None:
    assert ModelCode(repository.folder).call("network:build", 8) is not None


# The edit of the YAML alone

DIGEST = "ab" * 32
BLOCK = """\
optimization:
  variants:
  - name: a   # first
    recipe: prune
    train:
      entry: train:fit
      arguments:
        steps: 3   # few
# about the second
  - name: b
    recipe: qat
    checkpoint:
      sha256: '%s'   # old
      path: kept/b.onnx
metric: {}
""" % ("0" * 64)


def test_a_pin_goes_below_the_last_line_of_its_variant_and_above_comments_of_the_next() -> None:
    lines = ["    checkpoint:", "      path: a.onnx", f'      sha256: "{DIGEST}"', "# about the second"]
    assert pinned(BLOCK, 0, "a.onnx", DIGEST) == BLOCK.replace("# about the second", "\n".join(lines))


def test_a_digest_is_replaced_where_it_stands_whatever_the_order_and_quotes() -> None:
    assert pinned(BLOCK, 1, "b.onnx", DIGEST) == BLOCK.replace(f"'{'0' * 64}'", f'"{DIGEST}"')


def test_a_file_that_ends_without_a_line_break_and_one_of_windows_are_extended() -> None:
    text = "optimization:\n  variants:\n    - name: a"
    added = f'      checkpoint:\n        path: a.onnx\n        sha256: "{DIGEST}"\n'
    assert pinned(text, 0, "a.onnx", DIGEST) == f"{text}\n{added}"
    windows = f"{text}\n".replace("\n", "\r\n")
    assert pinned(windows, 0, "a.onnx", DIGEST) == windows + added.replace("\n", "\r\n")


@pytest.mark.parametrize(
    "item", ["{name: a}", "{name: a,}", "{ name: a }", "{name: a,\n     recipe: qat\n    }"]
)
def test_a_flow_mapping_gets_a_flow_pin(item: str) -> None:
    result = pinned(f"optimization:\n  variants:\n    - {item} # why\nmetric: 1\n", 0, "a.onnx", DIGEST)
    (entry,) = yaml.safe_load(result)["optimization"]["variants"]
    assert entry["checkpoint"] == {"path": "a.onnx", "sha256": DIGEST}
    assert result.endswith("} # why\nmetric: 1\n")


def test_a_layout_that_cannot_be_extended_is_shown_what_to_write() -> None:
    text = "optimization:\n  variants:\n    - &v {name: a}\n    - *v\n"
    with pytest.raises(SpecError, match="layout of variant 'a' cannot be extended") as caught:
        pinned(text, 1, "a.onnx", DIGEST)
    assert DIGEST in str(caught.value.hint)
