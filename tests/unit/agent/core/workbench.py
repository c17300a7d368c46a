"""A device on a bench: real files, source and trust in memory, a health check that is told what to say.

>>> bench = Bench(tmp_path)                                                  # doctest: +SKIP
>>> bench.publish(bench.artifact("1.0.0"))                                   # doctest: +SKIP
>>> [outcome.code for outcome in bench.once().outcomes]                      # doctest: +SKIP
['installed']

Every `once` is a new process as far as the agent is concerned: it knows only what is on disk.
"""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewright_agent.artifact import Artifact
from edgewright_agent.artifact import parse as parse_artifact
from edgewright_agent.clock import Uptime, to_text
from edgewright_agent.config import Budget, Config, parse
from edgewright_agent.contract import (
    ANNOTATION_CLASS,
    ANNOTATION_MODEL,
    ANNOTATION_TITLE,
    ANNOTATION_VERSION,
    LAYER_WEIGHT,
    MAX_MANIFEST_BYTES,
    MODEL_ARTIFACT,
    OCI_MANIFEST,
    TUF_METADATA,
    TUF_REPOSITORY,
    canonical_json,
    digest_of,
)
from edgewright_agent.errors import TransportError, TrustError
from edgewright_agent.files import Calls, Disk
from edgewright_agent.floor import Floor
from edgewright_agent.health import Evidence
from edgewright_agent.record import Ledger, Record
from edgewright_agent.report import Report
from edgewright_agent.store import Store
from edgewright_agent.transport import Manifest
from edgewright_agent.trust.approval import Approval
from edgewright_agent.update import Update

if TYPE_CHECKING:
    import pytest

MODEL = "digit-reader"
PI = "raspberry-pi-4"
NOW = datetime(2030, 1, 1, tzinfo=timezone.utc)
HEALTHY = Evidence(9.0, 0.1, 4 * 2**20, ("CPUExecutionProvider",), "onnxruntime 1.31.1", 4)
MODEL_BYTES = 300_000


@dataclass(frozen=True)
class Made:
    """An artifact: its manifest and its layers by file name."""

    body: bytes
    files: Mapping[str, bytes]
    version: str

    @property
    def digest(self) -> str:
        return digest_of(self.body)


def make_artifact(
    version: str,
    *,
    model: str = MODEL,
    hardware_class: str = PI,
    size: int = MODEL_BYTES,
    files: Mapping[str, bytes] | None = None,
    edit: Callable[[dict[str, Any]], None] | None = None,
) -> Made:
    """Make an artifact; `edit` may spoil its manifest document before it is serialized."""
    files = files or {
        "model.onnx": (f"{model} {hardware_class} {version} ".encode() * (size // 16 + 1))[:size],
        "runtime.json": b'{"version":1}',
        "golden.json": f'{{"version":1,"for":"{version}"}}'.encode(),
    }
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": MODEL_ARTIFACT,
        "layers": [
            {
                "mediaType": LAYER_WEIGHT,
                "digest": digest_of(data),
                "size": len(data),
                "annotations": {ANNOTATION_TITLE: name},
            }
            for name, data in files.items()
        ],
        "annotations": {
            ANNOTATION_MODEL: model,
            ANNOTATION_CLASS: hardware_class,
            ANNOTATION_VERSION: version,
        },
    }
    if edit:
        edit(document)
    return Made(canonical_json(document), files, version)


@dataclass
class Shelf:
    """A source in memory that counts what it gives and can be told to misbehave."""

    manifests: dict[tuple[str, str], bytes] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    bytes_received: int = 0
    requests: int = 0
    down: bool = False
    cut_after: int | None = None
    """Bytes of blobs after which the line drops, once."""
    chunk: int = 16_384

    def put(self, made: Made, repository: str = MODEL) -> None:
        self.manifests[repository, made.digest] = made.body
        self.blobs.update({digest_of(data): data for data in made.files.values()})

    def manifest(
        self, repository: str, reference: str, *, limit: int = MAX_MANIFEST_BYTES, etag: str | None = None
    ) -> Manifest | None:
        self._count(f"manifest {repository} {reference}")
        body = self.manifests.get((repository, reference))
        if body is None:
            raise TransportError("not-found", f"{repository} {reference}")
        if len(body) > limit:
            raise TransportError("too-large", f"{repository} {reference}")
        found = digest_of(body)
        if etag == f'"{found}"':
            return None
        self.bytes_received += len(body)
        return Manifest(found, OCI_MANIFEST, body, f'"{found}"')

    def blob(self, repository: str, digest: str, *, size: int, offset: int = 0) -> Iterator[bytes]:
        self._count(f"blob {repository} {digest} {offset}")
        data = self.blobs[digest]
        while offset < len(data):
            chunk = data[offset : offset + self.chunk]
            if self.cut_after is not None:
                if self.cut_after <= 0:
                    self.cut_after = None
                    raise TransportError("network", "connection reset")
                chunk = chunk[: self.cut_after]
                self.cut_after -= len(chunk)
            offset += len(chunk)
            self.bytes_received += len(chunk)
            yield chunk

    def referrers(self, _repository: str, _digest: str) -> list[dict[str, Any]]:
        return []

    def close(self) -> None:
        pass

    def blob_requests(self) -> list[str]:
        return [line for line in self.asked if line.startswith("blob")]

    def _count(self, line: str) -> None:
        if self.down:
            raise TransportError("network", "no route to host")
        self.asked.append(line)
        self.requests += 1


@dataclass
class Signed:
    """Trust in memory, and the desired state it vouches for."""

    assignment: dict[str, Any]
    versions: dict[str, int]
    expires: dict[str, str]
    targets: dict[tuple[str, str, str], int] = field(default_factory=dict)
    """Model, class, digest → length of the manifest."""
    sequences: dict[tuple[str, str, str], int] = field(default_factory=dict)
    """The same → sequence; 1 where there is none."""
    demands: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Digest → runtime and agent that it needs."""
    keys: dict[str, str] = field(default_factory=dict)
    issued: datetime | None = None
    floor: Floor = field(default_factory=Floor)
    untrusted: dict[str, str] = field(default_factory=dict)
    """Digest → code of the refusal."""
    policy: bytes | None = None
    trusted_root: bytes | None = None
    policies: list[bytes | None] = field(default_factory=list)
    """What `verify` was given, in order."""
    refusal: TrustError | None = None
    refreshed_at: list[datetime] = field(default_factory=list)
    floors: list[Floor] = field(default_factory=list)
    """What refreshes were given."""

    def refresh(self, _source: Any, *, floor: Floor, now: datetime) -> Signed:
        self.refreshed_at.append(now)
        self.floors.append(floor)
        if self.refusal:
            raise self.refusal
        self.floor = floor.raised(self.versions, keys=self.keys, clock=self.issued)
        return self

    def verify(self, _source: Any, _repository: str, digest: str, *, model: str, desired: Signed) -> None:
        self.policies.append(desired.policy)
        if code := self.untrusted.get(digest):
            raise TrustError(code, f"{model}: {code}")

    def require_artifact(self, model: str, hardware_class: str, digest: str) -> Approval:
        lane = (model, hardware_class, digest)
        if lane not in self.targets:
            raise TrustError("not-a-target", f"{digest} is not signed by its class's role")
        return Approval(self.targets[lane], self.sequences.get(lane, 1), **self.demands.get(digest, {}))

    def highest_sequence(self, model: str) -> int | None:
        found = (self.sequences.get(lane, 1) for lane in self.targets if lane[:2] == (model, PI))
        return max(found, default=None)


@dataclass
class Doctor:
    """A health check that says what it is told, and remembers what the record said when it was asked."""

    verdicts: dict[str, Exception] = field(default_factory=dict)
    """Model bytes' version → what goes wrong with it."""
    seen: list[str] = field(default_factory=list)
    attempts_left: list[int] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    """What else it was given, in order."""
    state: Path | None = None

    def __call__(
        self,
        folder: Path,
        *,
        timeout_s: float,
        budget: Budget,
        soak_s: float = 0,
        inference_timeout_s: float = 10,
    ) -> Evidence:
        version = json.loads((folder / "golden.json").read_bytes())["for"]
        self.seen.append(version)
        self.asked.append({"budget": budget, "soak_s": soak_s, "inference_timeout_s": inference_timeout_s})
        if self.state:
            trial = Ledger(self.state, Disk()).record.model(MODEL).trial
            self.attempts_left.append(trial.attempts_left if trial else -1)
        if version in self.verdicts:
            raise self.verdicts[version]
        return HEALTHY


class PowerCut(BaseException):
    """The end of a process, for tests that go on in the same one; no handler of the agent catches it."""


class DyingCalls(Calls):
    """Ends at the n-th operation, before it happens; a write is half done by then. 0 never ends, only counts."""

    def __init__(self, dies_at: int = 0, *, die: Callable[[], None] | None = None) -> None:
        self.count, self._dies_at = 0, dies_at
        self._die = die or self._cut

    @staticmethod
    def _cut() -> None:
        raise PowerCut

    def _last(self) -> bool:
        self.count += 1
        return self.count == self._dies_at

    def _step(self) -> None:
        if self._last():
            self._die()

    def write(self, path: Path, fd: int, data: bytes, offset: int) -> None:
        if self._last():
            super().write(path, fd, data[: len(data) // 2], offset)
            self._die()
        super().write(path, fd, data, offset)

    def mkdir(self, path: Path) -> None:
        self._step()
        super().mkdir(path)

    def open(self, path: Path, flags: int) -> int:
        self._step()
        return super().open(path, flags)

    def sync(self, path: Path, fd: int) -> None:
        self._step()
        super().sync(path, fd)

    def sync_data(self, path: Path, fd: int) -> None:
        self._step()
        super().sync_data(path, fd)

    def sync_dir(self, path: Path) -> None:
        self._step()
        super().sync_dir(path)

    def chmod(self, path: Path, mode: int) -> None:
        self._step()
        super().chmod(path, mode)

    def rename(self, old: Path, new: Path) -> None:
        self._step()
        super().rename(old, new)

    def symlink(self, link: Path, target: str) -> None:
        self._step()
        super().symlink(link, target)

    def unlink(self, path: Path) -> None:
        self._step()
        super().unlink(path)

    def rmdir(self, path: Path) -> None:
        self._step()
        super().rmdir(path)


class BadSectors:
    """Files that the medium does not give back any more: opening one works, reading it back fails with EIO."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.files: set[str] = set()
        self._real = os.posix_fadvise  # what is asked of a file before every one that is read back
        monkeypatch.setattr(os, "posix_fadvise", self._asked)

    def under(self, path: Path) -> None:
        self.files.add(os.path.realpath(path))

    def _asked(self, fd: int, *rest: int) -> None:
        if str(Path(f"/proc/self/fd/{fd}").readlink()) in self.files:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._real(fd, *rest)


def kill_this_process() -> None:
    """End as a power cut ends a process: nothing runs any more, no `finally` either."""
    os.kill(os.getpid(), signal.SIGKILL)


class Bench:
    """One device, its source and its trust."""

    def __init__(self, folder: Path, *, calls: Calls | None = None, anchored: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.state = folder, folder / "state"
        self.now = NOW
        self.up = Uptime("first boot", 60)
        self.shelf = Shelf()
        self.doctor = Doctor()
        self.calls = calls
        self.trust = Signed(
            assignment={"version": 1, "fleet": "f", "sequence": 1, "release": "r1", "groups": []},
            versions=dict.fromkeys(("root", "timestamp", "snapshot", "targets", "rollout"), 1),
            expires={role: to_text(NOW + timedelta(days=7)) for role in ("root", "timestamp")},
        )
        for name in ("root.json", "signing.pub"):
            (folder / name).write_text(name)
        self.document: dict[str, Any] = {
            "version": 1,
            "device": {"id": "pi-7", "class": PI, "labels": {"site": "lab"}},
            "source": {"url": "oci:registry"},
            "state": "state",
            "trust": {"root": "root.json", "keys": ["signing.pub"]},
            "reserveBytes": 0,
        }
        self._publish_timestamp()
        if anchored and not self.state.exists():
            self.ledger.reanchor(Record())  # as `init` does

    @property
    def config(self) -> Config:
        return parse(self.document, base=self.folder)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.state, Disk())

    @property
    def store(self) -> Store:
        return Store(self.state, Disk())

    def publish(
        self, *made: Made, model: str = MODEL, attempts: int = 3, policy: Mapping[str, Any] | None = None
    ) -> None:
        """Put artifacts on the shelf and assign the last one to every device of its class.

        `policy` is more of the class's `rollbackPolicy`.
        """
        for artifact in made:
            self.shelf.put(artifact, model)
            self.trust.targets[model, PI, artifact.digest] = len(artifact.body)
        last = made[-1]
        numbers = [number for (name, *_), number in self.trust.sequences.items() if name == model]
        self.trust.sequences[model, PI, last.digest] = max(numbers, default=0) + 1
        entry = {
            "repository": model,
            "modelVersion": last.version,
            "artifacts": {
                PI: {
                    "digest": last.digest,
                    "modelVersion": last.version,
                    "size": len(last.body),
                    "rollbackPolicy": {"attempts": attempts, "healthTimeoutS": 5, **(policy or {})},
                }
            },
        }
        groups = self.trust.assignment["groups"] or [
            {"name": "all", "selector": {"matchLabels": {}}, "models": {}}
        ]
        groups[0]["models"][model] = entry
        self.assign(groups)

    def assign(self, groups: list[dict[str, Any]]) -> None:
        """Sign a new assignment."""
        self.trust.assignment = {**self.trust.assignment, "groups": groups}
        self.trust.versions = {role: version + 1 for role, version in self.trust.versions.items()}
        self._publish_timestamp()

    def once(self, *, force: bool = False) -> Report:
        """One poll of a fresh process."""
        return self.update().run(force=force)

    def update(self) -> Update:
        disk = Disk(self.calls) if self.calls else Disk()
        return Update(
            self.config,
            Ledger(self.state, disk),
            Store(self.state, disk),
            self.shelf,
            self.trust,
            check=self.doctor,
            now=lambda: self.now,
            uptime=lambda: self.up,
        )

    def codes(self, *, force: bool = False) -> list[str]:
        """The codes of one poll's outcomes."""
        return [outcome.code for outcome in self.once(force=force).outcomes]

    def obtained(self, made: Made) -> Artifact:
        """Put an artifact into the store by hand; return what the store says of it."""
        artifact = parse_artifact(made.body)
        staging = self.store.stage(artifact)
        for name, data in made.files.items():
            (staging / name).write_bytes(data)
        self.store.install(artifact)
        return artifact

    def running(self, model: str = MODEL) -> str | None:
        """The version whose bytes an application reads through `current`, or None; never a broken one."""
        digest = self.store.linked(model)
        return self.store.verify(digest).version if digest else None

    def _publish_timestamp(self) -> None:
        body = canonical_json({"mediaType": TUF_METADATA, "version": self.trust.versions["timestamp"]})
        self.shelf.manifests[TUF_REPOSITORY, "timestamp.json"] = body
