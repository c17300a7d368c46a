"""The convolutional network most tests make variants of."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgewright.build.variants.origin import Origin
from unit.build.variants.origins import origin


@pytest.fixture
def convolutions(tmp_path: Path) -> Origin:
    """A trained network of two convolutions, the second residual, and a linear head."""
    return origin(tmp_path / "models" / "signals")
