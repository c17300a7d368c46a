"""A release on a stick: written by the pipeline, verified and installed by a device that has no network."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from e2e.journey import MODEL, PI, Journey
from real import Registry

NOWHERE = "https://registry.invalid/acme"


def bundle_of(journey: Journey, name: str = "stick.tar", *words: str) -> Path:
    """Write a bundle for the fleet's only group."""
    out = journey.folder / name
    done = journey.edgewright("bundle", "create", "--group", "all", "--class", PI, "--out", str(out), *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def installed(journey: Journey, device: str) -> str | None:
    """Return the version a device runs."""
    models = journey.status(device)["models"]
    return models[MODEL]["version"] if MODEL in models else None


def test_a_device_without_a_network_installs_from_a_stick_and_answers(built: Journey) -> None:
    stick = bundle_of(built)
    device = built.enroll("pump-7", source=NOWHERE)
    done = built.agent(device, "install", str(stick))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{MODEL}  installed  1.0.0" in done.stdout
    answered = built.agent(device, "infer", MODEL)
    assert answered.returncode == 0, answered.stderr
    again = built.agent(device, "install", str(stick), "--json")
    assert json.loads(again.stdout.splitlines()[0])["code"] == "current"


def test_the_same_release_gives_the_same_file(built: Journey) -> None:
    assert bundle_of(built, "one.tar").read_bytes() == bundle_of(built, "two.tar").read_bytes()


def test_a_bundle_says_what_is_in_it_until_when_and_what_comes_next(built: Journey) -> None:
    told = built.edgewright("bundle", "create", "--group", "all", "--class", PI)
    assert told.returncode == 0, told.stderr
    assert (built.fleet / "all-r1.tar").is_file()
    for part in (MODEL, PI, "1.0.0", "Devices believe it until", "edgewright-agent install all-r1.tar"):
        assert part in told.stdout
    document = json.loads(built.edgewright("bundle", "create", "--group", "all", "--json").stdout)
    assert document["release"] == "r1"
    assert {entry["hardware_class"] for entry in document["artifacts"]} > {PI}


def test_a_bundle_of_a_real_registry_installs_as_one_of_layouts(
    on_registry: tuple[Journey, Registry],
) -> None:
    journey, _registry = on_registry
    stick = bundle_of(journey)
    device = journey.enroll("pump-8", source=NOWHERE)
    done = journey.agent(device, "install", str(stick))
    assert done.returncode == 0, done.stdout + done.stderr
    assert installed(journey, device) == "1.0.0"


def test_an_older_stick_is_refused_after_a_newer_one(built: Journey, second_release: Journey) -> None:
    device = built.enroll("pump-9", source=NOWHERE)
    old = bundle_of(built, "old.tar").read_bytes()
    built.follow(second_release)
    assert built.agent(device, "install", str(bundle_of(built, "new.tar"))).returncode == 0
    before = built.status(device)["models"][MODEL]["active"]
    stick = built.folder / "old-again.tar"
    stick.write_bytes(old)
    done = built.agent(device, "install", str(stick))
    assert done.returncode == 2, done.stdout + done.stderr
    assert "metadata-rollback" in done.stdout + done.stderr
    assert built.status(device)["models"][MODEL]["active"] == before


def test_a_stick_with_one_altered_byte_of_the_model_installs_nothing(built: Journey) -> None:
    stick = bundle_of(built)
    device = built.enroll("pump-10", source=NOWHERE)
    with tarfile.open(stick) as tar:
        largest = max(tar.getmembers(), key=lambda member: member.size)
    body = bytearray(stick.read_bytes())
    body[largest.offset_data + largest.size // 2] ^= 1
    stick.write_bytes(body)
    done = built.agent(device, "install", str(stick))
    assert done.returncode == 3, done.stdout + done.stderr
    assert "digest-mismatch" in done.stdout
    assert installed(built, device) is None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--group", "al"), "release r1 knows no group 'al'; did you mean 'all'?"),
        (("--group", "all", "--class", "raspberry"), "release r1 knows no hardware class 'raspberry'"),
    ],
)
def test_what_the_release_does_not_know_is_said(built: Journey, words: tuple[str, ...], told: str) -> None:
    done = built.edgewright("bundle", "create", *words)
    assert done.returncode == 1
    assert told.split(";")[0] in done.stderr


def test_a_stick_that_is_not_there_is_said(built: Journey) -> None:
    device = built.enroll("pump-11", source=NOWHERE)
    done = built.agent(device, "install", "/media/usb/nothing.tar")
    assert done.returncode == 1
    assert "no-bundle" in done.stderr and "is the stick mounted?" in done.stderr
