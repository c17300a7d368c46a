"""`edgewright-agent doctor`: check this installation, and say what to mend.

$ edgewright-agent doctor
ok    software  edgewright-agent 0.1.0, Python 3.11.2, cryptography 50.0.2, tuf 7.0.1
FAIL  source    https://registry.example/acme: network: … → check cable, DNS, firewall and source.url
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from edgewright_agent.config import load


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
    from edgewright_agent.doctor import OK, Finding, document, examine, exit_code, in_words

    config = load(options.config)
    about = f"{options.config}, device {config.device.id} ({config.device.hardware_class})"
    findings = [
        Finding("configuration", OK, about),
        *examine(config, offline=options.offline, deep=options.deep),
    ]
    if options.json:
        print(json.dumps(document(findings), indent=2))
    else:
        print(in_words(findings, color=sys.stdout.isatty()))
    return exit_code(findings)
