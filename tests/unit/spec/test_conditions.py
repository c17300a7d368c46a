"""What a model may say about worse inputs, and what is said when it makes no sense."""

from __future__ import annotations

import pytest

from edgewright.plan.slices import dump
from edgewright.spec.checks import checks_of
from edgewright.spec.explain import explain
from edgewright.spec.limits import CHECKS, effective_conditions, limit_sources
from edgewright.spec.load import load_fleet
from edgewright.spec.problem import InvalidSpec
from edgewright.spec.schema import schema_of

from .conftest import Repository

READER = "models/reader/model.yaml"  # its last line is 16
IMAGE = "    - {name: image, shape: [batch, 1, 8, 8]}\n"


def declare(repository: Repository, *conditions: str) -> None:
    lines = "".join(f"  - {{{condition}}}\n" for condition in conditions)
    repository.append(READER, f"conditions:\n{lines}")


def problems_of(repository: Repository) -> list[str]:
    """Every problem as `line:col: message; suggestion`, all of them in the model's file."""
    with pytest.raises(InvalidSpec) as caught:
        load_fleet(repository.root)
    rendered = [problem.render().split("\n")[0] for problem in caught.value.problems]
    assert all(line.startswith(f"{READER}:") for line in rendered)
    return [line.removeprefix(f"{READER}:") for line in rendered]


def test_a_model_may_be_silent_about_the_field(repository: Repository) -> None:
    assert load_fleet(repository.root).models["reader"].conditions == ()


def test_conditions_are_dumped_in_the_words_of_the_yaml_with_plain_numbers(repository: Repository) -> None:
    declare(
        repository,
        "name: all-of-it, inputs: [image], gain: 2, offset: -5%, snr: 15dB, adcBits: 6, fullScale: [0, 1],"
        " dropped: 0.5%, fill: zero, floor: 0.9",
        "name: dim-light, gain: 0.5, floor: 1",
    )
    all_of_it, dim = map(dump, load_fleet(repository.root).models["reader"].conditions)
    assert all_of_it == {
        "name": "all-of-it",
        "inputs": ["image"],
        "gain": 2.0,
        "offset": -5.0,
        "snr": 15.0,
        "adcBits": 6,
        "fullScale": [0.0, 1.0],
        "dropped": 0.5,
        "fill": "zero",
        "floor": 0.9,
    }
    assert dim == {"name": "dim-light", "gain": 0.5, "floor": 1.0}


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("name: dim, floor: 0.9", "18:12: condition 'dim' changes nothing; "
         "add gain, offset, snr, adcBits or dropped"),
        ("name: dim, gain: 1, floor: 0.9", "18:12: condition 'dim' changes nothing; "
         "add gain, offset, snr, adcBits or dropped"),
        ("name: dim, gain: 0.5, fill: zero, floor: 0.9", "18:28: 'fill' has no effect without 'dropped'; "
         "add dropped: 2%"),
        ("name: dim, gain: 0.5, fullScale: [1, 0], floor: 0.9",
         "18:39: full scale must rise, not go from 1 to 0; write the least value first"),
        ("name: dim, gain: 0.5, fullScale: [1, 1], floor: 0.9",
         "18:39: full scale must rise, not go from 1 to 1; write the least value first"),
        ("name: dim, gain: 0.5, fullScale: [1], floor: 0.9", "18:39: must have at least 2 items"),
        ("name: dim, gain: 0.5, fullScale: [0, 1, 2], floor: 0.9", "18:39: must have at most 2 items"),
        ("name: dim, gain: 0.5", "18:5: missing key 'floor'"),
        ("name: dim, gain: 0.5, floor: 0", "18:35: must be more than 0.0, not the number 0"),
        ("name: dim, gain: 0.5, floor: 90%", "18:35: must be a number, not '90%'; write 0.9"),
        ("name: dim, gain: 0, floor: 0.9", "18:23: must be more than 0.0, not the number 0"),
        ("name: dim, snr: 15, floor: 0.9", "18:22: a ratio of powers needs a unit; write 15dB"),
        ("name: dim, snr: 15db, floor: 0.9", "18:22: 15db is not a ratio of powers; write 15dB"),
        ("name: dim, snr: -120dB, floor: 0.9", "18:22: must be between -100dB and 100dB"),
        ("name: dim, offset: 0.05, floor: 0.9", "18:25: a share needs a unit; write 0.05%"),
        ("name: dim, offset: 0%, floor: 0.9", "18:25: must be more than nothing, such as 5%"),
        ("name: dim, dropped: 0%, floor: 0.9", "18:26: must be more than nothing, such as 2%"),
        ("name: dim, dropped: 120%, floor: 0.9", "18:26: must be at most 100%"),
        ("name: dim, adcBits: 0, floor: 0.9", "18:26: must be at least 1, not the number 0"),
        ("name: dim, dropped: 2%, fill: holt, floor: 0.9", "18:36: 'holt' is not one of hold, zero; "
         "did you mean 'hold'?"),
        ("name: dim, dropt: 2%, floor: 0.9", "18:17: unknown key 'dropt'; did you mean 'dropped'?"),
        ("name: Dim Light, gain: 0.5, floor: 0.9", "18:12: must be a name of lower-case letters, digits and "
         "single dashes, at most 40 characters; write dim-light"),
        (f"name: {'d' * 41}, gain: 0.5, floor: 0.9", "18:12: must be a name of lower-case letters, digits "
         "and single dashes, at most 40 characters, such as dim-light"),
        ("name: dim, inputs: [imag], gain: 0.5, floor: 0.9", "18:26: there is no input 'imag'; "
         "did you mean 'image'?"),
        ("name: dim, inputs: [image, image], gain: 0.5, floor: 0.9", "18:33: 'image' is here twice"),
        ("name: dim, inputs: [], gain: 0.5, floor: 0.9", "18:25: must have at least 1 item"),
    ],
)  # fmt: skip
def test_a_condition_that_makes_no_sense_is_an_error_with_its_place(
    repository: Repository, condition: str, message: str
) -> None:
    declare(repository, condition)
    assert problems_of(repository) == [message]


def test_a_narrower_full_scale_alone_is_a_condition_because_it_clips(repository: Repository) -> None:
    declare(repository, "name: saturated, fullScale: [0, 0.5], floor: 0.9")
    assert len(load_fleet(repository.root).models["reader"].conditions) == 1


def test_two_conditions_cannot_share_a_name(repository: Repository) -> None:
    declare(repository, "name: dim, gain: 0.5, floor: 0.9", "name: dim, gain: 0.4, floor: 0.8")
    assert problems_of(repository) == ["19:12: condition 'dim' is already on line 18"]


def test_token_numbers_are_no_signal_whether_or_not_they_are_named(repository: Repository) -> None:
    repository.edit(READER, IMAGE, IMAGE + "    - {name: tokens, dtype: int64, shape: [batch, 8]}\n")
    declare(
        repository,
        "name: dim, gain: 0.5, floor: 0.9",
        "name: dim-tokens, inputs: [tokens], gain: 0.5, floor: 0.9",
        "name: dim-image, inputs: [image], gain: 0.5, floor: 0.9",
    )
    assert problems_of(repository) == [
        "19:12: input 'tokens' is int64; conditions are for signals (float32 or uint8); write inputs: [image]",
        "20:33: input 'tokens' is int64; conditions are for signals (float32 or uint8); leave it out",
    ]


def test_a_model_without_any_signal_can_have_no_conditions(repository: Repository) -> None:
    repository.edit(READER, "{name: image, ", "{name: image, dtype: int32, ")
    declare(repository, "name: dim, gain: 0.5, floor: 0.9")
    assert problems_of(repository) == [
        "18:12: input 'image' is int32; conditions are for signals (float32 or uint8);"
        " this model can have no conditions"
    ]


def test_the_full_scale_of_grey_values_is_what_a_byte_can_hold(repository: Repository) -> None:
    repository.edit(READER, "{name: image, ", "{name: image, dtype: uint8, ")
    declare(
        repository,
        "name: wide, adcBits: 4, fullScale: [0, 256], floor: 0.9",
        "name: right, adcBits: 4, fullScale: [0, 255], floor: 0.9",
    )
    assert problems_of(repository) == [
        "18:41: input 'image' is uint8 and holds 0 to 255; write [0, 255] or less"
    ]


OVERRIDE = "overrides: [{{hardwareClass: board, conditions: [{}]}}]\n"


def test_a_class_may_have_another_floor_for_a_condition(repository: Repository) -> None:
    declare(repository, "name: dim, gain: 0.5, floor: 0.9", "name: noise, snr: 15dB, floor: 0.8")
    repository.append(READER, OVERRIDE.format("{name: noise, floor: 0.7}"))
    model = load_fleet(repository.root).models["reader"]
    found = [(item.name, item.floor) for item in effective_conditions(model, "board")]
    assert found == [("dim", 0.9), ("noise", 0.7)]
    assert effective_conditions(model, "other") == model.conditions


def test_a_floor_is_traced_to_the_line_that_decides_it(repository: Repository) -> None:
    declare(repository, "name: dim, gain: 0.5, floor: 0.9", "name: noise, snr: 15dB, floor: 0.8")
    repository.append(READER, OVERRIDE.format("{name: noise, floor: 0.7}"))
    model = load_fleet(repository.root).models["reader"]
    sources = limit_sources(model, "reader", "board")
    assert sources["accuracy-under-dim"] == f"{READER}#conditions.0.floor"
    assert sources["accuracy-under-noise"] == f"{READER}#overrides.0.conditions.0.floor"
    assert limit_sources(model, "reader", "other")["accuracy-under-noise"] == f"{READER}#conditions.1.floor"


def test_the_checks_of_conditions_come_after_those_of_every_model(repository: Repository) -> None:
    declare(repository, "name: dim, gain: 0.5, floor: 0.9", "name: noise, snr: 15dB, floor: 0.8")
    fleet = load_fleet(repository.root)
    checks = checks_of(fleet, "reader", "board")
    assert checks == (*CHECKS, "accuracy-under-dim", "accuracy-under-noise")
    assert set(checks) - {"target-outputs"} <= set(limit_sources(fleet.models["reader"], "reader", "board"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("{name: dimm, floor: 0.7}", "19:56: there is no condition 'dimm'; did you mean 'dim'?"),
        ("{name: dim, floor: 0.7}, {name: dim, floor: 0.6}", "19:81: 'dim' is here twice"),
        ("", "19:48: must have at least 1 item"),
    ],
)
def test_an_override_speaks_of_a_condition_that_exists_once(
    repository: Repository, override: str, message: str
) -> None:
    declare(repository, "name: dim, gain: 0.5, floor: 0.9")
    repository.append(READER, OVERRIDE.format(override))
    assert problems_of(repository) == [message]


def test_an_override_without_conditions_to_speak_of_says_where_to_add_one(repository: Repository) -> None:
    repository.append(READER, OVERRIDE.format("{name: dim, floor: 0.7}"))
    assert problems_of(repository) == ["17:56: there is no condition 'dim'; add it under 'conditions'"]


def test_an_empty_override_is_said_to_have_nothing_to_say(repository: Repository) -> None:
    repository.append(READER, "overrides: [{hardwareClass: board}]\n")
    assert problems_of(repository) == [
        "17:29: this override changes nothing; add metric, conditions, limits or optimization"
    ]


def test_a_condition_is_explained_with_its_unit_and_range() -> None:
    assert explain("model.conditions.snr").facts["units"] == "dB"
    assert explain("model.conditions.floor").facts["range"] == "more than 0 and at most 1"
    assert explain("model.conditions.fullScale").facts["items"] == "exactly 2"
    assert explain("model.conditions.fullScale").key.kind == "list of numbers"


def test_the_editor_knows_the_words_of_a_condition() -> None:
    condition = schema_of("model")["$defs"]["Condition"]
    assert condition["required"] == ["name", "floor"]
    assert condition["properties"]["fill"]["enum"] == ["hold", "zero"]
    assert condition["properties"]["fullScale"]["maxItems"] == 2
