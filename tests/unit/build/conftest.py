"""A tiny model, built once per test run: exporting is what takes time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from shared import made_once
from unit.build.tiny import Repository, results


@pytest.fixture(scope="session")
def _built(run_folder: Path) -> Path:
    def build(folder: Path) -> None:
        repository = Repository(folder)
        for stage in ("checkpoint", "exported", "variants", "searched", "optimized"):
            repository.run(stage)

    return made_once(run_folder / "tiny-model", build)


@pytest.fixture
def exported(_built: Path, tmp_path: Path) -> Repository:
    """A repository of its own whose model is trained, exported and quantized."""
    mine = Repository(tmp_path / "exported")
    mine.files = results(_built)
    return mine


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository with the model's code and no results."""
    return Repository(tmp_path / "repository")


@pytest.fixture
def write(repository: Repository) -> Callable[[str, str], Path]:
    """Write a file beside the model's YAML."""

    def _write(name: str, text: str) -> Path:
        path = repository.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return _write
