"""A device's whole check of a new release, in a process of its own and nothing else: metadata, origin, every demand.

$ python tests/benchmarks/check_release.py agent.json
digit-reader sha256:…
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from edgewright_agent.clock import utc_now
from edgewright_agent.config import load
from edgewright_agent.floor import Floor
from edgewright_agent.trust.assignment import assigned
from edgewright_agent.trusted import DeviceTrust


def main(path: str) -> None:
    """Refresh from nothing, then verify what is assigned to this device."""
    config = load(Path(path))
    device = config.device
    trust = DeviceTrust(config)
    with contextlib.closing(config.origin.open()) as source:
        desired = trust.refresh(source, floor=Floor(), now=utc_now())
        targets = assigned(desired.assignment, hardware_class=device.hardware_class, labels=device.labels)
        for model, target in targets.items():
            desired.require_artifact(model, device.hardware_class, target.digest)
            trust.verify(source, target.repository, target.digest, model=model, desired=desired)
            print(model, target.digest)


if __name__ == "__main__":
    main(sys.argv[1])
