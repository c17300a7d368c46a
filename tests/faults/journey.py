"""A device's way from one release to the next through bad weather, drawn from a seed.

>>> journey = travel(grounds, seed=6, polls=6, folder=tmp_path)        # doctest: +SKIP
>>> journey.arrived, journey.wrong
(True, ())

While the weather lasts the agent may fail as often as it likes, if it says why; it may run nothing but what was
released. When it ends, the agent must arrive by itself.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

from attacks.device import Device, Told
from attacks.fleet import MODEL, PREFIX, Fleet
from attacks.scene import Scene
from edgewright_agent.files import Disk
from edgewright_agent.store import Store
from edgewright_agent.transport import registry as registry_module
from edgewright_agent.transport.pace import Pace
from faults.fault import Fault, drawn
from faults.proxy import Asked, FaultProxy

TIMEOUT_S = 0.15
PACE = Pace(window_s=0.15)
HANG_S = 120.0
"""A poll with these timeouts takes a second or two; what takes this long hangs."""
POLLS_UNTIL_ARRIVED = 2
"""After the weather: one poll that loads, and one more in case the first meets a connection that died long ago."""


@contextlib.contextmanager
def impatient() -> Iterator[None]:
    """Let the agent wait for fractions of a second where it waits for many on a device."""
    patient = registry_module.RegistrySource

    def made(url: str, **options: Any) -> registry_module.RegistrySource:
        return patient(url, **{**options, "timeout_s": TIMEOUT_S, "pace": PACE})

    with mock.patch.object(registry_module, "RegistrySource", made):
        yield


@dataclass(frozen=True)
class Grounds:
    """A fleet with releases on a real registry, and a device that has installed the first of them."""

    fleet: Fleet
    settled: Device

    @classmethod
    def build(cls, fleet: Fleet, folder: Path) -> Grounds:
        """Enroll a device and install the first release."""
        device = Device.enroll(folder / "device", fleet)
        Scene(fleet, device, folder).serve(1)
        told = device.once()
        assert told.exit_code == 0, told.text
        return cls(fleet, device)

    def serve(self, release: int) -> None:
        """Let the registry have a release."""
        Scene(self.fleet, self.settled, self.settled.folder).serve(release)

    def device(self, folder: Path, proxy: FaultProxy) -> Device:
        """Return a copy of the device that asks a proxy."""
        device = self.settled.copy(folder)
        device.look_at(f"{proxy.url}/{PREFIX}")
        return device

    def digest(self, release: int) -> str:
        """Return the digest of a release's artifact."""
        return self.fleet.releases[release].digest


# The class has an accelerator that this machine has not: its models stand on `next-provider`.
WELL = ("ok", "degraded")


def poll(device: Device, *words: str) -> Told:
    """Poll once; a poll that does not end is an error of the agent."""
    told: list[Told] = []
    # stdout is redirected for the whole process, so nothing else may print meanwhile.
    worker = threading.Thread(target=lambda: told.append(device.once(*words)), daemon=True)
    worker.start()
    worker.join(HANG_S)
    assert told, f"the agent hangs, or died of something it does not know: {device.folder}"
    return told[0]


def running(device: Device) -> str | None:
    """Return the digest of what applications get, read back from the disk and hashed."""
    store = Store(device.state, Disk())
    digest = store.linked(MODEL)
    return store.verify(digest).digest if digest else None


def status(device: Device) -> dict[str, Any]:
    """Return what the device says of itself."""
    told = device.agent("status", "--config", str(device.config), "--json")
    document: dict[str, Any] = json.loads(told.text)
    return document


@dataclass(frozen=True)
class Journey:
    """What one device went through.

    Attributes:
        seed: It comes out the same with the same seed, but for what the kernel decides.
        polls: Exit code and last code of each poll in bad weather.
        met: Faults that were met, with the kind of request.
        wrong: What must not be, in words.
        arrived: Whether the last release runs, without anybody's help.
    """

    seed: int
    polls: tuple[tuple[int, str], ...]
    met: tuple[tuple[str, Fault], ...]
    wrong: tuple[str, ...]
    arrived: bool

    @property
    def kinds(self) -> Counter[str]:
        """Count the faults by kind."""
        return Counter(fault.kind for _, fault in self.met)


@dataclass
class Storm:
    """Draws what befalls each answer; every request that is spared lets the agent come a little further."""

    random: Random
    share: float
    met: list[tuple[str, Fault]] = field(default_factory=list)

    def __call__(self, asked: Asked) -> Fault | None:
        if self.random.random() >= self.share:
            return None
        fault = drawn(self.random)
        self.met.append((asked.what, fault))
        return fault


def travel(grounds: Grounds, *, seed: int, polls: int, folder: Path) -> Journey:
    """Send a device from release 1 to release 2 through a storm, then let the sun shine."""
    random = Random(seed)
    storm = Storm(random, share=random.choice((0.05, 0.15, 0.4)))
    released = {grounds.digest(1), grounds.digest(2)}
    wrong: list[str] = []
    seen: list[tuple[int, str]] = []
    grounds.serve(2)
    with FaultProxy(grounds.fleet.registry.port, weather=storm) as proxy, impatient():
        device = grounds.device(folder / f"seed-{seed}", proxy)
        for number in range(polls):
            told = poll(device)
            seen.append((told.exit_code, told.codes[-1] if told.codes else ""))
            wrong += [f"poll {number}: {text}" for text in _wrong(device, told, released)]
        proxy.weather = lambda _asked: None
        for _ in range(POLLS_UNTIL_ARRIVED):
            told = poll(device)
            if told.exit_code == 0:
                break
        else:
            wrong.append(f"does not recover: {told.text}")
        arrived = running(device) == grounds.digest(2) and status(device)["state"] in WELL
    return Journey(seed, tuple(seen), tuple(storm.met), tuple(wrong), arrived)


def _wrong(device: Device, told: Told, released: set[str]) -> Iterator[str]:
    if running(device) not in released:
        yield f"runs {running(device)}, which nobody released"
    if told.exit_code not in (0, 2, 3):
        yield f"exit code {told.exit_code}: {told.text}"
    if "Traceback" in told.text:
        yield f"a traceback: {told.text}"
    document = status(device)
    code = document["poll"]["code"]
    if told.exit_code == 0 and (code not in ("ok", "not-modified") or document["state"] not in WELL):
        yield f"exit code 0, but status says {document['state']} after {code}"
    failed = {
        model["reason"].partition(" ")[0].rstrip(":")
        for model in document["models"].values()
        if model["reason"]
    }
    if told.exit_code != 0 and code in ("ok", "not-modified") and not failed:
        yield f"exit code {told.exit_code}, but status says nothing of it"
    if len(told.text.encode()) > 16 * 1024:
        yield "it says more than anybody reads"
