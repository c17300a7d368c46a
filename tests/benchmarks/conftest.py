"""What is measured of the agent is what a device has: with byte code, as the package and pip make it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from real import ROOT


@pytest.fixture(autouse=True, scope="session")
def with_byte_code(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let the processes that are started find an agent that need not be compiled first, whatever this one may write."""
    folder = tmp_path_factory.mktemp("installed")
    shutil.copytree(ROOT / "agent/edgewright_agent", folder / "edgewright_agent")
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(folder)], check=True)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), *([before] if before else [])])
    yield
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before
