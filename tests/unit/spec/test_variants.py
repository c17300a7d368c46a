"""Rules of variants, and of a model that is an ONNX file."""

from __future__ import annotations

import pytest

from edgewright.spec.load import load_fleet
from edgewright.spec.problem import InvalidSpec
from unit.spec.conftest import MODEL, Repository

READER = "models/reader/model.yaml"
ZEROS = "0" * 64
TRAIN = "train: {entry: 'train:finetune'}"
PIN = f'checkpoint: {{path: small.onnx, sha256: "{ZEROS}"}}'


@pytest.fixture
def variants(repository: Repository) -> Repository:
    """A repository whose model may declare variants: it names its training data and has code for them."""
    repository.edit(READER, "data: {calibration:", 'data: {training: "data:training", calibration:')
    repository.write(
        "models/reader/data.py",
        "def training(): ...\ndef calibration(): ...\ndef selection(): ...\ndef test(): ...\n",
    )
    repository.write("models/reader/train.py", "def finetune(network, seed): ...\n")
    repository.write("models/reader/small.onnx", "a model")
    return repository


def declare(repository: Repository, *items: str) -> None:
    repository.append(
        READER, "optimization:\n  variants:\n" + "".join(f"    - {{{item}}}\n" for item in items)
    )


def problems(repository: Repository) -> list[str]:
    with pytest.raises(InvalidSpec) as caught:
        load_fleet(repository.root)
    return [f"{problem.message}; {problem.suggestion}".rstrip("; ") for problem in caught.value.problems]


def test_variants_of_every_recipe_are_accepted(variants: Repository) -> None:
    declare(
        variants,
        f"name: half, recipe: prune, ratio: 50%, {TRAIN}",
        f"name: sparse, recipe: sparsify, ratio: 80%, {TRAIN}",
        f"name: taught, recipe: distill, student: {{factory: 'network:build'}}, {TRAIN}",
        f"name: ready, recipe: qat, {TRAIN}",
        f"name: small, recipe: prune, {PIN}",
        f"name: again, recipe: prune, ratio: 30%, {TRAIN}, {PIN}",
    )
    found = load_fleet(variants.root).models["reader"].optimization.variants
    assert [variant.name for variant in found] == ["half", "sparse", "taught", "ready", "small", "again"]
    assert found[0].ratio == 50.0


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (
            f"name: a, recipe: prune, {TRAIN}",
            "'ratio' is missing: the share of channels to remove; add ratio: 50%",
        ),
        (
            f"name: a, recipe: sparsify, {TRAIN}",
            "'ratio' is missing: the share of weights set to zero; add ratio: 50%",
        ),
        (f"name: a, recipe: prune, ratio: 96%, {TRAIN}", "must be 1% to 95%, not 96%"),
        (f"name: a, recipe: prune, ratio: 0.5%, {TRAIN}", "must be 1% to 95%, not 0.5%"),
        (f"name: a, recipe: qat, ratio: 50%, {TRAIN}", "'ratio' has no effect with qat; remove it"),
        (
            f"name: a, recipe: distill, {TRAIN}",
            "'student' is missing: what builds the network to teach; add student: {factory: network:small}",
        ),
        (
            f"name: a, recipe: qat, student: {{factory: 'network:build'}}, {TRAIN}",
            "'student' has no effect with qat; remove it",
        ),
        (
            "name: a, recipe: qat",
            "neither 'train' nor 'checkpoint'; name the entry that tunes it: train: {entry: train:finetune}",
        ),
        (
            f"name: static-int8, recipe: qat, {TRAIN}",
            "'static-int8' is what a recipe is called; say what it is: static-int8-1, small, taught",
        ),
        (
            f"name: prune, recipe: qat, {TRAIN}",
            "'prune' is what a recipe is called; say what it is: prune-1, small, taught",
        ),
        (
            f"name: a, recipe: qat, {PIN.replace('small', 'smal')}",
            "there is no file models/reader/smal.onnx; did you mean 'small.onnx'?",
        ),
        (
            f"name: a, recipe: qat, {PIN.replace('small.onnx', 'weights.safetensors')}",
            "a variant is pinned as a whole model, an .onnx file; edgewright variants reader --write makes it",
        ),
        (
            f"name: a, recipe: qat, checkpoint: {{sha256: '{ZEROS}'}}",
            "neither 'path' nor 'uri'; add one of them",
        ),
        (
            "name: a, recipe: qat, train: {entry: 'train:finetun'}",
            "models/reader/train.py has no 'finetun'; did you mean 'finetune'?",
        ),
    ],
)
def test_a_wrong_variant_says_what_is_wrong(variants: Repository, item: str, message: str) -> None:
    declare(variants, item)
    assert problems(variants) == [message]


def test_names_are_used_once(variants: Repository) -> None:
    declare(variants, f"name: a, recipe: qat, {TRAIN}", f"name: a, recipe: prune, ratio: 50%, {TRAIN}")
    assert problems(variants) == ["'a' is already variant 0"]


def test_variants_that_train_name_the_data_they_train_on(repository: Repository) -> None:
    repository.write("models/reader/train.py", "def finetune(network, seed): ...\n")
    declare(repository, f"name: a, recipe: qat, {TRAIN}")
    assert problems(repository) == [
        "'training' is missing: variants are trained on it, and no other set may hold its samples;"
        " add training: data:training"
    ]


# A whole model as checkpoint


@pytest.fixture
def whole(repository: Repository) -> Repository:
    """A repository whose model is an ONNX file."""
    repository.edit(READER, 'network: {factory: "network:build"}\n', "")
    repository.edit(READER, "weights.safetensors", "detector.onnx")
    repository.write("models/reader/detector.onnx", "a model")
    repository.write("models/reader/small.onnx", "another model")
    return repository


def test_a_model_may_be_an_onnx_file(whole: Repository) -> None:
    model = load_fleet(whole.root).models["reader"]
    assert model.network is None
    assert model.checkpoint is not None
    assert model.checkpoint.path == "detector.onnx"


def test_an_onnx_file_behind_an_address_is_one_as_well(whole: Repository) -> None:
    whole.edit(READER, "path: detector.onnx", "uri: https://models.example/detector.onnx?version=3")
    assert load_fleet(whole.root).models["reader"].network is None


def test_a_model_that_is_a_file_may_have_pinned_variants_only(whole: Repository) -> None:
    declare(whole, f"name: a, recipe: prune, {PIN}")
    assert load_fleet(whole.root).models["reader"].optimization.variants[0].name == "a"
    whole.write("models/reader/train.py", "def finetune(network, seed): ...\n")
    whole.append(READER, f"    - {{name: b, recipe: prune, ratio: 50%, {TRAIN}}}\n")
    assert "there is no 'network' that this variant could be trained from" in " ".join(problems(whole))


def test_weights_need_a_network(repository: Repository) -> None:
    repository.edit(READER, 'network: {factory: "network:build"}\n', "")
    assert problems(repository) == [
        "without 'network' the checkpoint must be a whole model, an .onnx file; add network, or name an .onnx file"
    ]


def test_a_whole_model_needs_no_network(repository: Repository) -> None:
    repository.edit(READER, "weights.safetensors", "detector.onnx")
    repository.write("models/reader/detector.onnx", "a model")
    assert problems(repository) == [
        "an .onnx checkpoint is a whole model, so 'network' has no effect;"
        " remove network, or name a .safetensors file"
    ]


def test_training_needs_a_network(repository: Repository) -> None:
    start, end = MODEL.index("network:"), MODEL.index("signature:")
    repository.write(READER, f"{MODEL[:start]}train: {{entry: 'train:finetune'}}\n{MODEL[end:]}")
    repository.write("models/reader/train.py", "def finetune(network, seed): ...\n")
    assert problems(repository) == ["there is no 'network' to train; add network"]
