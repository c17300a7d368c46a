"""`edgewright release`: write the signed desired state that devices follow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgewright.cli.options import root_option
from edgewright.plan.cache import open_cache
from edgewright.plan.render import Row, table
from edgewright.plan.resolve import resolve
from edgewright.spec.load import load_fleet

if TYPE_CHECKING:
    from edgewright.trust.release import ReleaseOutcome


@click.command()
@root_option
@click.option("--refresh", is_flag=True, help="Sign the short-lived metadata again even if nothing changed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(root: Path, refresh: bool, as_json: bool) -> None:
    """Sign who should run what, and publish it; devices follow at their next poll."""
    workspace = load_fleet(root)
    from edgewright.plan.published import blocked_lanes, published_lanes
    from edgewright.trust.assignment import PublishedLane
    from edgewright.trust.release import release

    plan = resolve(workspace, open_cache(workspace.root))
    published = {
        model: {name: PublishedLane.from_json(lane) for name, lane in classes.items()}
        for model, classes in published_lanes(workspace, plan).items()
    }
    outcome = release(
        workspace,
        published,
        blocked=blocked_lanes(plan),
        refresh=refresh,
        progress=lambda line: click.echo(line, err=True),
    )
    click.echo(json.dumps(outcome.to_json(), indent=2) if as_json else render(outcome))


def render(outcome: ReleaseOutcome) -> str:
    """Return a release as people read it: what changes, what is held back, what next."""
    parts = [_headline(outcome)]
    if outcome.changes:
        rows = [
            (
                change.group,
                change.model,
                change.hardware_class,
                f"{_artifact(change.old, change.old_version)} → {_artifact(change.new, change.new_version)}",
            )
            for change in outcome.changes
        ]
        parts.append(table(("group", "model", "class", "old → new"), rows))
    if outcome.held_back:
        parts.append("Held back:\n" + table(("model", "class", "why", "groups"), _held_back(outcome)))
    if outcome.experiments:
        compared = [
            (
                one.group,
                one.model,
                one.hardware_class,
                f"{one.experiment}: {_artifact(one.digest, one.model_version)}, "
                f"{one.kind} on {one.share:.4g} of the requests",
            )
            for one in outcome.experiments
        ]
        parts.append("Experiments:\n" + table(("group", "model", "class", "beside it"), compared))
    expires = outcome.expires
    parts.append(f"Believed until {expires['timestamp']}; before that, run `edgewright release` again.")
    parts += [f"Note: {note}" for note in outcome.notes]
    parts.append("Next, on a device: edgewright-agent once")
    return "\n\n".join(parts)


def _headline(outcome: ReleaseOutcome) -> str:
    versions = ", ".join(f"{role} {version}" for role, version in outcome.versions.items())
    if outcome.is_new:
        return f"Release {outcome.release} is published at {outcome.address} ({versions})."
    if outcome.written:
        return f"Release {outcome.release} is unchanged; its metadata is signed again ({versions})."
    if outcome.pushed:
        return f"Release {outcome.release} is unchanged; the registry is complete again ({versions})."
    return f"Nothing changed: release {outcome.release} stands ({versions})."


def _held_back(outcome: ReleaseOutcome) -> list[Row]:
    groups: dict[tuple[str, str, str], list[str]] = {}
    for fact in outcome.held_back:
        groups.setdefault((fact.model, fact.hardware_class, fact.reason), []).append(fact.group)
    return [(*lane, ", ".join(names)) for lane, names in groups.items()]


def _artifact(digest: str | None, version: str | None) -> str:
    if digest is None:
        return "nothing"
    return f"{version or '?'} ({digest.removeprefix('sha256:')[:12]})"
