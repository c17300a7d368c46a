from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgewright.cli.explain import command as explain
from edgewright.cli.schema import command as schema
from edgewright.errors import EnvironmentFault, SpecError


def test_one_schema_is_printed() -> None:
    ran = CliRunner().invoke(schema, ["hardware"])
    assert ran.exit_code == 0
    assert json.loads(ran.stdout)["properties"]["limits"]["description"]


def test_all_schemas_are_written(tmp_path: Path) -> None:
    out = tmp_path / "editor" / "schemas"
    ran = CliRunner().invoke(schema, ["--out", str(out)])
    assert ran.exit_code == 0
    assert sorted(file.name for file in out.iterdir()) == [
        "baseline.schema.json",
        "device.schema.json",
        "fleet.schema.json",
        "hardware.schema.json",
        "model.schema.json",
    ]
    assert "for hardware/*.yaml" in ran.stdout
    for file in out.iterdir():
        assert json.loads(file.read_text())["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ran = CliRunner().invoke(schema, ["--out", str(tmp_path / "file" / "below")])
    assert isinstance(ran.exception, EnvironmentFault)
    assert "cannot write" in str(ran.exception)


def test_no_kind_and_no_folder_says_what_to_do() -> None:
    ran = CliRunner().invoke(schema, [])
    assert ran.exit_code == 2
    assert (
        "name one of fleet, hardware, model, baseline, device, or write all of them with --out DIR"
        in ran.stderr
    )


def test_a_key_is_explained() -> None:
    ran = CliRunner().invoke(explain, ["hardware.updatePolicy.poll.jitter"])
    assert ran.exit_code == 0
    assert ran.stdout == (
        "hardware.updatePolicy.poll.jitter   share, default 20%\n"
        "\n"
        "  Random share of the interval added, so that a fleet does not ask at once.\n"
        "\n"
        "  for example  20%\n"
        "  units        %\n"
        "  in           hardware/*.yaml\n"
    )


def test_a_wrong_key_suggests_the_right_one() -> None:
    ran = CliRunner().invoke(explain, ["hardware.limits.latncy"])
    assert isinstance(ran.exception, SpecError)
    assert ran.exception.hint == "did you mean hardware.limits.latency?"


@pytest.mark.parametrize("kind", ["fleet", "hardware", "model", "baseline", "device"])
def test_a_whole_kind_is_an_overview(kind: str) -> None:
    ran = CliRunner().invoke(explain, [kind])
    assert ran.stdout.startswith(f"{kind}   mapping, required\n")
    assert "version" in ran.stdout
