from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import edgewright
from edgewright.bench.target.scratch import scratch, sweep

KINDS = sorted(
    {
        kind
        for path in Path(edgewright.__file__).parent.rglob("*.py")
        for kind in re.findall(r'with scratch\("(\w+)"\)', path.read_text())
    }
)


def test_names_are_of_one_length_whatever_they_are_for() -> None:
    with scratch("target") as first, scratch("bench") as second:
        assert len(str(first)) == len(str(second))


def test_a_folder_goes_with_its_block() -> None:
    with scratch("target") as folder:
        (folder / "file").touch()
    assert not folder.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_killed_maker_left_is_swept_and_what_is_in_use_is_not(kind: str) -> None:
    program = (
        "import time\nfrom edgewright.bench.target.scratch import scratch\n"
        f"with scratch({kind!r}) as folder:\n    print(folder, flush=True)\n    time.sleep(600)\n"
    )
    maker = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert maker.stdout
    left = Path(maker.stdout.readline().strip())
    sweep()
    assert left.is_dir()
    maker.kill()
    maker.wait()
    for _ in range(100):
        sweep()
        if not left.exists():
            break
        time.sleep(0.05)
    assert not left.exists()
