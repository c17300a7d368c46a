from __future__ import annotations

from pathlib import Path

import pytest

from unit.devices.plant import Plant


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant(tmp_path)
