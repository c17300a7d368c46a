"""A tiny model, built once per session: exporting is what takes time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from unit.build.tiny import Repository


@pytest.fixture(scope="session")
def _built(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    repository = Repository(tmp_path_factory.mktemp("built"))
    for stage in ("checkpoint", "exported", "optimized"):
        repository.run(stage)
    return repository


@pytest.fixture
def exported(_built: Repository, tmp_path: Path) -> Repository:
    """A repository of its own whose model is trained, exported and quantized."""
    mine = Repository(tmp_path / "exported")
    mine.files = dict(_built.files)
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
