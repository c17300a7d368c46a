"""Every fault, in every place, on every kind of request: a right answer or a documented error, nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from attacks.fleet import MODEL, PREFIX
from edgewright_agent.contract import digest_of
from edgewright_agent.errors import TransportError
from edgewright_agent.transport import Source
from edgewright_agent.transport.registry import RegistrySource
from faults.fault import EVERY, Fault
from faults.journey import PACE, TIMEOUT_S, Grounds
from faults.proxy import REQUESTS, FaultProxy

Ask = Callable[[Source], Any]

# What each kind may come to; nothing: only the right answer will do.
_CODES = {
    "reset": {"network", "truncated"},
    "truncate": {"network", "truncated", "bad-response", "not-found"},
    "stall": {"network"},
    "drip": {"too-slow", "network"},
    "429": {"busy"},
    "503": {"busy"},
    "portal": {"captive-portal"},
    "length": {"truncated", "too-large", "bad-response", "network", "digest-mismatch"},
    "range": {"bad-response"},
    "status": {"network", "not-found", "bad-response"},
}


def _requests(grounds: Grounds) -> dict[str, Ask]:
    """Return how each kind of request is made."""
    digest = grounds.digest(2)
    with_layers = RegistrySource(grounds.fleet.url)
    manifest = with_layers.manifest(MODEL, digest)
    assert manifest is not None
    layer = max(json.loads(manifest.body)["layers"], key=lambda entry: entry["size"])
    with_layers.close()

    def blob(source: Source) -> bytes:
        return b"".join(source.blob(MODEL, layer["digest"], size=layer["size"], offset=layer["size"] // 3))

    return {
        "timestamp": lambda source: source.manifest("tuf", "timestamp.json"),
        "metadata": lambda source: source.manifest("tuf", "1.root.json"),
        "manifest": lambda source: source.manifest(MODEL, digest),
        "blob": blob,
        "referrers": lambda source: source.referrers(MODEL, digest),
    }


@pytest.mark.parametrize("what", REQUESTS)
def test_a_fault_is_survived_or_told_and_never_believed(grounds: Grounds, what: str) -> None:
    """One test per kind of request: what it takes to set it up is more than what a fault takes."""
    grounds.serve(2)
    ask = _requests(grounds)[what]
    honest = RegistrySource(grounds.fleet.url)
    right = ask(honest)
    fault: list[Fault | None] = [None]
    problems: list[str] = []
    with FaultProxy(grounds.fleet.registry.port, weather=lambda _asked: fault[0]) as proxy:
        for each in EVERY:
            fault[0] = each
            source = RegistrySource(f"{proxy.url}/{PREFIX}", timeout_s=TIMEOUT_S, pace=PACE)
            try:
                given = ask(source)
            except TransportError as error:
                if each.kind != "corrupt" and error.code not in _CODES[each.kind]:
                    problems.append(f"{each}: {error.code}: {error}")
            except Exception as error:  # noqa: BLE001  anything else is what this test looks for
                problems.append(f"{each}: {error!r}")
            else:
                if not _honest(what, each, given, right):
                    problems.append(f"{each}: another answer")
            fault[0] = None
            try:
                if ask(source) != right:
                    problems.append(f"{each}: another answer after the fault")
            except TransportError as error:
                problems.append(f"{each}: and afterwards {error.code}: {error}")
            source.close()
    honest.close()
    assert not problems, "\n".join(problems)


def _honest(what: str, fault: Fault, given: Any, right: Any) -> bool:
    """Whether an answer may be given: what is named by a digest must be right, the rest is verified by who asks."""
    if given == right or (what == "blob" and fault.kind == "corrupt"):
        return True  # whoever asks for a blob hashes it: see `download`
    if what in ("timestamp", "metadata"):
        return given is not None and given.digest == digest_of(given.body)
    return what == "referrers" and fault.kind in (
        "corrupt",
        "status",
    )  # a list that anybody could have written


@pytest.mark.parametrize("detail", ["page", "redirect", "511"])
@pytest.mark.parametrize("what", REQUESTS)
def test_a_captive_portal_is_called_one_in_one_sentence(grounds: Grounds, what: str, detail: str) -> None:
    grounds.serve(2)
    ask = _requests(grounds)[what]
    with FaultProxy(grounds.fleet.registry.port, weather=lambda _asked: Fault("portal", detail)) as proxy:
        host = proxy.url.partition("//")[2]
        source = RegistrySource(f"{proxy.url}/{PREFIX}", timeout_s=2.0)
        with pytest.raises(TransportError) as told:
            ask(source)
        source.close()
    assert told.value.code == "captive-portal"
    assert str(told.value) == (
        f"a captive portal (login page) answers instead of {host}: "
        "log in to this network, or let the device through"
    )
