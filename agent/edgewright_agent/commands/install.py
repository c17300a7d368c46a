"""`edgewright-agent install FILE`: update from a bundle file or a directory of layouts, without a network.

    $ edgewright-agent install /media/usb/line-1-r4.tar
    digit-reader  installed  1.1.0 sha256:beae0c81683b (1.1.0: loads in 9 ms, infers in 0.10 ms, 4.1 MiB)

It is an ordinary poll of another source: the same metadata, signatures, trial and rollback, and the same record, so an
older bundle is refused as an older registry would be. Only windows do not count: a person stands by. Exit codes are
those of `once`: 0, 2 when something was refused or failed its trial, 3 for a fault.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgewright_agent.config import Config, Mirror, Origin, load
from edgewright_agent.errors import ConfigError
from edgewright_agent.report import Report


def add(verb: Any) -> None:
    """Describe the verb."""
    added = verb("install", "update from a bundle file, such as one on a stick")
    added.add_argument(
        "file", type=Path, metavar="FILE", help="from `edgewright bundle create`; or a directory"
    )
    added.add_argument("--json", action="store_true", help="one JSON object per line, as `once --json`")
    added.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Update from the file; returns the exit code."""
    report = install(load(options.config), options.file)
    print(report.json_lines() if options.json else report.text())
    return report.exit_code


def install(config: Config, file: Path) -> Report:
    """Poll a bundle once, as if it were the device's source.

    Raises:
        ConfigError: `no-bundle`: there is no such file, or it may not be read.
        StorageError: another agent is at work, or the record is missing or damaged.
    """
    # Imported here: `--help` needs none of it.
    from edgewright_agent.files import whose
    from edgewright_agent.metered import Traffic
    from edgewright_agent.owner import become_owner
    from edgewright_agent.telemetry import note_report
    from edgewright_agent.trusted import DeviceTrust
    from edgewright_agent.update import Update
    from edgewright_agent.work import at_work

    path = file.absolute()
    if not path.exists():
        raise ConfigError("no-bundle", f"{file} does not exist; is the stick mounted?")
    become_owner(config.state)
    if not os.access(path, os.R_OK):
        raise ConfigError("no-bundle", f"{file} may not be read: {whose(path)}")
    url = f"{'oci' if path.is_dir() else 'bundle'}:{path}"
    brought = replace(config, origin=Origin((Mirror(url),)))
    traffic = Traffic()
    with (
        at_work(brought) as (ledger, store),
        contextlib.closing(brought.origin.open(traffic=traffic)) as source,
    ):
        # Forced: what was found in a bundle says nothing about the next one under the same name.
        report = Update(brought, ledger, store, source, DeviceTrust(brought)).run(force=True, at_once=True)
        report = replace(report, traffic=traffic.document())
        note_report(config, report, ledger, store)
    return report
