"""Devices in bad weather, seed by seed: nothing wrong ever runs, nothing hangs, and when it ends they arrive."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from faults.fault import Fault
from faults.journey import Grounds, impatient, poll, running, status, travel
from faults.proxy import REQUESTS, Asked, FaultProxy

SEEDS = range(6, 10)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_device_arrives_whatever_the_weather_was(grounds: Grounds, folder: Path, seed: int) -> None:
    journey = travel(grounds, seed=seed, polls=5, folder=folder)
    assert journey.wrong == ()
    assert journey.arrived
    assert journey.met, "a storm without a single fault shows nothing"


@pytest.mark.parametrize("what", REQUESTS)
def test_a_captive_portal_is_in_the_status_in_one_sentence(grounds: Grounds, folder: Path, what: str) -> None:
    grounds.serve(2)

    def weather(asked: Asked) -> Fault | None:
        return Fault("portal", "page") if asked.what == what else None

    with FaultProxy(grounds.fleet.registry.port, weather=weather) as proxy:
        device = grounds.device(folder / "device", proxy)
        told = poll(device)
        assert told.exit_code == 3
        assert told.text.count("a captive portal (login page) answers instead of") == 1
        document = status(device)
        said = document["poll"]["message"] + str(document["models"]["digit-reader"]["reason"])
        assert said.count("a captive portal (login page) answers instead of") == 1
        assert running(device) == grounds.digest(1)
        proxy.weather = lambda _asked: None
        assert poll(device).exit_code == 0
        assert running(device) == grounds.digest(2)


@pytest.mark.parametrize("after", ["120", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_busy_registry_is_left_alone_for_as_long_as_it_asks_but_not_for_ever(
    grounds: Grounds, folder: Path, after: str
) -> None:
    with FaultProxy(grounds.fleet.registry.port, weather=lambda _asked: Fault("429", after)) as proxy:
        device = grounds.device(folder / "device", proxy)
        told = poll(device)
    assert (told.exit_code, told.codes[-1]) == (3, "busy")
    assert status(device)["poll"]["retry_after_s"] == (120 if after == "120" else 6 * 3600)


@pytest.mark.parametrize(
    "failure",
    [
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
        socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure in name resolution"),
        OSError(errno.EMFILE, os.strerror(errno.EMFILE)),
        OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH)),
    ],
    ids=["no such name", "resolver away", "resolver broken", "no descriptors", "no route"],
)
def test_a_name_that_cannot_be_resolved_is_a_network_failure_that_names_the_host(
    grounds: Grounds, folder: Path, failure: OSError
) -> None:
    grounds.serve(2)
    with FaultProxy(grounds.fleet.registry.port) as proxy, impatient():
        device = grounds.device(folder / "device", proxy)
        with mock.patch.object(socket, "getaddrinfo", side_effect=failure):
            told = poll(device)
        assert (told.exit_code, told.codes[-1]) == (3, "network")
        assert proxy.url.partition("//")[2] in told.text
        assert poll(device).exit_code == 0


def test_a_name_without_any_address_and_one_that_is_none_are_told(grounds: Grounds, folder: Path) -> None:
    with FaultProxy(grounds.fleet.registry.port) as proxy, impatient():
        device = grounds.device(folder / "device", proxy)
        empty: list[Any] = []
        with mock.patch.object(socket, "getaddrinfo", return_value=empty):
            assert poll(device).codes[-1] == "network"
        for host in ("registry.invalid", "a" * 64 + ".example"):
            device.look_at(f"http://{host}/acme")
            assert poll(device).codes[-1] == "network"


def test_a_half_open_connection_costs_one_timeout_and_is_not_kept(grounds: Grounds, folder: Path) -> None:
    """The other side went away without a word, as behind a NAT that forgot: the next poll uses a new connection."""
    grounds.serve(2)
    stalled: list[Asked] = []

    def weather(asked: Asked) -> Fault | None:
        if asked.what == "manifest" and not stalled:
            stalled.append(asked)
            return Fault("stall", "before-status")
        return None

    with FaultProxy(grounds.fleet.registry.port, weather=weather) as proxy, impatient():
        device = grounds.device(folder / "device", proxy)
        assert poll(device).codes[-1] in ("network", "ok")
        assert poll(device).exit_code == 0
        assert running(device) == grounds.digest(2)
