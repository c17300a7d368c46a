from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def edgewright(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    program = "from edgewright.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"NO_COLOR": "1"},
    )


@pytest.fixture
def fleet(workspace: Path) -> Path:
    (workspace / "models" / "digit-reader" / "weights.safetensors").touch()
    return workspace


def test_a_valid_fleet_is_counted(fleet: Path) -> None:
    ran = edgewright("validate", cwd=fleet)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "ok: 5 classes, 5 models, 25 lanes\n", "")


def test_the_fleet_is_found_from_a_folder_inside_it(fleet: Path) -> None:
    assert edgewright("validate", cwd=fleet / "models" / "digit-reader").returncode == 0


def test_the_fleet_may_be_named(fleet: Path, tmp_path: Path) -> None:
    assert edgewright("validate", "--root", str(fleet), cwd=tmp_path).returncode == 0


def test_every_problem_is_rendered_and_counted(fleet: Path) -> None:
    sheet = fleet / "hardware" / "raspberry-pi-4.yaml"
    text = sheet.read_text()
    assert "\nmemory:" in text
    sheet.write_text(text.replace("\nmemory:", "\nmemroy:"))
    line = text[: text.index("\nmemory:")].count("\n") + 2
    with (fleet / "fleet.yaml").open("a") as file:
        file.write("extra: 1\n")
    ran = edgewright("validate", cwd=fleet)
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert (
        f"hardware/raspberry-pi-4.yaml:{line}:1: unknown key 'memroy'; did you mean 'memory'?\n"
        f"{line:>6} | memroy:\n"
        f"       | ^^^^^^\n"
        f"2 problems in 2 files\n"
    ) in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "\x1b" not in ran.stderr


def test_machines_get_json(fleet: Path) -> None:
    ran = edgewright("validate", "--json", cwd=fleet)
    assert json.loads(ran.stdout) == {"ok": True, "problems": [], "classes": 5, "models": 5, "lanes": 25}
    (fleet / "fleet.yaml").write_text("version: 1\n")
    ran = edgewright("validate", "--json", cwd=fleet)
    assert ran.returncode == 1
    answer = json.loads(ran.stdout)
    assert answer["ok"] is False
    assert answer["problems"][0] == {
        "file": "fleet.yaml",
        "line": 1,
        "col": 1,
        "message": "missing key 'name'",
        "suggestion": "",
        "excerpt": "version: 1",
        "width": 1,
    }


@pytest.mark.parametrize("arguments", [(), ("--root", ".")])
def test_no_fleet_says_how_to_name_one(arguments: tuple[str, ...], tmp_path: Path) -> None:
    ran = edgewright("validate", *arguments, cwd=tmp_path)
    assert ran.returncode == 1
    assert "there is no fleet.yaml in" in ran.stderr
    assert "--root" in ran.stderr
