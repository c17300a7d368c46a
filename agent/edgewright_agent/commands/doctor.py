"""`edgewright-agent doctor`: check this installation, and say what to mend.

$ edgewright-agent doctor
ok    software  edgewright-agent 0.1.0, Python 3.11.2, cryptography 50.0.2, tuf 7.0.1
FAIL  source    https://registry.example/acme: network: … → check cable, DNS, firewall and source.url
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewright_agent.config import Config, load
from edgewright_agent.files import whose
from edgewright_agent.owner import become_owner

if TYPE_CHECKING:
    from edgewright_agent.doctor import Finding


def add(verb: Any) -> None:
    """Describe the verb."""
    added = verb("doctor", "check this installation, and say what to mend")
    added.add_argument("--offline", action="store_true", help="do not ask the source")
    added.add_argument(
        "--deep", action="store_true", help="hash every installed file, and load every model in the engine"
    )
    added.add_argument("--json", action="store_true", help="as JSON")
    added.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Check and tell; 0 when everything works, else 3."""
    from edgewright_agent.doctor import document, examine, exit_code, in_words

    config = load(options.config)
    become_owner(config.state)  # what root may read says nothing of what the agent's user may
    findings = [
        _configuration(options.config, config),
        *examine(config, offline=options.offline, deep=options.deep),
    ]
    if options.json:
        print(json.dumps(document(findings), indent=2))
    else:
        print(in_words(findings, color=sys.stdout.isatty()))
    return exit_code(findings)


def _configuration(path: Path, config: Config) -> Finding:
    from edgewright_agent.doctor import FAIL, OK, Finding

    if not os.access(path, os.R_OK):  # root has read it, before it became the agent's user
        told = f"{path} may not be read: {whose(path.absolute())}"
        return Finding("configuration", FAIL, told, f"chmod a+r {path}")
    return Finding("configuration", OK, f"{path}, device {config.device.id} ({config.device.hardware_class})")
