"""The command line: one file per verb, imported only when that verb is asked for.

$ edgewright plan
$ edgewright run
"""

from __future__ import annotations

import importlib
import sys

import click

from edgewright.errors import EdgewrightError

VERBS = {
    "baseline": "Show and record what models cost in instructions.",
    "bench": "Try a built model on its class's emulated processor.",
    "bundle": "Write a release into one file, for a stick.",
    "calibrate": "Measure what instructions cost on a class.",
    "collect": "Take signed device reports, and show the fleet.",
    "demo": "Show the whole path on this machine, from YAML to devices.",
    "devices": "Enroll, certify and revoke the devices of this fleet.",
    "explain": "Explain a field of the YAML.",
    "keys": "Make and show the keys of this fleet.",
    "optimize": "Search the best artifact of a model for a class.",
    "plan": "Show what would be built and why.",
    "release": "Write the signed desired state that devices follow.",
    "run": "Build, gate, sign and publish what changed.",
    "schema": "Write JSON Schemas for editors.",
    "targets": "Fetch and list the processors that models are tried on.",
    "train": "Train a model and say what it is worth.",
    "trust": "Begin, inspect, change and refresh who signs what.",
    "ui": "Open the Dagster UI on this fleet.",
    "validate": "Check the YAML.",
    "variants": "Make a model's variants and say what they are worth.",
    "verify": "Check a published artifact as a device would.",
}


class _Verbs(click.Group):
    """Loads `edgewright.cli.<verb>:command` on demand: start-up stays cheap however many verbs there are."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"edgewright.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(VERBS.items()))


@click.command(
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 ok · 1 wrong YAML or usage · 2 blocked by a gate or policy · 3 keys, network, disk.",
)
@click.version_option(package_name="edgewright")
def cli() -> None:
    """From YAML in Git to verified models on edge devices."""


def main() -> None:
    """Run the command line; errors are shown without a traceback and become exit codes."""
    try:
        cli.main(standalone_mode=False)
    except EdgewrightError as error:
        click.echo(error.render(color=sys.stderr.isatty()), err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(1)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
