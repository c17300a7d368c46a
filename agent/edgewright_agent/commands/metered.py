"""`edgewright-agent metered [on|off|auto]`: tell the agent whether bytes cost money now, or ask what it thinks.

    $ edgewright-agent metered on
    metered: models wait for another link; next: edgewright-agent metered off

A NetworkManager dispatcher script calls it whenever a connection comes up: see *The link* in
docs/guides/device-integrator.md.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

_SAID = {"on": True, "off": False, "auto": None}


def add(verb: Any) -> None:
    """Describe the verb."""
    added = verb("metered", "say whether the link is metered, or show what counts")
    added.add_argument(
        "say", nargs="?", choices=tuple(_SAID), help="auto: as the class's hardware sheet says"
    )
    added.add_argument("--json", action="store_true", help="as JSON")
    added.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Keep what is said, and show what counts."""
    from edgewright_agent.config import load
    from edgewright_agent.errors import ConfigError
    from edgewright_agent.files import Disk
    from edgewright_agent.network import is_metered, tell_metered
    from edgewright_agent.owner import as_owner
    from edgewright_agent.record import Ledger

    config = load(options.config)
    if options.say and config.network.metered != "ask":
        raise ConfigError(
            "bad-config",
            f"network.metered is {config.network.metered!r} in {options.config}, which counts; "
            'set it to "ask" to decide here',
        )
    if options.say:
        with as_owner(config.state):
            tell_metered(config.state, Disk(), _SAID[options.say])
    policy = Ledger(config.state, Disk()).record.policy
    metered = is_metered(config.network, config.state, signed=policy.get("meteredLink", False))
    what = policy.get("metered", "metadata")
    if options.json:
        print(json.dumps({"metered": metered, "policy": what}))
    else:
        print(_in_words(metered, what, by_hand=config.network.metered == "ask"))
    return 0


def _in_words(metered: bool, policy: str, *, by_hand: bool) -> str:
    if not metered:
        return "not metered: models are loaded; SIGHUP has the daemon poll now"
    if policy == "allow":
        return "metered: models are loaded all the same, as the class's policy says"
    what = "polls are rare and models wait" if policy == "defer" else "models wait"
    how = "next: edgewright-agent metered off" if by_hand else "network.metered in the configuration says so"
    return f"metered: {what} for another link; {how}"
