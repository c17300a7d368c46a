"""An environment of its own for Olive, which pins other versions than this repository and is 70 distributions large.

>>> environment()                                       # doctest: +SKIP
PosixPath('/home/me/.cache/edgewright/peers/olive/bin/python')

From the package index alone; the time it takes is no part of any figure.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
CACHE = Path(os.environ.get("EDGEWRIGHT_PEERS", "~/.cache/edgewright/peers")).expanduser()


def environment(cache: Path = CACHE / "olive") -> Path:
    """Make Olive's environment in `cache`, or find it there, and return its Python.

    Raises:
        subprocess.CalledProcessError: pip fails, or what it installed cannot import Olive.
    """
    python, stamp = cache / "bin" / "python", cache / "edgewright-requirements"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    if not (stamp.exists() and stamp.read_text() == wanted):
        print(f"\ninstalling Olive into {cache} (a minute or two, once)", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", cache], check=True)
        pip = [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        subprocess.run([*pip, "--requirement", REQUIREMENTS], check=True)
        subprocess.run([python, "-c", "import olive.workflows"], check=True, env=quiet())
        stamp.write_text(wanted)
    return python


def quiet() -> dict[str, str]:
    """Return the environment variables for Olive: one thread, no telemetry, nothing fetched while it runs."""
    # `CI` too: with OLIVE_DISABLE_TELEMETRY alone the process still waits ten seconds when it ends.
    own = {"OMP_NUM_THREADS": "1", "OLIVE_DISABLE_TELEMETRY": "1", "CI": "1", "HF_HUB_OFFLINE": "1"}
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, **own}


def installed(python: Path) -> list[str]:
    """Return `name==version` of everything in the environment."""
    asked = [python, "-m", "pip", "freeze", "--disable-pip-version-check"]
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split()


if __name__ == "__main__":
    print(*installed(environment()), sep="\n")
