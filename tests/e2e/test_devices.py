"""What a device promises, asked of real agent processes: it verifies, installs, keeps running, and says why not."""

from __future__ import annotations

import json
import re
import shutil
import tarfile
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest

from e2e.journey import MODEL, PI, Journey
from real import Registry


@pytest.fixture
def device(built: Journey) -> str:
    """A device that runs release 1."""
    name = built.enroll("pump-7")
    done = built.agent(name, "once")
    assert done.returncode == 0, done.stdout + done.stderr
    return name


def answers(built: Journey, device: str) -> bool:
    """Whether the device's active model answers."""
    return built.agent(device, "infer", MODEL).returncode == 0


def active(built: Journey, device: str) -> str:
    digest = built.status(device)["models"][MODEL]["active"]
    assert isinstance(digest, str)
    return digest


def test_a_device_installs_what_is_released_for_its_class_and_answers(built: Journey, device: str) -> None:
    assert active(built, device) == built.digest(PI)
    assert answers(built, device)


def test_a_registry_serves_as_well_as_layouts(on_registry: tuple[Journey, Registry]) -> None:
    published, registry = on_registry
    installs_and_answers(published, f"{registry.url}/acme")


def test_a_bundle_file_serves_as_well_as_layouts(built: Journey, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "fleet.tar", "w") as bundle:
        bundle.add(built.layouts, arcname=".")
    installs_and_answers(built, f"bundle:{tmp_path / 'fleet.tar'}")


def installs_and_answers(fleet: Journey, source: str) -> None:
    name = fleet.enroll("pump-8", source=source)
    done = fleet.agent(name, "once")
    assert done.returncode == 0, done.stdout + done.stderr
    assert active(fleet, name) == fleet.digest(PI)
    assert answers(fleet, name)


def test_a_poll_without_news_is_one_conditional_request(on_registry: tuple[Journey, Registry]) -> None:
    published, registry = on_registry
    name = published.enroll("pump-8", source=f"{registry.url}/acme")
    assert published.agent(name, "once").returncode == 0
    before = len(registry.log.read_text())
    done = published.agent(name, "once")
    assert done.returncode == 0
    assert "not modified" in done.stdout
    requests = re.findall(r'"(\S+) (\S+) HTTP/1\.1" (\d+)', registry.log.read_text()[before:])
    assert requests == [("GET", "/v2/acme/tuf/manifests/timestamp.json", "304")]


def test_an_artifact_signed_by_another_key_is_refused(built: Journey, tmp_path: Path) -> None:
    other = Journey.start(tmp_path / "other")
    assert other.edgewright("keys", "init").returncode == 0
    name = built.enroll("pump-8", key=other.fleet / ".edgewright/keys/signing.pub")
    done = built.agent(name, "once")
    assert done.returncode == 2
    status = built.status(name)["models"][MODEL]
    assert status["active"] is None
    assert status["reason"].startswith(("bad-signature", "unsigned"))
    assert not list((built.config(name).parent / "state").rglob("model.onnx")), "nothing was fetched"


def test_metadata_signed_by_another_root_is_refused(built: Journey, device: str, tmp_path: Path) -> None:
    other = Journey.start(tmp_path / "other")
    other.use_results(built)
    assert other.edgewright("keys", "init").returncode == 0
    other.release()
    shutil.rmtree(built.layouts / "tuf")
    shutil.copytree(other.layouts / "tuf", built.layouts / "tuf")
    before = active(built, device)
    done = built.agent(device, "once")
    assert done.returncode == 2, done.stdout
    assert active(built, device) == before
    assert answers(built, device)


@pytest.mark.parametrize("emptied", [False, True], ids=["with its cache", "with its cache lost"])
def test_older_metadata_is_refused(
    built: Journey, device: str, second_release: Journey, tmp_path: Path, emptied: bool
) -> None:
    old = tmp_path / "old"
    shutil.copytree(built.layouts, old)
    built.follow(second_release)
    assert built.agent(device, "once").returncode == 0
    newer = active(built, device)
    assert newer == built.digest(PI)
    shutil.rmtree(built.layouts)
    old.rename(built.layouts)
    if emptied:
        shutil.rmtree(built.config(device).parent / "state" / "tuf")
    done = built.agent(device, "once")
    assert done.returncode == 2
    assert "metadata-rollback" in done.stdout + done.stderr
    assert "metadata-rollback" in json.dumps(built.status(device))
    assert active(built, device) == newer
    assert answers(built, device)


def test_expired_metadata_installs_nothing_new_but_inference_goes_on(
    built: Journey, device: str, second_release: Journey
) -> None:
    before = active(built, device)
    built.follow(second_release)
    built.edit("fleet.yaml", r"^groups:", "trust:\n  expiry:\n    timestamp: 1s\ngroups:")
    assert built.edgewright("release", "--refresh").returncode == 0
    assert built.digest(PI) != before
    ends = json.loads((built.fleet / ".edgewright/tuf/timestamp.json").read_bytes())["signed"]["expires"]
    while datetime.now(timezone.utc) <= datetime.fromisoformat(ends):
        time.sleep(0.1)  # what is tested is the clock passing this moment
    done = built.agent(device, "once")
    assert done.returncode == 2
    assert "expired-metadata" in done.stdout + done.stderr
    assert active(built, device) == before
    assert answers(built, device)


def test_a_corrupted_byte_is_never_installed(built: Journey, device: str, second_release: Journey) -> None:
    before = active(built, device)
    built.follow(second_release)
    digest = built.digest(PI).removeprefix("sha256:")
    manifest = json.loads((built.layouts / MODEL / "blobs/sha256" / digest).read_bytes())
    runtime = manifest["layers"][1]
    blob = built.layouts / MODEL / "blobs" / runtime["digest"].replace(":", "/")
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes(data)
    done = built.agent(device, "once")
    assert done.returncode == 3
    assert "digest-mismatch" in done.stdout + done.stderr
    assert built.status(device)["models"][MODEL]["reason"].startswith("digest-mismatch")
    assert active(built, device) == before
    assert answers(built, device)


def test_a_registry_that_is_away_stops_nothing(built: Journey, device: str) -> None:
    built.layouts.rename(built.layouts.with_name("away"))
    done = built.agent(device, "once")
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert answers(built, device)


def test_a_device_without_space_says_so_and_recovers(
    built: Journey, device: str, second_release: Journey
) -> None:
    before = active(built, device)
    built.follow(second_release)
    file = built.config(device)
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "reserveBytes": 1 << 60}))
    done = built.agent(device, "once")
    assert done.returncode == 3
    assert "no-space" in done.stdout + done.stderr
    assert active(built, device) == before
    assert answers(built, device)
    file.write_text(json.dumps(config))
    assert built.agent(device, "once").returncode == 0
    assert active(built, device) == built.digest(PI)


def test_a_model_too_big_for_this_device_is_rolled_back_and_not_tried_again(
    built: Journey, device: str, second_release: Journey
) -> None:
    before = active(built, device)
    built.follow(second_release)
    file = built.config(device)
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "budget": {"peakMemoryBytes": 1}}))
    done = built.agent(device, "once")
    assert done.returncode == 2
    assert "health-over-budget" in done.stdout + done.stderr
    assert built.status(device)["state"] == "degraded"
    assert active(built, device) == before
    assert answers(built, device)
    again = built.agent(device, "once")
    assert again.returncode == 0
    assert active(built, device) == before


def test_a_person_can_go_back_and_forth(built: Journey, device: str, second_release: Journey) -> None:
    first = active(built, device)
    built.follow(second_release)
    assert built.agent(device, "once").returncode == 0
    second = active(built, device)
    assert built.agent(device, "rollback", MODEL).returncode == 0
    assert active(built, device) == first
    assert built.agent(device, "once").returncode == 0
    assert active(built, device) == first, "what was rolled back is not installed again"
    assert built.agent(device, "retry", MODEL).returncode == 0
    assert built.agent(device, "once").returncode == 0
    assert active(built, device) == second
