"""Which deltas a release makes legal: from what a lane's devices most likely run to what they are told to run.

>>> deltas = add_deltas(catalog, changed, promised, open_repository)                # doctest: +SKIP
>>> [(made.model, made.base_version, made.bytes) for made in deltas.made]           # doctest: +SKIP
[('digit-reader', '1.0.0', 41280)]

A delta is legal because the class's role signs its digest in the custom data of its target, and useless to whoever
forges one: what it makes must be the artifact that is signed anyway. Its bases are what the lane's devices were told to
run most recently before, `MAX_DELTA_BASES` of them; always whole artifacts, so none depends on another delta.

An empty list says that somebody looked and nothing was worth it. So a release that changes nothing makes nothing and
signs nothing, and one after `registry.deltas` was switched on again looks once. Where a registry that was away or a
full disk kept all deltas from being made, nobody has looked: the next release does.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Set
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgewright.errors import EnvironmentFault, GoneError, NetworkError
from edgewright.publish.artifact_files import ArtifactFiles
from edgewright.publish.delta import Made, make_delta, push_delta
from edgewright.publish.durable import storage
from edgewright.publish.registry import OpenRepository
from edgewright.trust.assignment import Candidate, LaneKey
from edgewright.trust.catalog import Catalog
from edgewright_agent.contract import MAX_DELTA_BASES


@dataclass(frozen=True)
class NewDelta:
    """A delta that a release has made.

    Attributes:
        bytes: What a device with the base fetches.
        full_bytes: What it fetches of the same files without the delta.
        share: The one by the other.
    """

    model: str
    hardware_class: str
    base_version: str
    target_version: str
    base: str
    target: str
    digest: str
    bytes: int
    full_bytes: int
    share: float

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


@dataclass(frozen=True)
class Deltas:
    """What `add_deltas` did.

    Attributes:
        catalog: With the deltas in it.
        made: Those that are new.
        notes: Why there is none where one might be expected.
    """

    catalog: Catalog
    made: tuple[NewDelta, ...] = ()
    notes: tuple[str, ...] = ()


def without_deltas(catalog: Catalog) -> Catalog:
    """Return the catalogue of a fleet that wants none."""
    return {
        lane: tuple(replace(entry, deltas=None) for entry in entries) for lane, entries in catalog.items()
    }


def bases_of(target: Candidate, entries: tuple[Candidate, ...]) -> list[Candidate]:
    """Return what devices most likely have, the most recently assigned first."""
    assigned = [entry for entry in entries if entry.sequence > 0 and entry.digest != target.digest]
    return sorted(assigned, key=lambda one: (one.sequence, one.build), reverse=True)[:MAX_DELTA_BASES]


def add_deltas(
    catalog: Catalog,
    changed: Set[LaneKey],
    promised: Set[str],
    open_repository: OpenRepository,
    progress: Callable[[str], None] = lambda _line: None,
) -> Deltas:
    """Make and push the deltas that are missing; return the catalogue with them.

    Args:
        catalog: As it will be signed, but for the deltas.
        changed: Lanes whose assigned artifacts are others than before.
        promised: Digests that are assigned.
        open_repository: Opens the repositories that have the artifacts.
        progress: Called with one line per delta.

    Raises:
        NetworkError: the registry takes no delta. One that cannot be made is a note.
        EnvironmentFault: a layout cannot be written.
    """
    updated: dict[LaneKey, tuple[Candidate, ...]] = {}
    made: list[NewDelta] = []
    notes: list[str] = []
    for lane, entries in catalog.items():
        found = []
        for entry in entries:
            bases = bases_of(entry, entries)
            kept = _kept(entry, bases)
            failed = False
            asked = entry.digest in promised and (entry.deltas is None or lane in changed)
            if asked and (missing := [one for one in bases if one.digest not in kept]):
                with ExitStack() as stack:
                    making = _Making(lane, entry, open_repository, stack, progress)
                    kept |= making.run(missing)
                made += making.made
                notes += making.notes
                failed = making.failed
            order = [kept[one.digest] for one in bases if one.digest in kept]
            # What there is stays legal; only an empty list can be left out without taking a delta from devices.
            looked = order or (not failed and (entry.deltas is not None or (asked and bases)))
            found.append(replace(entry, deltas=tuple(order) if looked else None))
        updated[lane] = tuple(found)
    return Deltas(updated, tuple(made), tuple(notes))


def _kept(entry: Candidate, bases: list[Candidate]) -> dict[str, Mapping[str, Any]]:
    """Return base → delta, of those that are signed already and whose base is still one."""
    wanted = {one.digest for one in bases}
    return {str(delta["base"]): delta for delta in entry.deltas or () if delta["base"] in wanted}


class _Making:
    """The deltas to one artifact, which is fetched once for all of them.

    Attributes:
        made: Those that are new.
        notes: Why others could not be made.
        failed: Whether one of those might be made another time.
    """

    def __init__(
        self,
        lane: LaneKey,
        target: Candidate,
        open_repository: OpenRepository,
        stack: ExitStack,
        progress: Callable[[str], None],
    ) -> None:
        self._model, self._class = lane
        self._target, self._open, self._stack, self._progress = target, open_repository, stack, progress
        self._scratch: Path | None = None
        self.made: list[NewDelta] = []
        self.notes: list[str] = []
        self.failed = False

    def run(self, bases: list[Candidate]) -> dict[str, Mapping[str, Any]]:
        """Make and push what is worth it; return base → delta."""
        found: dict[str, Mapping[str, Any]] = {}
        files: ArtifactFiles | None = None
        for base in bases:
            try:
                files = files or self._files(self._target, "target")
                made = self._one(files, base)
            except (NetworkError, EnvironmentFault) as error:
                self.notes.append(f"no delta for {self._between(base)}: {error}")
                self.failed |= not isinstance(error, GoneError)
                continue
            if isinstance(made, str):
                self._progress(f"no delta for {self._between(base)}: {made}")
                continue
            push_delta(self._open(self._target.repository), made)
            found[base.digest] = {
                "base": base.digest,
                "digest": made.digest,
                "size": len(made.manifest),
                "bytes": made.bytes,
            }
            self._tell(base, made)
        return found

    def _one(self, files: ArtifactFiles, base: Candidate) -> Made | str:
        from_ = self._files(base, f"base-{base.build}")
        folder = self._folder(f"made-{base.build}")
        with storage("make a delta in", folder):
            return make_delta(from_, files, folder)

    def _files(self, entry: Candidate, name: str) -> ArtifactFiles:
        registry = self._open(entry.repository)
        body = registry.get_manifest(entry.digest)
        if body is None:
            raise GoneError(f"{registry.address(entry.digest)} is not in the registry any more")
        return ArtifactFiles(registry, body, self._folder(name))

    def _folder(self, name: str) -> Path:
        """Return a new folder for files that are needed no longer than this."""
        if self._scratch is None:
            with storage("make a folder in", Path(os.environ.get("TMPDIR", "/tmp")) / name):  # noqa: S108
                scratch = tempfile.TemporaryDirectory(prefix="edgewright-delta-", ignore_cleanup_errors=True)
            self._scratch = Path(self._stack.enter_context(scratch))
        folder = self._scratch / name
        with storage("make", folder):
            folder.mkdir(exist_ok=True)
        return folder

    def _between(self, base: Candidate) -> str:
        return (
            f"{self._model} on {self._class} from {base.model_version} ({base.digest[7:19]})"
            f" to {self._target.model_version}"
        )

    def _tell(self, base: Candidate, made: Made) -> None:
        self._progress(f"made a delta for {self._between(base)}: {made.travels_bytes} bytes")
        self.made.append(
            NewDelta(
                self._model,
                self._class,
                base.model_version,
                self._target.model_version,
                base.digest,
                self._target.digest,
                made.digest,
                made.travels_bytes,
                made.full_bytes,
                round(made.share, 6),
            )
        )
