"""An artifact as its hardware class's TUF role signed it, and whether this device may take it.

>>> approval = Approval(length=1834, sequence=7, runtime=Runtime("onnxruntime", ">=1.20,<2"), min_agent="0.1.0")
>>> approval.require_sequence(7, what="digit-reader 1.0.0")
>>> approval.require_sequence(8, what="digit-reader 1.0.0")
Traceback (most recent call last):
    ...
edgewright_agent.errors.TrustError: digit-reader 1.0.0 has sequence 7, and this device has accepted 8: ...
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgewright_agent import __version__
from edgewright_agent.contract import DELTAS_FIELD, MAX_DELTA_BASES, MAX_MANIFEST_BYTES, is_digest
from edgewright_agent.errors import TrustError
from edgewright_agent.versions import in_range

ENGINE = "onnxruntime"
# Builds of the one engine, by the names they are installed under; the first that is there is what models get.
DISTRIBUTIONS = (
    "onnxruntime",
    *(f"onnxruntime-{build}" for build in ("gpu", "openvino", "qnn", "migraphx", "rocm", "cann", "training")),
)
_MAX_RANGE_CHARS = 255
MAX_SEQUENCE = 2**53 - 1  # the largest integer every JSON reader agrees on (RFC 8259 6)
MAX_DELTA_BYTES = 64 * 1024**3  # as of a layer


@dataclass(frozen=True)
class Runtime:
    """The engine an artifact was made for, and the range of its versions."""

    engine: str
    versions: str


@dataclass(frozen=True)
class Delta:
    """A legal way to make an artifact's files from those of another one.

    Attributes:
        base: Digest of the artifact it starts from.
        digest: Of the delta's manifest.
        size: Bytes of that manifest.
        bytes: Bytes of the delta's layers.
    """

    base: str
    digest: str
    size: int
    bytes: int


@dataclass(frozen=True)
class Approval:
    """What the signed metadata says about one artifact.

    Attributes:
        length: Bytes of its manifest.
        sequence: Approval epoch of its lane: all that is assigned together has the same, what was before a lower one.
        runtime: What it runs on; None when it does not say.
        min_agent: Oldest agent that understands it; None when it does not say.
        deltas: What may be fetched in its place where one of their bases is installed.
    """

    length: int
    sequence: int
    runtime: Runtime | None = None
    min_agent: str | None = None
    deltas: tuple[Delta, ...] = ()

    def require_sequence(self, floor: int, *, what: str) -> None:
        """Refuse what was assigned before and is not any more (a rollback with a stolen rollout key).

        Raises:
            TrustError: `artifact-rollback`.
        """
        if self.sequence < floor:
            raise TrustError(
                "artifact-rollback",
                f"{what} has sequence {self.sequence}, and this device has accepted {floor}: "
                "something that was withdrawn is being assigned again",
            )

    def require_fit(self, *, what: str, agent: str = __version__) -> None:
        """Refuse what this agent or the engine installed here cannot run; an engine that is not there is no reason.

        Raises:
            TrustError: `agent-too-old`, `wrong-runtime`.
        """
        if self.min_agent is not None and not in_range(agent, f">={self.min_agent}"):
            raise TrustError(
                "agent-too-old",
                f"{what} needs edgewright-agent {self.min_agent}, this is {agent}: update the agent",
            )
        if self.runtime is None:
            return
        if self.runtime.engine != ENGINE:
            raise TrustError(
                "wrong-runtime", f"{what} is made for {self.runtime.engine}; this agent runs {ENGINE}"
            )
        installed = engine_version()
        if installed is not None and not in_range(installed, self.runtime.versions):
            raise TrustError(
                "wrong-runtime",
                f"{what} needs {ENGINE} {self.runtime.versions}, this is {installed}: install one in that range",
            )


def engine_version() -> str | None:
    """Return the version of ONNX Runtime that is installed, without importing it; None when there is none."""
    from importlib import metadata

    for name in DISTRIBUTIONS:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def parse_approval(length: Any, custom: Mapping[str, Any], *, what: str) -> Approval:
    """Read a target's length and custom data.

    Raises:
        TrustError: `bad-metadata`, saying which value makes no sense.
    """
    sequence, agent, runtime = custom.get("sequence"), custom.get("minAgent"), custom.get("runtime")
    if type(length) is not int or not 0 < length <= MAX_MANIFEST_BYTES:
        raise _wrong(what, "length", length)
    if (
        type(sequence) is not int or not 0 < sequence <= MAX_SEQUENCE
    ):  # type(), because True is an int to isinstance
        raise _wrong(what, "sequence", sequence)
    if agent is not None and not (isinstance(agent, str) and _is_range(f">={agent}")):
        raise _wrong(what, "minAgent", agent)
    deltas = _deltas(custom.get(DELTAS_FIELD, []), what)
    return Approval(length, sequence, None if runtime is None else _runtime(runtime, what), agent, deltas)


def _deltas(value: Any, what: str) -> tuple[Delta, ...]:
    if not isinstance(value, list) or len(value) > MAX_DELTA_BASES:
        raise _wrong(what, DELTAS_FIELD, value)
    found = tuple(_delta(entry, what) for entry in value)
    if len({delta.base for delta in found}) != len(found):
        raise _wrong(what, DELTAS_FIELD, value)
    return found


def _delta(value: Any, what: str) -> Delta:
    fields = value if isinstance(value, Mapping) else {}
    base, digest, size, count = (fields.get(name) for name in ("base", "digest", "size", "bytes"))
    if not (isinstance(base, str) and is_digest(base) and isinstance(digest, str) and is_digest(digest)):
        raise _wrong(what, DELTAS_FIELD, value)
    if type(size) is not int or type(count) is not int:
        raise _wrong(what, DELTAS_FIELD, value)
    if not (0 < size <= MAX_MANIFEST_BYTES and 0 < count <= MAX_DELTA_BYTES):
        raise _wrong(what, DELTAS_FIELD, value)
    return Delta(base, digest, size, count)


def _runtime(value: Any, what: str) -> Runtime:
    fields = value if isinstance(value, Mapping) else {}
    engine, versions = fields.get("engine"), fields.get("version", "")
    if not isinstance(engine, str) or not isinstance(versions, str) or not _is_range(versions):
        raise _wrong(what, "runtime", value)
    return Runtime(engine[:80], versions)


def _is_range(text: str) -> bool:
    if len(text) > _MAX_RANGE_CHARS:  # before any of it is read
        return False
    try:
        for clause in text.split(","):  # one by one: a first clause that is not met would hide the others
            in_range("0", clause)
    except ValueError:
        return False
    return True


def _wrong(what: str, field: str, found: object) -> TrustError:
    return TrustError(
        "bad-metadata", f"{what} is signed with a {field} that makes no sense: {str(found)[:80]!r}"
    )
