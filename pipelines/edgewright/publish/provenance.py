"""Provenance (SLSA v1): from which commit, files, weights and tools an artifact was made, and by which builder.

What the parameters mean is told in docs/provenance.md, which is what the build type's address stands for.

>>> predicate = provenance(job, worktree=look(job.root), report_digest="sha256:…")     # doctest: +SKIP
>>> predicate["runDetails"]["builder"]["id"]                                           # doctest: +SKIP
'https://github.com/acme/fleet/.github/workflows/release.yml@refs/heads/main'

In key mode it holds no time and no number of a run, so that equal builds give equal bytes. With short-lived
certificates the transparency log tells the time anyway, and the run is named.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgewright.plan.job import Job
from edgewright.plan.stage import STAGES, code_digests, tool_version
from edgewright.publish.worktree import Worktree
from edgewright_agent.contract import BUILD_TYPE, BUILDER_LOCAL

_MAX_FILES = 64
"""Files of a model that are named one by one; the digest of the folder covers them all in any case."""


def provenance(
    job: Job, *, worktree: Worktree, report_digest: str, environment: Mapping[str, str] = os.environ
) -> dict[str, Any]:
    """Return the SLSA provenance v1 predicate of one artifact (https://slsa.dev/spec/v1.0/provenance).

    Args:
        job: The job that signs: its root, model, class and slice.
        worktree: What Git says of the repository.
        report_digest: Digest of the gate report.
        environment: Of the process; tells whether this is GitHub Actions.
    """
    stages = {name: stage for name, stage in STAGES.items() if name not in ("published", "index")}
    tools = {tool for stage in stages.values() for tool in stage.tools}
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                **({"repository": worktree.repository} if worktree.repository else {}),
                **({"commit": worktree.commit} if worktree.commit else {}),
                **({"folder": worktree.folder} if worktree.folder else {}),
                "worktree": worktree.state,
                "model": job.model,
                "hardwareClass": job.hardware_class,
                "modelVersion": job.spec["model"]["modelVersion"],
            },
            "internalParameters": {
                "stages": {name: stage.version for name, stage in stages.items()},
                "tools": {tool: tool_version(tool) for tool in sorted(tools)},
                "target": dict(job.spec["hardware"]),
            },
            "resolvedDependencies": list(_dependencies(job, worktree, sorted(tools))),
        },
        "runDetails": {
            "builder": {"id": builder_id(environment), "version": {"edgewright": tool_version("edgewright")}},
            **_invocation(job, environment),
            "byproducts": [{"name": "gate-report.json", "digest": {"sha256": _hex(report_digest)}}],
        },
    }


def builder_id(environment: Mapping[str, str]) -> str:
    """Return who runs the build: the workflow in GitHub Actions, else one name for every other machine.

    It is what this process says of itself. What vouches for it is the signature: a keyless certificate names the same
    workflow, and a key is only as good as the place it is kept in.
    """
    workflow = environment.get("GITHUB_WORKFLOW_REF", "")
    if environment.get("GITHUB_ACTIONS") == "true" and workflow:
        return f"{environment.get('GITHUB_SERVER_URL', 'https://github.com').rstrip('/')}/{workflow}"
    return BUILDER_LOCAL


def dir_hash(digests: Mapping[str, str]) -> str:
    """Return the `dirHash` of files by name and sha256, as in-toto's DigestSet defines it.

    The same as, in that folder: `find . -type f | cut -c3- | LC_ALL=C sort | xargs sha256sum | sha256sum`.
    """
    lines = "".join(f"{digests[name]}  {name}\n" for name in sorted(digests, key=str.encode))
    return hashlib.sha256(lines.encode()).hexdigest()


def _invocation(job: Job, environment: Mapping[str, str]) -> dict[str, Any]:
    if job.spec["signing"].get("mode", "key") == "key" or environment.get("GITHUB_ACTIONS") != "true":
        return {}
    server = environment.get("GITHUB_SERVER_URL", "https://github.com").rstrip("/")
    run = f"{server}/{environment.get('GITHUB_REPOSITORY')}/actions/runs/{environment.get('GITHUB_RUN_ID')}"
    return {"metadata": {"invocationId": f"{run}/attempts/{environment.get('GITHUB_RUN_ATTEMPT', '1')}"}}


def _dependencies(job: Job, worktree: Worktree, tools: list[str]) -> Iterator[dict[str, Any]]:
    if worktree.commit:
        yield {
            "name": "source",
            **({"uri": f"git+{worktree.repository}"} if worktree.repository else {}),
            "digest": {"gitCommit": worktree.commit},
            **({"annotations": {"modified": list(worktree.changed)}} if worktree.state == "modified" else {}),
        }
    folder = f"models/{job.model}"
    for name in ("fleet.yaml", f"hardware/{job.hardware_class}.yaml", f"{folder}/model.yaml"):
        path = job.root / name
        if path.is_file():
            yield {"name": name, "digest": {"sha256": _sha256(path)}}
    yield from _weights(job)
    files = code_digests(
        job.root / folder, {str(pinned["path"]) for pinned in _pinned(job) if "path" in pinned}
    )
    if files:
        yield {"name": folder, "digest": {"dirHash": dir_hash(files)}}
    for name, digest in sorted(files.items())[:_MAX_FILES]:
        yield {"name": f"{folder}/{name}", "digest": {"sha256": digest}}
    for tool in tools:
        # No digest: it is what the environment says is installed; a version alone is not proof.
        yield {"name": tool, "uri": package_url(tool)}


def package_url(distribution: str) -> str:
    """Return the package URL (purl) of an installed distribution.

    A local version (`2.13.0+cpu`) is percent-encoded, as the purl specification asks.
    """
    version = tool_version(distribution).replace("+", "%2B")
    return f"pkg:pypi/{distribution.lower().replace('_', '-')}@{version}"


def _weights(job: Job) -> Iterator[dict[str, Any]]:
    for pinned in _pinned(job):
        name = f"models/{job.model}/{pinned['path']}" if "path" in pinned else str(pinned["uri"])
        where = {"uri": pinned["uri"]} if str(pinned.get("uri", "")).startswith("https://") else {}
        # An address of this machine's own says nothing to others, and too much of it.
        shown = name if "path" in pinned or where else Path(name).name
        yield {"name": shown, **where, "digest": {"sha256": str(pinned["sha256"])}}


def pinned_files(job: Job) -> list[str]:
    """Return the weights that the model names with their sha256, as paths below the fleet's root."""
    return [f"models/{job.model}/{pinned['path']}" for pinned in _pinned(job) if "path" in pinned]


def _pinned(job: Job) -> list[Mapping[str, Any]]:
    model = job.spec["model"]
    named = [model.get("checkpoint"), *(variant.get("checkpoint") for variant in model.get("variants", ()))]
    return [pinned for pinned in named if pinned]


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")
