"""`edgewright bundle create`: what one group needs of the current release, signed as it is, in one file.

>>> bundle = create(workspace, group="line-1", out=Path("line-1.tar"))     # doctest: +SKIP
>>> bundle.release, [artifact.model for artifact in bundle.artifacts]    # doctest: +SKIP
('r4', ['digit-reader'])

Nothing is signed or made here: the metadata is that of the last release, the artifacts are what is published, their
signatures come along. So a device verifies a bundle exactly as it verifies a registry, and believes it as long.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewright.bundle.archive import Layouts, write
from edgewright.bundle.attached import attached
from edgewright.errors import BuildError, SpecError
from edgewright.publish import oci
from edgewright.publish.registry import OpenRepository, Registry
from edgewright.spec.problem import did_you_mean
from edgewright.trust.publication import metadata_folder, open_repositories
from edgewright.trust.push import metadata_manifest
from edgewright.trust.repository import Current, MetadataFolder
from edgewright_agent.contract import (
    ATTESTATIONS,
    OCI_EMPTY_BYTES,
    OCI_MANIFEST,
    POLICY_TARGET,
    PREDICATE_GATE_REPORT,
    PREDICATE_SIGN,
    TUF_REPOSITORY,
    digest_of,
    fallback_tag,
    tuf_tag,
)

if TYPE_CHECKING:
    from edgewright.spec.workspace import Workspace

Progress = Callable[[int, int, str], None]
_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Artifact:
    """One artifact in the file; `experiment` when it runs beside another."""

    model: str
    hardware_class: str
    version: str
    digest: str
    size_bytes: int
    experiment: str | None = None


@dataclass(frozen=True)
class Bundle:
    """What was written.

    Attributes:
        file: Where.
        size_bytes: Of the file.
        release: The release it holds.
        groups: For whom.
        artifacts: What is in it.
        expires: Until when devices believe it (RFC 3339): when the first of its metadata ends.
    """

    file: str
    size_bytes: int
    release: str
    groups: tuple[str, ...]
    artifacts: tuple[Artifact, ...]
    expires: str

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def create(
    workspace: Workspace,
    *,
    groups: Iterable[str],
    out: Path,
    classes: Iterable[str] = (),
    progress: Progress = lambda _done, _total, _name: None,
) -> Bundle:
    """Write the file.

    Args:
        workspace: The checked specs.
        groups: Groups of the current release.
        out: The file; replaced when it is there.
        classes: Hardware classes to limit it to; none: all that the groups' models are released for.
        progress: Called with bytes done, bytes in all, and what comes next.

    Raises:
        SpecError: a group or class that the release does not know, or nothing is left to bring.
        TrustError: nothing has been released, or the metadata is damaged.
        BuildError: the registry does not have what was released.
        NetworkError: the registry cannot be reached.
        EnvironmentFault: the file cannot be written.
    """
    folder = MetadataFolder(metadata_folder(workspace))
    current = folder.read()
    if current is None:
        raise SpecError("nothing has been released yet", hint="edgewright release")
    assignment = json.loads(current.assignment)
    names, wanted = tuple(groups), frozenset(classes)
    chosen = list(_chosen(assignment, names, wanted))
    if not chosen:
        raise SpecError(
            f"release {assignment['release']} has nothing for {', '.join(names)}"
            + (f" on {', '.join(sorted(wanted))}" if wanted else ""),
            hint="edgewright run, then edgewright release",
        )
    layouts = Layouts()
    for name, body in folder.published_files(current).items():
        _add_metadata(layouts, name, body)
    open_repository = open_repositories(workspace)
    artifacts = tuple(
        _add_artifact(layouts, open_repository, entry, _demanded(current, entry.hardware_class), out.parent)
        for entry in chosen
    )
    total = layouts.size_bytes
    size = write(layouts, out, progress=lambda done, name: progress(done, total, name))
    return Bundle(str(out), size, assignment["release"], names, artifacts, _end(current))


def release_of(workspace: Workspace) -> str:
    """Return the name of the current release.

    Raises:
        SpecError: nothing has been released.
        TrustError: the metadata is damaged.
    """
    current = MetadataFolder(metadata_folder(workspace)).read()
    if current is None:
        raise SpecError("nothing has been released yet", hint="edgewright release")
    return str(json.loads(current.assignment)["release"])


@dataclass(frozen=True)
class _Chosen:
    """An artifact that a release assigns."""

    model: str
    repository: str
    hardware_class: str
    digest: str
    version: str
    experiment: str | None


def _chosen(assignment: dict[str, Any], names: tuple[str, ...], classes: frozenset[str]) -> Iterator[_Chosen]:
    there = {group["name"]: group for group in assignment["groups"]}
    known = {
        name for group in there.values() for entry in group["models"].values() for name in entry["artifacts"]
    }
    for word, kind, all_known in (
        *((name, "group", there) for name in names),
        *((name, "hardware class", known) for name in sorted(classes)),
    ):
        if word not in all_known:
            raise SpecError(
                f"release {assignment['release']} knows no {kind} '{word}'",
                hint=did_you_mean(word, all_known, f"it knows {kind}s") or "edgewright release",
            )
    seen = set()
    for name in names:
        for model, entry in there[name]["models"].items():
            for hardware_class, artifact in entry["artifacts"].items():
                if classes and hardware_class not in classes:
                    continue
                beside = artifact.get("experiment")
                for told, experiment in ((artifact, None), *([(beside, beside["name"])] if beside else ())):
                    if told["digest"] in seen:
                        continue
                    seen.add(told["digest"])
                    yield _Chosen(
                        model,
                        entry["repository"],
                        hardware_class,
                        told["digest"],
                        told["modelVersion"],
                        experiment,
                    )


def _add_metadata(layouts: Layouts, name: str, body: bytes) -> None:
    manifest = metadata_manifest(name, body)
    layouts.add_blob(
        TUF_REPOSITORY, oci.EMPTY_CONFIG["digest"], len(OCI_EMPTY_BYTES), lambda: [OCI_EMPTY_BYTES]
    )
    layouts.add_blob(TUF_REPOSITORY, digest_of(body), len(body), lambda: [body])
    layouts.add_manifest(TUF_REPOSITORY, manifest, tag=tuf_tag(name))


def _demanded(current: Current, hardware_class: str) -> set[str]:
    """Return the predicate types that devices of a class demand (`edgewright_agent.trust.policy`)."""
    policy = json.loads(current.files.get(POLICY_TARGET, b'{"demands": []}'))
    return {PREDICATE_SIGN, PREDICATE_GATE_REPORT} | {
        ATTESTATIONS[demand["attestation"]]
        for demand in policy["demands"]
        if hardware_class in demand.get("classes", (hardware_class,))
    }


def _add_artifact(
    layouts: Layouts, open_repository: OpenRepository, entry: _Chosen, demanded: set[str], scratch: Path
) -> Artifact:
    registry = open_repository(entry.repository)
    size = _add_manifest(layouts, registry, entry.repository, entry.digest, scratch)
    # Signatures that others attached are devices' to judge.
    found = attached(registry, entry.digest, wanted=demanded)
    for one in found:
        for digest, body in one.blobs.items():
            layouts.add_blob(entry.repository, digest, len(body), partial(_whole, body))
        layouts.add_manifest(entry.repository, one.manifest, entry=one.entry)
    layouts.add_manifest(
        entry.repository, oci.index([one.entry for one in found]), tag=fallback_tag(entry.digest)
    )
    return Artifact(entry.model, entry.hardware_class, entry.version, entry.digest, size, entry.experiment)


def _whole(body: bytes) -> list[bytes]:
    return [body]


def _add_manifest(layouts: Layouts, registry: Registry, repository: str, digest: str, scratch: Path) -> int:
    """Add an artifact's manifest, and what it names; return the bytes of its layers."""
    body = registry.get_manifest(digest)
    if body is None:
        raise BuildError(
            f"{registry.address(digest)} is not in the registry", hint="edgewright run --republish"
        )
    document = json.loads(body)
    if document.get("mediaType", OCI_MANIFEST) != OCI_MANIFEST:
        raise BuildError(f"{registry.address(digest)} is no manifest of a single artifact")
    for part in [document["config"], *document["layers"]]:
        size = int(part["size"])
        layouts.add_blob(repository, part["digest"], size, _reader(registry, part["digest"], size, scratch))
    layouts.add_manifest(repository, body)
    return sum(int(part["size"]) for part in document["layers"])


def _reader(registry: Registry, digest: str, size: int, scratch: Path) -> Callable[[], Iterable[bytes]]:
    def read() -> Iterator[bytes]:
        # A file, because a model need not fit into memory; beside the bundle, where there is room for it anyway.
        with tempfile.TemporaryDirectory(prefix=".tmp-", dir=scratch) as folder:
            path = Path(folder) / "blob"
            if not registry.save_blob(digest, path, limit=size):
                raise BuildError(
                    f"{registry.address(digest)} is not in the registry", hint="edgewright run --republish"
                )
            with path.open("rb") as file:
                while piece := file.read(_READ_BYTES):
                    yield piece

    return read


def _end(current: Current) -> str:
    return min(current.expires.values())
