from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgewright.errors import SpecError
from edgewright.spec.explain import explain
from edgewright.spec.schema import KINDS


def test_a_quantity_is_explained_with_units_and_examples() -> None:
    assert explain("hardware.limits.latency.p95").render() == (
        "hardware.limits.latency.p95   duration, required\n"
        "\n"
        "  95th percentile.\n"
        "\n"
        "  for example  30ms, 1.5s\n"
        "  units        us, ms, s\n"
        "  in           hardware/*.yaml"
    )


def test_a_mapping_lists_its_keys() -> None:
    explanation = explain("fleet.trust.expiry")
    assert [key.name for key in explanation.keys] == [
        "root", "targets", "artifacts", "rollout", "snapshot", "timestamp",
    ]  # fmt: skip
    assert "timestamp  duration, default 7d" in explanation.render()


@pytest.mark.parametrize(
    ("path", "short"),
    [
        ("hardware.cpu.cores", "whole number, required"),
        ("hardware.runtime.arena", "true or false, default true"),
        ("hardware.storage.kind", "one of sd, emmc, ssd, nvme, required"),
        ("hardware.precisions", "list of choices, required"),
        ("hardware.accelerator", "mapping, optional"),
        ("hardware.limits.instructions.inference", "count, optional"),
        ("hardware.limits.regression", "share, default 1%"),
        ("baseline.classes.instructions.load", "whole number, required"),
        ("model.signature.inputs.shape", "list of whole number or always batch, required"),
        ("model.overrides", "list of mappings, default []"),
        ("hardware.version", "always 1, required"),
    ],
)
def test_each_kind_of_value_has_its_words(path: str, short: str) -> None:
    assert explain(path).key.short == short


@pytest.mark.parametrize("path", ["fleet.groups.models.model", "fleet.groups.0.models[1].model"])
def test_lists_are_walked_through_with_or_without_an_index(path: str) -> None:
    assert explain(path).path == "fleet.groups.models.model"


def test_free_keys_are_explained_by_their_mapping() -> None:
    assert explain("model.network.arguments.width").path == "model.network.arguments"


@pytest.mark.parametrize(
    ("path", "message", "hint"),
    [
        (
            "hardware.limits.latncy",
            "hardware.limits has no key 'latncy'",
            "did you mean hardware.limits.latency?",
        ),
        ("hardwear.limits", "there is no kind of spec called 'hardwear'", "did you mean hardware?"),
        (
            "zebra",
            "there is no kind of spec called 'zebra'",
            "kinds are fleet, hardware, model, baseline, device",
        ),
        ("", "there is no kind of spec called ''", "kinds are fleet, hardware, model, baseline, device"),
        ("hardware.power.zebra", "hardware.power has no key 'zebra'", "its keys are budget, source"),
        ("hardware.cpu.cores.x", "hardware.cpu.cores has no keys below it", "try hardware.cpu.cores"),
    ],
)
def test_a_wrong_path_names_the_right_one(path: str, message: str, hint: str) -> None:
    with pytest.raises(SpecError) as caught:
        explain(path)
    assert str(caught.value) == message
    assert caught.value.hint == hint


def every_path(path: str) -> Iterator[str]:
    yield path
    for key in explain(path).keys:
        yield from every_path(f"{path}.{key.name}")


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_can_be_explained(kind: str) -> None:
    paths = list(every_path(kind))
    assert len(paths) > 8
    for path in paths:
        assert explain(path).key.description
        assert max(map(len, explain(path).render(width=80).split("\n"))) < 110
