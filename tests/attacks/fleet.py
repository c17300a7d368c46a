"""The fleet under attack: real keys, real metadata, small models that really answer, published to a real registry.

>>> fleet = Fleet.build(folder, registry)            # doctest: +SKIP
>>> fleet.releases                                   # doctest: +SKIP
{1: Release(number=1, digest='sha256:…', …), 2: …, 3: …}

Three releases are made once, by the pipeline's own functions. What the registry holds after each of them is kept, so
that a test can put any of them, or a tampered copy, in front of a device.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from edgewright.trust.assignment import PublishedLane
from real import Registry
from unit.agent.core.onnx_artifact import WEIGHTS, files
from unit.publish.lane import LaneFiles, write_key
from unit.trust.fleet import SmallFleet

MODEL, OTHER_MODEL = "digit-reader", "vibration-monitor"
PI, CART = "raspberry-pi-4", "medical-cart-cpu"
PREFIX = "acme"
RELEASES = (1, 2, 3)
GROUPS: tuple[dict[str, Any], ...] = (
    {
        "name": "canary",
        "selector": {"matchLabels": {"ring": "canary"}},
        "models": ({"model": MODEL}, {"model": OTHER_MODEL}),
    },
    {"name": "all", "models": ({"model": MODEL},)},
)
TRUST: dict[str, Any] = {
    "roles": {
        "root": {"threshold": 2, "keys": ("root-a", "root-b", "root-c")},
        "classes": {CART: {"keys": ("cart",)}},
    }
}
"""Two of three people sign root; one hardware class belongs to somebody else than the others."""

AUDITOR = "auditor/signing.pub"
POLICY: dict[str, Any] = {
    "signers": (
        {"name": "release", "publicKey": ".edgewright/keys/signing.pub"},
        {"name": "auditor", "publicKey": AUDITOR},
    ),
    "demands": (
        {"attestation": "signature", "signers": ("release",)},
        {"attestation": "gate-report", "signers": ("release",)},
        {"attestation": "provenance", "signers": ("release",)},
        {"attestation": "bom", "signers": ("release", "auditor")},
    ),
}
"""From release 2 on; release 1 has what a fleet without a policy demands. The auditor may make nothing but bills."""

SIGNING = {"privateKey": "file:.edgewright/keys/signing.key", "publicKey": ".edgewright/keys/signing.pub"}


@dataclass(frozen=True)
class Release:
    """What one release left behind.

    Attributes:
        number: 1, 2, 3.
        digest: The artifact for the device's model and class.
        metadata: Copy of the fleet's metadata folder.
        storage: Copy of everything the registry stored.
        layouts: The same release as a directory of OCI layouts.
        lanes: What was published for it.
        more: What fleet.yaml said beside trust and groups.
    """

    number: int
    digest: str
    metadata: Path
    storage: Path
    layouts: Path
    lanes: dict[str, dict[str, PublishedLane]]
    more: dict[str, Any]


@dataclass
class Fleet:
    """A fleet whose every private key lies in `keys`; which of them an attacker has, each attack says."""

    folder: Path
    registry: Registry
    made: SmallFleet = field(init=False)
    releases: dict[int, Release] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.made = SmallFleet(
            self.folder / "fleet",
            url=self.url,
            groups=GROUPS,
            classes=(CART, PI),
            models=(MODEL, OTHER_MODEL),
            trust=TRUST,
        )
        write_key(self.made.root / "auditor")

    @property
    def url(self) -> str:
        """Where devices look."""
        return f"{self.registry.url}/{PREFIX}"

    @property
    def keys(self) -> Path:
        """The folder of all private keys."""
        return self.made.root / ".edgewright" / "keys"

    @classmethod
    def build(cls, folder: Path, registry: Registry) -> Fleet:
        """Make the fleet and its releases, an hour apart, the last one now."""
        fleet = cls(folder, registry)
        moment = datetime.now(UTC)
        for number in RELEASES:
            fleet._release(number, moment - timedelta(hours=RELEASES[-1] - number))
        # From here on the storage is a link: to one of the copies, or to a tampered one.
        registry.storage.rename(folder / "storage-of-the-releases")
        registry.storage.symlink_to(fleet.releases[RELEASES[-1]].storage)
        return fleet

    def lane(self, model: str, hardware_class: str, number: int, **changes: Any) -> LaneFiles:
        """Return a lane of this fleet as the earlier stages leave it: its model differs from release to release."""
        return lane(
            self.made.root,
            self.url,
            model,
            hardware_class,
            scale=_scale(model, number),
            number=number,
            **changes,
        )

    def _release(self, number: int, moment: datetime) -> None:
        layouts = self.folder / "layouts"
        for model in self.made.models:
            for hardware_class in self.made.classes:
                if number > RELEASES[0] and (model, hardware_class) != (MODEL, PI):
                    continue  # what other devices run stays what it is
                made = self.lane(model, hardware_class, number, signing=SIGNING)
                published = made.all().facts
                replace(made, registry={"url": f"oci:{layouts}"}).publish()
                self.made.lanes.setdefault(model, {})[hardware_class] = PublishedLane(
                    str(published["digest"]), int(str(published["size"])), made.model_version, model
                )
        self.made.now = moment
        self.made.more = {"policy": POLICY} if number > 1 else {}
        self.made.release()
        self.made.url = f"oci:{layouts}"  # the same once more, for bundle files
        self.made.release()
        self.made.url = self.url
        kept = {name: self.folder / f"release-{number}-{name}" for name in ("tuf", "storage", "layouts")}
        for name, source in (
            ("tuf", self.made.metadata),
            ("storage", self.registry.storage),
            ("layouts", layouts),
        ):
            shutil.copytree(source, kept[name])
        self.releases[number] = Release(
            number,
            self.made.lanes[MODEL][PI].digest,
            kept["tuf"],
            kept["storage"],
            kept["layouts"],
            {model: dict(classes) for model, classes in self.made.lanes.items()},
            dict(self.made.more),
        )


def lane(
    root: Path, url: str, model: str, hardware_class: str, *, scale: float, number: int = 9, **changes: Any
) -> LaneFiles:
    """Return a lane in any folder, signed by whatever keys lie there: an attacker's workshop has one too."""
    content = files(weights=WEIGHTS * scale)
    made = LaneFiles(
        root,
        registry={"url": url},
        model=model,
        hardware_class=hardware_class,
        model_version=f"{number}.0.0",
        weights=content["model.onnx"],
        **changes,
    )
    made.give("optimized", "runtime.json", content["runtime.json"])
    for name in ("golden.json", "labels.json"):
        made.give("evaluated", name, content[name])
    return made


def _scale(model: str, number: int) -> float:
    return (1.0 if model == MODEL else 0.5) + number / 10
