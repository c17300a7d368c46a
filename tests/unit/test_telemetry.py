from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "first", ["import edgewright", "from edgewright_agent.engine import import_engine; import_engine()"]
)
def test_the_engine_is_told_not_to_phone_home_before_it_is_imported(first: str) -> None:
    program = f"{first}\nimport os, sys\nprint(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PATH": "/usr/bin"}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "1"
