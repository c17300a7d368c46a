"""A delta between two artifacts of a lane: a layer for each changed file that is worth it, and a manifest.

>>> made = make_delta(base, target, folder)        # doctest: +SKIP
>>> made.bytes, made.full_bytes                    # doctest: +SKIP
(41280, 40130000)

Files that are the same in both are in neither: devices copy them. A file whose delta is not smaller than its layer is
left out too and fetched whole. The rest is published only if it takes less than `MAX_DELTA_SHARE` of what all changed
layers take in full, and in no more operations than devices carry out (docs/adr/0015).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgewright.errors import BuildError
from edgewright.publish import oci
from edgewright.publish.artifact_files import ArtifactFiles
from edgewright.publish.delta_file import Bytes, rebuilt, write_delta
from edgewright.publish.delta_plan import Pair, estimate, pair_up, plan
from edgewright.publish.delta_tensors import Tensor, tensors
from edgewright.publish.push import put_verified
from edgewright.publish.registry import Registry
from edgewright_agent.contract import (
    ANNOTATION_DELTA_BASE,
    ANNOTATION_DELTA_TARGET,
    ANNOTATION_TITLE,
    DELTA_ARTIFACT,
    DELTA_CONFIG,
    DELTA_LAYER,
    FILE_CPU_MODEL,
    FILE_DATA,
    FILE_MODEL,
    MAX_DELTA_OPERATIONS,
    MAX_DELTA_SHARE,
    OCI_MANIFEST,
    canonical_json,
    digest_of,
)

MIN_SAVED_BYTES = 4096
"""Less is not worth a device's requests for a manifest and a layer."""
CONFIG = canonical_json({"version": 1})
MIN_CODED = 0.6
"""Of what a fast codec makes of a sample, the least that a good one was seen to make of the whole."""


@dataclass(frozen=True)
class Made:
    """A delta that lies in files.

    Attributes:
        manifest: Bytes of its manifest.
        layers: Descriptor and file of each layer.
        full_bytes: What the layers of all changed files take in full.
        bytes: What its own layers take.
        travels_bytes: What a device with the base fetches: these, and the layers of changed files that are in none.
    """

    manifest: bytes
    layers: tuple[tuple[oci.Descriptor, Path], ...]
    full_bytes: int
    bytes: int
    travels_bytes: int

    @property
    def digest(self) -> str:
        """Digest of its manifest."""
        return digest_of(self.manifest)

    @property
    def share(self) -> float:
        """What travels, of what the changed layers take in full."""
        return self.travels_bytes / self.full_bytes


def make_delta(base: ArtifactFiles, target: ArtifactFiles, folder: Path) -> Made | str:
    """Make the delta from one artifact to another; in place of one that is not worth it, return why.

    Args:
        base: What devices have.
        target: What they are to have.
        folder: Where the layers go.

    Raises:
        NetworkError, EnvironmentFault: as `ArtifactFiles.path`.
        BuildError: what was made does not lead to the target: a defect of this program.
    """
    if base.encrypted or target.encrypted:
        return "encrypted weights: their delta would be plaintext"
    here = {one.digest for one in base.files.values()}
    changed = {name: one for name, one in target.files.items() if one.digest not in here}
    full = sum(int(one.layer["size"]) for one in changed.values())
    if full < MIN_SAVED_BYTES:
        return "what changes is as small as a delta"
    layers = []
    travels = full
    for name, one in changed.items():
        layer_bytes = int(one.layer["size"])
        rest = sum(int(other.layer["size"]) for file, other in changed.items() if file != name)
        limit = layer_bytes if rest else int(layer_bytes * MAX_DELTA_SHARE)
        path = folder / name
        if not _write(base, target, name, path, limit):
            continue
        descriptor = oci.descriptor(DELTA_LAYER, path, annotations={ANNOTATION_TITLE: name})
        if descriptor["size"] < layer_bytes:
            layers.append((descriptor, path))
            travels += descriptor["size"] - layer_bytes
    if travels >= MAX_DELTA_SHARE * full:
        return (
            f"it would take {travels / full:.0%} of the changed layers"
            if layers
            else "nothing is alike, or in too many pieces"
        )
    if full - travels < MIN_SAVED_BYTES:
        return "it would save next to nothing"
    manifest = oci.manifest(
        artifact_type=DELTA_ARTIFACT,
        config=oci.descriptor(DELTA_CONFIG, CONFIG),
        layers=[descriptor for descriptor, _path in layers],
        annotations={ANNOTATION_DELTA_BASE: base.digest, ANNOTATION_DELTA_TARGET: target.digest},
    )
    total = sum(descriptor["size"] for descriptor, _path in layers)
    return Made(manifest, tuple(layers), full, total, travels)


def push_delta(registry: Registry, made: Made) -> None:
    """Push layers, config and manifest, in this order; no tag names a delta, only signed metadata does.

    Raises:
        NetworkError: the registry cannot be reached or refuses.
        EnvironmentFault: a layout cannot be written.
    """
    for descriptor, path in made.layers:
        registry.put_blob(str(descriptor["digest"]), path)
    registry.put_blob(digest_of(CONFIG), CONFIG)
    put_verified(registry, made.digest, made.manifest, OCI_MANIFEST)


def _write(base: ArtifactFiles, target: ArtifactFiles, name: str, path: Path, limit: int) -> bool:
    """Write the delta that makes one file; whether it was worth beginning."""
    old_name, pairs = _closest(base, target, name)
    if old_name is None:
        return False
    with ExitStack() as stack:
        old = stack.enter_context(mapped(base.path(old_name)))
        new = stack.enter_context(mapped(target.path(name)))
        operations = plan(old, new, pairs)
        if len(operations) > MAX_DELTA_OPERATIONS:
            return False
        if estimate(old, new, operations) * MIN_CODED > limit:
            return False
        write_delta(path, old, new, operations)
        wanted = target.files[name]
        if rebuilt(path, old) != (wanted.digest, wanted.size):
            raise BuildError(f"the delta of {name} does not make it again: this is a defect of edgewright")
    return True


def _closest(base: ArtifactFiles, target: ArtifactFiles, name: str) -> tuple[str | None, list[Pair]]:
    """Return the file of the base that has most of a file's tensors, and the tensors of both."""
    same = name if name in base.files else None
    if name not in (FILE_MODEL, FILE_DATA, FILE_CPU_MODEL):
        return same, []
    # What runs without the accelerator is a network of its own; it descends from its former self.
    model = FILE_CPU_MODEL if name == FILE_CPU_MODEL else FILE_MODEL
    before, after = _tensors(base, model), _tensors(target, model)
    found = {old: pair_up(before[old], after.get(name, [])) for old in before}
    best = max(found, key=lambda old: (_bytes(found[old]), old == same), default=None)
    if best is None or not found[best]:
        return same, []
    return best, found[best]


def _bytes(pairs: list[Pair]) -> int:
    return sum(pair.target.length for pair in pairs)


def _tensors(artifact: ArtifactFiles, model: str) -> Mapping[str, list[Tensor]]:
    """Return file → tensors of a model in it; none where the model is no ONNX file that can be read."""
    if model not in artifact.files:
        return {}
    with mapped(artifact.path(model)) as content:
        try:
            listed = tensors(content)
        except ValueError:
            return {}
    found: dict[str, list[Tensor]] = {}
    for tensor in listed:
        name = tensor.location or model
        file = artifact.files.get(name)
        if file is not None and tensor.offset + tensor.length <= file.size:
            found.setdefault(name, []).append(tensor)
    return found


@contextmanager
def mapped(path: Path) -> Iterator[Bytes]:
    """Give a file's bytes without reading it whole; it must not be empty."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as found:
        yield found
