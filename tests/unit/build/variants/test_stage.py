"""The stage `variants`: what it writes, the same on every machine that trains with the same instructions."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgewright.build.canonical import canonical, to_bytes
from edgewright.build.samples import Network
from edgewright.build.variants.derive import derive
from edgewright.build.variants.origin import Origin
from edgewright.errors import BuildError
from unit.build.onnx_files import made
from unit.build.tiny import CODE, Repository
from unit.build.variants.origins import RUN
from unit.build.variants.test_prune import RECURRENT

DECLARED: dict[str, dict[str, Any]] = {
    "prune": {"name": "half", "recipe": "prune", "ratio": 50.0, "train": RUN},
    "sparsify": {"name": "sparse", "recipe": "sparsify", "ratio": 80.0, "train": RUN},
    "distill": {"name": "taught", "recipe": "distill", "student": {"factory": "network:small"}, "train": RUN},
    "qat": {"name": "ready", "recipe": "qat", "train": RUN},
}
SCRIPT = """
import hashlib, json, sys
from pathlib import Path
from edgewright.build.variants.derive import derive
from unit.build.variants.origins import origin
from unit.build.variants.test_stage import DECLARED
made = origin(Path(sys.argv[1]) / "models" / "signals")
print(json.dumps({
    name: [hashlib.sha256(found.model).hexdigest(), found.facts]
    for name, variant in DECLARED.items() for found in [derive(made, variant)]
}))
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Mapping[str, Any]]]:
    """Every recipe's digest and facts from two processes that share neither seed, threads, folder nor time zone."""
    found = []
    for seed, threads, zone in (("0", "1", "UTC"), ("4711", "2", "Asia/Tokyo")):
        place = tmp_path_factory.mktemp(f"place-{seed}") / ("deeper" if seed == "0" else "")
        place.mkdir(exist_ok=True)
        environment = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "TZ": zone,
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        ran = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(place)],
            env=environment,
            cwd=place,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        found.append(json.loads(ran.stdout.splitlines()[-1]))
    yield found


@pytest.mark.parametrize("recipe", DECLARED)
def test_another_process_seed_thread_count_folder_and_time_zone_give_the_same_variant(
    elsewhere: list[Mapping[str, Any]], recipe: str
) -> None:
    first, second = (process[recipe] for process in elsewhere)
    assert first == second


@pytest.mark.parametrize("recipe", ["prune", "qat"])
def test_a_variant_is_a_canonical_model_of_the_same_signature(convolutions: Origin, recipe: str) -> None:
    found = derive(convolutions, DECLARED[recipe])
    assert found.model is not None
    model = onnx.load_model_from_string(found.model)
    assert to_bytes(canonical(model)) == found.model
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["signal", "logits"]
    assert found.facts["sha256"] == hashlib.sha256(found.model).hexdigest()
    assert found.facts["metric"] == {
        "name": "accuracy",
        "value": convolutions.score(_Onnx(found.model)),
        "fp32": convolutions.fp32,
        "samples": 90,
    }


class _Onnx:
    """An ONNX model that is called like the network it came from."""

    def __init__(self, model: bytes) -> None:
        self._network = Network(model)

    def __call__(self, signal: Any) -> Any:
        import torch

        return torch.from_numpy(self._network.run({"signal": signal.numpy()})["logits"])


def test_pruning_under_a_metric_of_vectors_is_judged_against_fp32(tmp_path: Path) -> None:
    from unit.build.variants.origins import origin

    made = origin(tmp_path / "models" / "signals", metric="cosine")
    found = derive(made, DECLARED["prune"])
    assert found.facts["metric"]["fp32"] == 1.0
    assert 0.5 < found.facts["metric"]["value"] < 1.0


def test_training_that_diverges_names_the_tensors(convolutions: Origin) -> None:
    with pytest.raises(BuildError, match=r"train:fit leaves NaN or infinity in 0\.weight"):
        derive(convolutions, {**DECLARED["prune"], "train": {**RUN, "arguments": {"rate": float("inf")}}})


def test_a_recipe_that_does_not_apply_says_why_and_gives_no_model(tmp_path: Path) -> None:
    from unit.build.variants.origins import origin

    found = derive(origin(tmp_path / "models" / "signals", RECURRENT), DECLARED["prune"])
    assert found.model is None
    assert set(found.facts) == {"name", "recipe", "reason"}


def test_a_variant_neither_pinned_nor_trained_is_refused(convolutions: Origin) -> None:
    with pytest.raises(BuildError, match="variant 'half' is neither pinned nor trained"):
        derive(convolutions, {"name": "half", "recipe": "prune", "ratio": 50.0})


# The stage in a repository: `tiny`, two linear layers


HALF = {
    "name": "half",
    "recipe": "prune",
    "ratio": 50.0,
    "train": {"entry": "train:fit", "arguments": {"steps": 20}},
}


@pytest.fixture
def trained(exported: Repository) -> Repository:
    """The repository after its checkpoint."""
    return exported


def document(made: Mapping[str, Path]) -> list[dict[str, Any]]:
    written = json.loads(made["variants.json"].read_bytes())
    assert written["version"] == 1
    return list(written["variants"])


def test_without_variants_the_stage_needs_nothing(repository: Repository) -> None:
    made = repository.run("variants", variants=[])
    assert set(made) == {"variants.json"}
    assert document(made) == []


def test_a_variant_is_trained_in_the_stage_and_told(trained: Repository) -> None:
    made = trained.run("variants", variants=[HALF])
    (entry,) = document(made)
    assert set(made) == {"variants.json", "half.onnx"}
    assert entry["sha256"] == hashlib.sha256(made["half.onnx"].read_bytes()).hexdigest()
    assert entry["sizeBytes"] == made["half.onnx"].stat().st_size
    assert entry["parameters"] == 4 * 4 + 4 + 4 * 3 + 3
    assert entry["source"] == "trained by train:fit, seed 0"
    assert entry["metric"]["value"] > 0.9
    assert trained.result.facts["variants"] == 1
    assert trained.result.facts["training_seconds"] >= 0


def pin(repository: Repository, data: bytes, name: str = "half.onnx") -> dict[str, Any]:
    (repository.folder / name).write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    return {"name": "half", "recipe": "prune", "ratio": 50.0, "checkpoint": {"path": name, "sha256": digest}}


def test_a_pinned_variant_comes_out_as_it_was_trained_with_what_was_noted(trained: Repository) -> None:
    first = trained.run("variants", variants=[HALF])
    data = first["half.onnx"].read_bytes()
    (trained.folder / "variants.json").write_bytes(first["variants.json"].read_bytes())
    second = trained.run("variants", variants=[pin(trained, data)], data=None)
    assert second["half.onnx"].read_bytes() == data
    (before,), (after,) = document(first), document(second)
    assert after.pop("pinned") is True
    assert after.pop("source") == "models/tiny/half.onnx"
    assert before.pop("source")
    assert after == before


def test_a_note_about_another_file_is_not_believed(trained: Repository) -> None:
    (trained.folder / "variants.json").write_text(
        json.dumps({"version": 1, "variants": [{"name": "half", "sha256": "0" * 64, "metric": {"value": 1}}]})
    )
    (entry,) = document(trained.run("variants", variants=[pin(trained, made().SerializeToString())]))
    assert "metric" not in entry
    assert entry["parameters"] == 67


def test_a_variant_that_was_renamed_since_it_was_noted_has_its_new_name(trained: Repository) -> None:
    variant = pin(trained, made().SerializeToString())
    note = {
        "name": "half",
        "recipe": "prune",
        "sha256": variant["checkpoint"]["sha256"],
        "metric": {"value": 1},
    }
    (trained.folder / "variants.json").write_text(json.dumps({"version": 1, "variants": [note]}))
    (entry,) = document(
        trained.run("variants", variants=[{**variant, "name": "narrow", "recipe": "distill"}])
    )
    assert (entry["name"], entry["recipe"], entry["file"]) == ("narrow", "distill", "narrow.onnx")
    assert entry["metric"] == {"value": 1}


def test_a_note_that_cannot_be_read_is_one_sentence(trained: Repository) -> None:
    (trained.folder / "variants.json").write_text("{")
    with pytest.raises(BuildError, match=r"models/tiny/variants\.json cannot be read"):
        trained.run("variants", variants=[pin(trained, made().SerializeToString())])


def test_a_pinned_file_of_other_bytes_is_refused(trained: Repository) -> None:
    variant = pin(trained, made().SerializeToString())
    (trained.folder / "half.onnx").write_bytes(b"something else")
    with pytest.raises(BuildError, match=r"models/tiny/half\.onnx has sha256"):
        trained.run("variants", variants=[variant])


def test_a_pinned_file_of_another_signature_is_refused(trained: Repository) -> None:
    variant = pin(trained, made(logits=(4,), nodes=None).SerializeToString())
    with pytest.raises(BuildError, match=r"^models/tiny/half\.onnx"):
        trained.run("variants", variants=[variant])


def test_a_pinned_file_made_elsewhere_is_brought_to_the_signature(trained: Repository) -> None:
    variant = pin(trained, made(opset=13, batch=1).SerializeToString())
    files = trained.run("variants", variants=[variant])
    (entry,) = document(files)
    assert len(entry["changes"]) == 2
    found = Network(files["half.onnx"].read_bytes()).run({"point": np.zeros((3, 4), np.float32)})
    assert found["logits"].shape == (3, 3)


def test_a_model_without_network_may_have_pinned_variants_only(repository: Repository) -> None:
    variant = pin(repository, made().SerializeToString())
    assert set(repository.run("variants", network=None, variants=[variant])) == {"variants.json", "half.onnx"}
    with pytest.raises(BuildError, match="tiny has no network that variants could be trained from"):
        repository.run("variants", network=None, variants=[HALF])


def test_a_recipe_that_does_not_apply_leaves_its_reason_in_the_document(tmp_path: Path) -> None:
    code = {**CODE, "network.py": "from torch import nn\ndef build(width):\n    return nn.Linear(4, 3)\n"}
    repository = Repository(tmp_path / "linear", code)
    repository.run("checkpoint")
    made = repository.run("variants", variants=[HALF])
    (entry,) = document(made)
    assert entry["reason"].startswith("no layer can lose channels")
    assert set(made) == {"variants.json"}
    assert repository.result.facts["half"] == entry["reason"]
