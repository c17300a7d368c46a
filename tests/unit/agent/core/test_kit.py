"""A kit comes from outside: what is in it is bounded, checked, and never unpacked by its own names."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

from edgewright_agent.contract import KIT_DOCUMENT, MAX_KIT_DOCUMENT_BYTES
from edgewright_agent.errors import ConfigError
from edgewright_agent.kit import Kit
from unit.agent.core import kits
from unit.agent.core.kits import MODELS, document, write


def refusal(path: Path) -> str:
    """What is said of a kit that cannot be used, when it is opened or when its first net is wanted."""
    with pytest.raises(ConfigError) as refused, Kit(path) as kit:  # noqa: PT012
        for net in kit.nets:
            kit.write(net, path.with_name("net.onnx"))
    assert (refused.value.code, refused.value.exit_code) == ("bad-kit", 1)
    return str(refused.value)


def test_a_kit_tells_its_nets_and_how_to_run_them(tmp_path: Path) -> None:
    with Kit(write(tmp_path / "kit.zip")) as kit:
        assert [net.name for net in kit.nets] == ["small-fp32", "other-fp32"]
        assert (kit.threads, kit.arena, kit.graph_optimization) == (2, True, "extended")
        assert kit.hardware_class == "raspberry-pi-4"
        assert kit.nets[0].inputs == {"image": (1, 4)}
        target = tmp_path / "net.onnx"
        kit.write(kit.nets[1], target)
        assert target.read_bytes() == MODELS["other-fp32"]


def test_a_kits_digest_does_not_depend_on_how_it_is_packed(tmp_path: Path) -> None:
    packed, stored = write(tmp_path / "a"), write(tmp_path / "b", compression=zipfile.ZIP_STORED)
    assert packed.read_bytes() != stored.read_bytes()
    with Kit(packed) as first, Kit(stored) as second:
        assert first.digest == second.digest


def test_what_is_no_kit_is_refused_in_one_sentence(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.zip"
    with zipfile.ZipFile(foreign, "w") as file:
        file.writestr("readme.txt", "hello")
    assert refusal(foreign) == f"{foreign} is not a calibration kit: no kit.json"
    text = tmp_path / "kit.txt"
    text.write_text("not a zip")
    assert "is not a whole calibration kit" in refusal(text)
    assert "No such file" in refusal(tmp_path / "missing.zip")


def test_a_truncated_or_damaged_kit_is_refused(tmp_path: Path) -> None:
    whole = write(tmp_path / "kit.zip").read_bytes()
    cut = tmp_path / "cut.zip"
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        cut.write_bytes(whole[:length])
        assert "is not a whole calibration kit" in refusal(cut)
    for place in range(40, len(whole) - 200, 37):
        cut.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            with Kit(cut) as kit:
                for net in kit.nets:
                    kit.write(net, tmp_path / "net.onnx")
        except ConfigError as error:
            assert error.code == "bad-kit"  # noqa: PT017  some bytes of a zip file mean nothing


def test_what_is_not_a_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "not a regular file" in refusal(pipe)
    assert "not a regular file" in refusal(tmp_path)
    assert "not a regular file" in refusal(Path("/dev/zero"))


def test_a_net_that_is_longer_than_it_says_is_not_read_to_its_end(tmp_path: Path) -> None:
    bomb = bytes(50_000_000)
    described = document()
    described["nets"][0]["bytes"] = 1000
    path = write(tmp_path / "kit.zip", described, {**MODELS, "small-fp32": bomb})
    assert path.stat().st_size < 100_000
    assert "small-fp32.onnx" in (said := refusal(path))
    assert "longer than 1000 bytes" in said


def test_a_description_that_never_ends_is_not_read_to_its_end(tmp_path: Path) -> None:
    endless = b"{" + b" " * (MAX_KIT_DOCUMENT_BYTES + 1)
    assert f"{KIT_DOCUMENT} in" in refusal(write(tmp_path / "kit.zip", endless))


def test_another_net_than_described_is_refused(tmp_path: Path) -> None:
    swapped = {"small-fp32": MODELS["other-fp32"], "other-fp32": MODELS["small-fp32"]}
    assert "is not the net the kit describes" in refusal(write(tmp_path / "kit.zip", document(), swapped))
    missing = write(tmp_path / "less.zip", document(), {"small-fp32": MODELS["small-fp32"]})
    assert "no nets/other-fp32.onnx" in refusal(missing)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/../b", "", "A", "x" * 64, 7])
def test_no_name_leads_anywhere(tmp_path: Path, name: Any) -> None:
    described = document()
    described["nets"][0]["name"] = name
    path = tmp_path / "kit.zip"
    with zipfile.ZipFile(write(path, described), "a") as file:
        file.writestr(f"nets/{name}.onnx", MODELS["small-fp32"])
    before = sorted(tmp_path.rglob("*"))
    assert "makes no sense" in refusal(path)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "image"},
        {"version": 2},
        {"nets": []},
        {"nets": {}},
        {"nets": [7]},
        {"nets": kits.document()["nets"] * 2},
        {"hardwareClass": "../x"},
        {"recipe": 7},
        {"runtime": {}},
        {"runtime": {**kits.document()["runtime"], "threads": 0}},
        {"runtime": {**kits.document()["runtime"], "threads": True}},
        {"runtime": {**kits.document()["runtime"], "graphOptimization": "most"}},
        {"nets": [{**kits.document()["nets"][0], "inputs": {"image": [1, 2**30]}}]},
        {"nets": [{**kits.document()["nets"][0], "inputs": {"image": [4096, 4096, 4096]}}]},
        {"nets": [{**kits.document()["nets"][0], "inputs": {"image": [-1]}}]},
        {"nets": [{**kits.document()["nets"][0], "bytes": 2**40}]},
        {"nets": [{**kits.document()["nets"][0], "digest": "md5:1"}]},
    ],
    ids=range(17),
)
def test_a_description_that_makes_no_sense_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert "makes no sense" in refusal(write(tmp_path / "kit.zip", document(**changes)))


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"[" * 100_000, b"\xff"], ids=range(5))
def test_a_description_that_is_no_object_is_refused(tmp_path: Path, body: bytes) -> None:
    assert "makes no sense" in refusal(write(tmp_path / "kit.zip", body))


def test_a_kit_with_a_password_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "kit.zip", compression=zipfile.ZIP_STORED)
    locked = bytearray(path.read_bytes())
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = locked.find(header)
        locked[place + flags] |= 1
    path.write_bytes(locked)
    assert "is damaged" in refusal(path)
