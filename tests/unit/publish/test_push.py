"""Publishing in order, only what is signed, and the index over what passed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgewright.errors import BuildError, GateError, TrustError
from edgewright.plan.job import Job
from edgewright.publish import oci, version
from edgewright.publish.attestations import BUNDLES
from edgewright.publish.layout_registry import LayoutRegistry
from edgewright.publish.referrer import listed
from edgewright.publish.registry import open_registry
from edgewright_agent.contract import (
    MAX_LISTED_REFERRERS,
    MAX_MANIFEST_BYTES,
    OCI_INDEX,
    OCI_MANIFEST,
    fallback_tag,
    is_digest,
)
from unit.publish.lane import LaneFiles, run_index


@pytest.fixture
def lane(tmp_path: Path) -> LaneFiles:
    return LaneFiles(tmp_path)


def second_lane(lane: LaneFiles) -> LaneFiles:
    return LaneFiles(lane.root, lane.registry, hardware_class="medical-cart-cpu")


@pytest.fixture
def pushed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What reaches the registry, in order: `blob`, `manifest`, or the tag."""
    order: list[str] = []
    blob, manifest = LayoutRegistry.put_blob, LayoutRegistry.put_manifest

    def put_blob(self: LayoutRegistry, digest: str, content: Any) -> bool:
        order.append("blob")
        return blob(self, digest, content)

    def put_manifest(self: LayoutRegistry, reference: str, body: bytes, media_type: str) -> bool:
        order.append("manifest" if is_digest(reference) else reference)
        with monkeypatch.context() as inside:  # a layout keeps manifests as blobs: not what is counted here
            inside.setattr(LayoutRegistry, "put_blob", blob)
            return manifest(self, reference, body, media_type)

    monkeypatch.setattr(LayoutRegistry, "put_blob", put_blob)
    monkeypatch.setattr(LayoutRegistry, "put_manifest", put_manifest)
    return order


def test_blobs_come_before_the_manifest_and_signatures_after_it(lane: LaneFiles, pushed: list[str]) -> None:
    lane.all()
    first = pushed.index("manifest")
    assert pushed[:first] == ["blob"] * 6
    assert pushed.count("manifest") == 1 + 4


def test_the_moving_tag_is_written_last(lane: LaneFiles, pushed: list[str]) -> None:
    lane.all()
    facts = run_index(lane).facts
    assert [name for name in pushed if name.startswith("1.0.0")] == facts["tags"]
    assert pushed[-1] == "1.0.0"
    assert facts["tags"][0] == f"1.0.0-{facts['digest'][7:19]}"


@pytest.mark.parametrize("name", [name for name, _ in BUNDLES])
def test_what_is_not_signed_is_not_published(lane: LaneFiles, name: str) -> None:
    lane.package()
    lane.sign()
    del lane.inputs[f"signed/{name}"]
    with pytest.raises(TrustError, match=f"{name} is missing"):
        lane.publish()
    assert not (lane.root / "registry").exists()


def test_a_signature_of_another_artifact_is_not_published(lane: LaneFiles, tmp_path: Path) -> None:
    lane.package()
    lane.sign()
    other = LaneFiles(tmp_path / "other", weights=b"other")
    other.package()
    other.sign()
    lane.inputs["signed/sign.sigstore.json"] = other.inputs["signed/sign.sigstore.json"]
    with pytest.raises(TrustError, match="is about"):
        lane.publish()


def test_the_version_lists_every_class_that_passed(lane: LaneFiles) -> None:
    other = second_lane(lane)
    for each in (lane, other):
        each.all()
    facts = run_index(lane, other).facts
    index = json.loads((lane.root / "work/digit-reader/index/index.json").read_bytes())
    assert facts["classes"] == ["medical-cart-cpu", "raspberry-pi-4"]
    described = [(entry["digest"], entry["platform"]["architecture"]) for entry in index["manifests"]]
    assert described == [(other.digest, "amd64"), (lane.digest, "arm64")]


def test_the_index_does_not_depend_on_the_order_of_lanes(lane: LaneFiles) -> None:
    other = second_lane(lane)
    for each in (lane, other):
        each.all()
    assert run_index(lane, other).facts["digest"] == run_index(other, lane).facts["digest"]


def test_no_lane_passed_no_version(lane: LaneFiles) -> None:
    spec = {"modelVersion": "1.0.0", "registry": lane.registry, "signing": lane.signing}
    with pytest.raises(GateError, match="no lane of digit-reader passed"):
        version.run(Job(lane.root, lane.model, None, spec, {}, lane.root))


def test_an_index_over_something_else_than_was_published_is_refused(lane: LaneFiles) -> None:
    lane.all()
    path = lane.inputs["published/published.json"]
    path.write_text(json.dumps({**json.loads(path.read_text()), "digest": "sha256:" + "0" * 64}))
    with pytest.raises(BuildError, match="published sha256:0000"):
        run_index(lane)


def test_a_list_of_referrers_never_outgrows_what_devices_read(lane: LaneFiles) -> None:
    lane.all()
    registry = open_registry(lane.registry, lane.root)(lane.model)
    ours = listed(registry, lane.digest)
    junk = [
        oci.descriptor(OCI_MANIFEST, lane.manifest, annotations={"number": str(number)})
        for number in range(MAX_LISTED_REFERRERS)
    ]
    registry.put_manifest(fallback_tag(lane.digest), oci.index(junk), OCI_INDEX)
    lane.publish()
    entries = listed(registry, lane.digest)
    assert entries[: len(ours)] == ours
    assert len(entries) == MAX_LISTED_REFERRERS
    body = registry.get_manifest(fallback_tag(lane.digest))
    assert body is not None and len(body) < MAX_MANIFEST_BYTES
