"""What the command line takes: verbs, options, and the help they print.

>>> parser().parse_args(["rollback", "digit-reader"]).command
'rollback'
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from edgewright_agent import __version__
from edgewright_agent.commands import MODULES
from edgewright_agent.config import DEFAULT_CONFIG, DEFAULT_STATE
from edgewright_agent.errors import ConfigError

EXIT_CODES = """exit codes:
  0  up to date, updated, or done as asked
  1  wrong configuration or usage
  2  refused: not signed, not current, not for this device, or failed its trial here and was rolled back
  3  network or environment: registry unreachable, no space, engine missing, another agent at work"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(ConfigError.exit_code, f"{self.prog}: {message}\n")


def parser() -> argparse.ArgumentParser:
    """Return the parser; `command` in what it returns is the verb, with the verb above it: `identity create`."""
    made = _Parser(
        prog="edgewright-agent",
        description="Runs on a device: polls, verifies offline, installs atomically, rolls back by itself.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=f"edgewright-agent {__version__}")
    verbs = made.add_subparsers(metavar="COMMAND", required=True)

    def verb(name: str, text: str, *, model: bool = False, below: Any = None) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = (below or verbs).add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(command=name if below is None else f"identity {name}")
        if model:
            added.add_argument("model", metavar="MODEL", help="name of the model")
        if name not in ("init", "calibrate"):
            default = Path(os.environ.get("EDGEWRIGHT_AGENT_CONFIG", DEFAULT_CONFIG))
            added.add_argument(
                "--config",
                type=Path,
                default=default,
                metavar="FILE",
                help="configuration (default: $EDGEWRIGHT_AGENT_CONFIG or " + DEFAULT_CONFIG + ")",
            )
        return added

    def at_least(added: argparse.ArgumentParser) -> None:
        added.add_argument(
            "--at-least",
            action="append",
            default=[],
            type=_label,
            metavar="ROLE=VERSION",
            help="repeatable; believe no older metadata (`edgewright trust status` shows versions); clock=TIME",
        )

    init = verb("init", "write a configuration and begin the device's record")
    init.add_argument("--device-id", required=True, metavar="ID", help="unique name of this device")
    init.add_argument("--class", required=True, dest="hardware_class", metavar="CLASS", help="hardware class")
    init.add_argument(
        "--label",
        action="append",
        default=[],
        type=_label,
        metavar="KEY=VALUE",
        help="repeatable; selects groups",
    )
    init.add_argument(
        "--source", required=True, metavar="URL", help="https://HOST/PREFIX, oci:DIR or bundle:FILE"
    )
    init.add_argument("--root", required=True, type=Path, metavar="FILE", help="first TUF root metadata")
    init.add_argument(
        "--key",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="pin a signer's public key; repeatable (default: whoever the fleet's policy names may sign)",
    )
    for option, what in (("--identity", "IDENTITY"), ("--identity-pattern", "REGEX")):
        init.add_argument(
            option,
            action="append",
            default=[],
            nargs=2,
            metavar=("ISSUER", what),
            help="pin a signer's certificate identity; repeatable",
        )
    init.add_argument("--state", default=DEFAULT_STATE, metavar="DIR", help=f"default: {DEFAULT_STATE}")
    init.add_argument(
        "--mirror",
        action="append",
        default=[],
        metavar="URL",
        help="repeatable; asked in this order when the source fails; no log-in (edit FILE for one of its own)",
    )
    forms = "env:NAME, file:PATH or credential:NAME (systemd)"
    init.add_argument("--username", metavar="REF", help=f"where the registry's user name is: {forms}")
    init.add_argument("--password", metavar="REF", help="where its password or access token is, likewise")
    init.add_argument(
        "--credential-helper", metavar="NAME", help="ask the program docker-credential-NAME instead"
    )
    init.add_argument(
        "--ca-file", type=Path, metavar="FILE", help="certificate authorities of a private registry"
    )
    init.add_argument(
        "--device-identity",
        type=Path,
        metavar="DIR",
        help="this device gets a key and a certificate, kept there",
    )
    init.add_argument(
        "--device-ca", type=Path, metavar="FILE", help="the authority that issues it; needed to renew"
    )
    init.add_argument("--interval-s", type=float, metavar="SECONDS", help="time between polls (default: 900)")
    init.add_argument(
        "--reserve-bytes", type=int, metavar="BYTES", help="disk space never used (default: 64 MiB)"
    )
    init.add_argument(
        "--decryption-key",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="private key that opens encrypted models; repeatable",
    )
    init.add_argument("--out", required=True, type=Path, metavar="FILE", help="where to write it")
    init.add_argument("--force", action="store_true", help="replace an existing file; keeps the record")
    init.add_argument(
        "--no-state",
        action="store_true",
        help="for images: the record begins with `anchor`, once, on the device",
    )
    at_least(init)
    init.add_argument(
        "--fleet", metavar="NAME", help="the only fleet to follow (default: the first that is accepted)"
    )

    once = verb("once", "poll once and update what has changed")
    once.add_argument("--json", action="store_true", help="one JSON object per line: models, then the poll")
    once.add_argument(
        "--force",
        action="store_true",
        help="verify everything even if nothing has changed, and ask for a certificate that is due",
    )
    verb("run", "poll for ever (SIGHUP polls now, SIGTERM stops)")
    verb("status", "show what runs here, and why nothing newer does").add_argument(
        "--json", action="store_true", help="as JSON"
    )
    verb("anchor", "begin the record of a device that `init --no-state` has prepared, once")
    again = verb("reanchor", "begin a new record after it was lost or damaged; what runs stays")
    at_least(again)
    again.add_argument(
        "--fleet", metavar="NAME", help="the fleet this device belongs to; alone: it was renamed"
    )
    _identity_verbs(verbs, verb)
    infer = verb("infer", "run the active model on a golden sample, or on inputs from a file", model=True)
    infer.add_argument("--json", action="store_true", help="every output, as JSON")
    infer.add_argument("--input", type=Path, metavar="FILE", help='JSON: {"input name": nested lists}')
    infer.add_argument("--state", type=Path, metavar="DIR", help="state directory, instead of --config")
    calibrate = verb("calibrate", "measure a kit of small nets, for `edgewright calibrate`")
    calibrate.add_argument("kit", type=Path, metavar="KIT", help="file from `edgewright calibrate --kit`")
    calibrate.add_argument("--out", required=True, type=Path, metavar="FILE", help="where to write figures")
    calibrate.add_argument(
        "--rounds", type=_rounds, default=2, metavar="N", help="times every net is measured (default: 2)"
    )
    for name in MODULES:
        importlib.import_module(f"edgewright_agent.commands.{name}").add(verb)
    return made


def _identity_verbs(verbs: Any, verb: Any) -> None:
    text = "the device's own key, its certificate and requests for one"
    identity = verbs.add_parser("identity", help=text, description=text[0].upper() + text[1:] + ".")
    below = identity.add_subparsers(metavar="COMMAND", required=True)
    create = verb("create", "make the device's key, on the device", below=below)
    create.add_argument("--key", type=Path, metavar="FILE", help="where to keep it (default: identity.key)")
    create.add_argument(
        "--provider", metavar="NAME", help="OpenSSL provider that makes and keeps it, such as tpm2"
    )
    request = verb("request", "write a request for a certificate (PKCS#10)", below=below)
    request.add_argument("--out", required=True, type=Path, metavar="FILE", help="where to write it")
    show = verb("show", "show key, certificate and when that renews", below=below)
    show.add_argument("--json", action="store_true", help="as JSON")
    install = verb("install", "check a certificate and put it in place", below=below)
    install.add_argument("certificate", type=Path, metavar="CERT", help="from `edgewright devices certify`")
    verb("report", "write what runs here, numbered and signed with the device's key").add_argument(
        "--out", type=Path, metavar="FILE", help="where to write it (default: standard output)"
    )


def _rounds(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 20:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 20")
    return int(text)


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value
