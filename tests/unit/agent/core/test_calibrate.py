"""`edgewright-agent calibrate`: a kit is read with bounds, its nets are measured, the document is whole or absent."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgewright.bench.calibration.measured import read
from edgewright_agent import contract
from edgewright_agent.calibrate import noise
from edgewright_agent.cli import main
from edgewright_agent.contract import KIT_DOCUMENT, KIT_KIND, canonical_json, digest_of
from edgewright_agent.kit import Kit

Entries = list[tuple[str, bytes]]


def tiny_net() -> bytes:
    helper = onnx.helper
    weights = onnx.numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 4]) for name in ("x", "y")]
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "tiny", ends[:1], ends[1:], [weights])
    opset = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())


NET = tiny_net()


def described(*bodies: bytes, **changed: Any) -> dict[str, Any]:
    nets = [
        {"name": f"net-{number}", "digest": digest_of(body), "bytes": len(body), "inputs": {"x": [1, 4]}}
        for number, body in enumerate(bodies)
    ]
    return {
        "kind": KIT_KIND,
        "version": 1,
        "hardwareClass": "board",
        "recipe": {"seed": 1, "nets": 1, "reduceRange": False},
        "runtime": {"versions": ">=1.20,<2", "threads": 1, "arena": True, "graphOptimization": "extended"},
        "nets": nets,
        **changed,
    }


def packed(entries: Entries, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name that is there twice
        for name, body in entries:
            file.writestr(name, body)
    return buffer.getvalue()


def kit(*, net: bytes = NET, compression: int = zipfile.ZIP_DEFLATED, **changed: Any) -> bytes:
    document = canonical_json(described(NET, **changed))
    return packed([(KIT_DOCUMENT, document), ("nets/net-0.onnx", net)], compression)


def named(name: Any, **changed: Any) -> list[dict[str, Any]]:
    entry = {"name": name, "digest": digest_of(NET), "bytes": len(NET), "inputs": {"x": [1, 4]}, **changed}
    return [entry]


def runtime(**changed: Any) -> dict[str, Any]:
    return {**described(NET)["runtime"], **changed}


@pytest.fixture
def calibrate(tmp_path: Path) -> Callable[[bytes], int]:
    """Run the command on a kit of these bytes."""

    def run(body: bytes) -> int:
        (tmp_path / "kit.zip").write_bytes(body)
        words = [str(tmp_path / "kit.zip"), "--out", str(tmp_path / "measured.json"), "--rounds", "1"]
        return main(["calibrate", *words])

    return run


LZMA = kit(compression=zipfile.ZIP_LZMA)
BAD = {
    "empty": b"",
    "not a zip": b"nets and more nets",
    "truncated": kit()[:-30],
    "cut in its middle": kit()[: len(kit()) // 2],
    "no kit.json": packed([("nets/net-0.onnx", NET)]),
    "kit.json elsewhere": packed([("a/../kit.json", canonical_json(described(NET)))]),
    "kit.json is no JSON": packed([(KIT_DOCUMENT, b"{")]),
    "kit.json is a list": packed([(KIT_DOCUMENT, b"[]")]),
    "kit.json is deep": packed([(KIT_DOCUMENT, b"[" * 100_000)]),
    "kit.json is a bomb": packed([(KIT_DOCUMENT, b" " * (contract.MAX_KIT_DOCUMENT_BYTES + 1))]),
    "another kind": kit(kind="something"),
    "another version": kit(version=2),
    "no nets": kit(nets=[]),
    "too many nets": kit(nets=named("a") * 2001),
    "two nets of one name": kit(nets=named("net-0") * 2),
    "a name that climbs": kit(nets=named("../../net-0")),
    "an absolute name": kit(nets=named("/etc/net-0")),
    "a name that is a number": kit(nets=named(7)),
    "a digest that is none": kit(nets=named("net-0", digest="sha256:")),
    "a net larger than any": kit(nets=named("net-0", bytes=contract.MAX_KIT_NET_BYTES + 1)),
    "an input larger than any": kit(nets=named("net-0", inputs={"x": [4096, 4096, 4096]})),
    "an input of nine dimensions": kit(nets=named("net-0", inputs={"x": [1] * 9})),
    "an input without a size": kit(nets=named("net-0", inputs={"x": [None]})),
    "a range of versions that is none": kit(runtime=runtime(versions="soon")),
    "no threads": kit(runtime=runtime(threads=0)),
    "an unknown optimization": kit(runtime=runtime(graphOptimization="most")),
    "a class with an illegal name": kit(hardwareClass="../board"),
    "a net that is missing": packed([(KIT_DOCUMENT, canonical_json(described(NET)))]),
    "a net that is another": kit(net=NET[:-1] + b"?"),
    "a net that is a bomb": kit(net=b"\0" * 50_000_000),
    "a net that is too short": kit(net=NET[:-1]),
    "packed by a method no kit uses": LZMA,
    "damaged in such a method": LZMA[:50] + b"\xff" * 8 + LZMA[58:],
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_what_is_no_kit_is_one_line_and_no_file(
    calibrate: Callable[[bytes], int], body: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert calibrate(body) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("edgewright-agent: bad-kit: ")
    assert "kit.zip" in last
    assert [path.name for path in tmp_path.iterdir()] == ["kit.zip"]


def test_of_two_entries_with_one_name_only_the_one_with_the_digest_is_taken(tmp_path: Path) -> None:
    document = (KIT_DOCUMENT, canonical_json(described(NET)))
    for bodies, whole in (((b"other", NET), True), ((NET, b"other"), False)):
        entries = [document, *(("nets/net-0.onnx", body) for body in bodies)]
        (tmp_path / "kit.zip").write_bytes(packed(entries))
        with Kit(tmp_path / "kit.zip") as opened:
            if whole:
                opened.write(opened.nets[0], tmp_path / "net.onnx")
                assert (tmp_path / "net.onnx").read_bytes() == NET
            else:
                with pytest.raises(Exception, match="not the net the kit describes"):
                    opened.write(opened.nets[0], tmp_path / "net.onnx")


def test_other_entries_of_the_file_are_written_nowhere(
    calibrate: Callable[[bytes], int], tmp_path: Path
) -> None:
    document = (KIT_DOCUMENT, canonical_json(described(NET)))
    entries = [document, ("nets/net-0.onnx", NET), ("../escaped", b"x"), (str(tmp_path / "absolute"), b"x")]
    assert calibrate(packed(entries)) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kit.zip", "measured.json"]
    assert not (tmp_path.parent / "escaped").exists()


def test_a_missing_kit_and_a_folder_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (tmp_path / "kit.zip", tmp_path):
        assert main(["calibrate", str(path), "--out", str(tmp_path / "measured.json")]) == 1
        assert capsys.readouterr().err.startswith("edgewright-agent: bad-kit: ")


def test_a_place_that_cannot_be_written_is_told_before_the_kit_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for out in (tmp_path, tmp_path / "nowhere" / "measured.json"):
        assert main(["calibrate", str(tmp_path / "no-kit.zip"), "--out", str(out)]) == 1
        assert "edgewright-agent: bad-out: " in capsys.readouterr().err


@pytest.mark.parametrize("rounds", ["0", "21", "-1", "two", "1.5"])
def test_rounds_are_a_number_from_1_to_20(rounds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["calibrate", "kit.zip", "--out", "measured.json", "--rounds", rounds])
    assert "is not a number from 1 to 20" in capsys.readouterr().err


def test_another_engine_than_the_class_runs_is_refused(
    calibrate: Callable[[bytes], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert calibrate(kit(runtime=runtime(versions=">=99"))) != 0
    assert "runtime-version: the class runs onnxruntime >=99" in capsys.readouterr().err
    assert not (tmp_path / "measured.json").exists()


def test_what_a_device_measured_is_what_the_pipeline_reads(
    calibrate: Callable[[bytes], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = b"not a net"
    document = canonical_json(described(NET, broken))
    entries = [(KIT_DOCUMENT, document), ("nets/net-0.onnx", NET), ("nets/net-1.onnx", broken)]
    assert calibrate(packed(entries)) == 0
    said = capsys.readouterr().out
    assert "2 nets on" in said and ", 1 could not run here" in said
    assert "next, in the fleet's repository: edgewright calibrate board --measured FILE" in said
    found = read(tmp_path / "measured.json")
    assert (found.hardware_class, found.kit, found.rounds) == ("board", digest_of(document), 1)
    assert list(found.nets) == ["net-0"]
    assert found.nets["net-0"].threads_ms is None  # the class has one thread
    assert "net-1" in found.failures


def test_a_kit_of_which_nothing_runs_gives_no_document(
    calibrate: Callable[[bytes], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = b"not a net"
    entries = [(KIT_DOCUMENT, canonical_json(described(broken))), ("nets/net-0.onnx", broken)]
    (tmp_path / "measured.json").write_text("of last time")
    assert calibrate(packed(entries)) == 3
    assert "nothing-measured: no net of the kit ran here" in capsys.readouterr().err
    assert (tmp_path / "measured.json").read_text() == "of last time"


def test_a_document_takes_the_place_of_an_older_one_whole(
    calibrate: Callable[[bytes], int], tmp_path: Path
) -> None:
    (tmp_path / "measured.json").write_text("x" * 100_000)
    assert calibrate(kit()) == 0
    assert json.loads((tmp_path / "measured.json").read_text())["kind"] == contract.MEASURED_KIND


def test_inputs_are_noise_that_is_the_same_everywhere_and_other_every_turn() -> None:
    first = noise([1, 3, 50], 0)
    assert first.shape == (1, 3, 50)
    assert (first == noise([1, 3, 50], 0)).all()
    assert not (first == noise([1, 3, 50], 1)).any()
    assert -1 <= first.min() < -0.8 and 0.8 < first.max() < 1
