"""Every write of the agent goes through the one interface that is recorded: nothing escapes the other tests here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from real import ROOT


def test_every_write_goes_through_calls_but_locks_and_the_cache_of_python_tuf(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "crash.audit", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}/tests:{ROOT}/agent:{ROOT}/pipelines"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["outside"] == ["open /probe"], "and the probe, a write past it, is seen"
    assert seen["seen"] > 800
    assert seen["wrong"] == []
