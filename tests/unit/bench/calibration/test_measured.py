"""What a device measured: read with bounds, and anything else is one clear error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgewright.bench.calibration.calibrate import check_kit, check_measured, thread_speedup
from edgewright.bench.calibration.kit import describe
from edgewright.bench.calibration.measured import Measured, read
from edgewright.bench.calibration.nets import Recipe
from edgewright.errors import BuildError
from edgewright_agent.contract import MAX_MEASURED_BYTES
from unit.bench.calibration.figures import document, net, sheet

TIMES = document()["nets"]["cnn-000-fp32"]
RECIPE = document()["kit"]["recipe"]


def understood(folder: Path, content: Any) -> Measured:
    path = folder / "measured.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read(path)


def with_times(**changed: Any) -> dict[str, Any]:
    return document(nets={"cnn-000-fp32": {**TIMES, **changed}})


def with_recipe(**changed: Any) -> dict[str, Any]:
    return document(kit={**document()["kit"], "recipe": {**RECIPE, **changed}})


def test_the_least_of_all_rounds_counts(tmp_path: Path) -> None:
    found = understood(tmp_path, document())
    times = found.nets["cnn-000-fp32"]
    assert (times.cpu_ms, times.wall_ms, times.threads_ms, times.load_ms) == (2.0, 2.3, 1.0, 8.0)
    assert times.spread == pytest.approx(0.1)
    assert found.spread == pytest.approx(0.1)


def test_a_net_that_could_not_be_run_is_told_apart(tmp_path: Path) -> None:
    found = understood(tmp_path, document())
    assert list(found.nets) == ["cnn-000-fp32"]
    assert found.failures == {"cnn-000-int8": "no kernel"}


def test_a_device_names_itself_in_one_printable_line(tmp_path: Path) -> None:
    found = understood(tmp_path, document(processor="A\x1b[31m\nboard\u202e " + "x" * 500))
    assert found.processor.startswith("A [31m board x")
    assert len(found.processor) == 200


@pytest.mark.parametrize(
    "content",
    [
        "",
        json.dumps(document())[:-40],
        "[" * 100_000,
        "[]",
        "null",
        '{"kind": "another"}',
        document(kind="edgewright-calibration-kit"),
        document(version=2),
        document(nets={}),
        document(nets=[]),
        document(nets={"a": {"failure": "no kernel"}}),
        document(nets={"a": None}),
        document(nets={str(number): TIMES for number in range(2001)}),
        document(processor=7),
        document(threads="many"),
        json.dumps(document(threads=0)).replace('"threads": 0', '"threads": 1e999'),
        {key: value for key, value in document().items() if key != "kit"},
        with_times(cpuMs=[]),
        with_times(cpuMs=[0]),
        with_times(cpuMs=[-1.0]),
        with_times(cpuMs=[True]),
        with_times(cpuMs=["1"]),
        with_times(cpuMs=[float("nan")]),
        with_times(cpuMs=[float("inf")]),
        with_times(cpuMs=[10**400]),
        with_recipe(nets=10**9),
        with_recipe(nets=0),
        with_recipe(seed=-1),
        with_recipe(seed=None),
    ],
)
def test_another_document_is_one_error_that_says_what_writes_one(tmp_path: Path, content: Any) -> None:
    with pytest.raises(
        BuildError, match=r"measured\.json is not a calibration that a device measured"
    ) as caught:
        understood(tmp_path, content)
    assert caught.value.hint == "edgewright-agent calibrate KIT --out FILE writes one"


def test_a_file_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="too large"):
        understood(tmp_path, " " * (MAX_MEASURED_BYTES + 1))


def test_bytes_that_are_no_text_are_not_a_calibration(tmp_path: Path) -> None:
    (tmp_path / "measured.json").write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(BuildError, match="not a calibration that a device measured"):
        read(tmp_path / "measured.json")


def test_a_missing_file_and_a_folder_say_so(tmp_path: Path) -> None:
    for path in (tmp_path / "measured.json", tmp_path):
        with pytest.raises(BuildError, match="cannot be read"):
            read(path)


def test_what_was_measured_for_another_class_is_refused(tmp_path: Path) -> None:
    found = understood(tmp_path, document())
    check_measured("raspberry-pi-4", sheet("raspberry-pi-4"), found)
    with pytest.raises(BuildError, match="measured for raspberry-pi-4, not for medical-cart-cpu"):
        check_measured("medical-cart-cpu", sheet("medical-cart-cpu"), found)


def test_what_was_measured_on_another_architecture_is_refused(tmp_path: Path) -> None:
    found = understood(tmp_path, document(machine="x86_64", processor="A desktop"))
    with pytest.raises(BuildError, match="A desktop is amd64 and raspberry-pi-4 is arm64"):
        check_measured("raspberry-pi-4", sheet("raspberry-pi-4"), found)


def test_what_was_measured_of_another_kit_is_refused(tmp_path: Path) -> None:
    kit = describe("raspberry-pi-4", sheet("raspberry-pi-4"), Recipe(nets=1), [net("cnn-000-fp32")])
    same = document(kit={**document()["kit"], "digest": kit.digest})
    check_kit(kit, understood(tmp_path, same))
    with pytest.raises(BuildError, match="cannot be made again") as caught:
        check_kit(kit, understood(tmp_path, document()))
    assert "calibrate raspberry-pi-4 --kit" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("threads_ms", "threads", "speedup"),
    [([1.0], 3, 2.3), ([9.0], 3, 1.0), ([0.1], 3, 3.0), ([1.0], 1, None), ([], 3, None)],
)
def test_threads_are_no_slower_than_one_and_no_faster_than_their_number(
    tmp_path: Path, threads_ms: list[float], threads: int, speedup: float | None
) -> None:
    assert thread_speedup(understood(tmp_path, with_times(threadsMs=threads_ms)), threads) == speedup
