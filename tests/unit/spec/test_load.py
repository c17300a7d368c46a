from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgewright.spec.load import load_fleet
from edgewright.spec.problem import InvalidSpec
from edgewright.spec.source import Mark

from .conftest import MODEL, SHEET, Repository, only, problems_of

BOARD = "hardware/board.yaml"
READER = "models/reader/model.yaml"


def test_a_valid_repository_becomes_a_workspace(repository: Repository) -> None:
    workspace = load_fleet(repository.root)
    assert workspace.fleet.groups[0].models[0].model == "reader"
    assert workspace.hardware["board"].limits.latency.p95 == 40.0
    assert workspace.hardware["board"].runtime.providers == ("CPUExecutionProvider",)
    assert workspace.models["reader"].signature.inputs[0].shape == ("batch", 1, 8, 8)
    assert workspace.lanes() == [("reader", "board")]


def test_every_value_has_its_line(repository: Repository) -> None:
    workspace = load_fleet(repository.root)
    assert workspace.line(BOARD, ("limits", "latency", "p95")) == f"{BOARD}:18"
    assert workspace.at(BOARD, ("limits", "latency", "p95")) == Mark(18, 5, 3)
    assert workspace.line("fleet.yaml", ("groups", 0, "models", 0, "model")) == "fleet.yaml:9"


def test_what_is_not_written_has_no_line_but_a_place(repository: Repository) -> None:
    workspace = load_fleet(repository.root)
    assert workspace.line(BOARD, ("runtime", "arena")) is None
    assert workspace.line("hardware/absent.yaml", ("limits",)) is None
    assert workspace.at(BOARD, ("runtime", "arena")) == workspace.at(BOARD, ("runtime",))


def test_a_model_may_choose_its_classes(repository: Repository) -> None:
    repository.write("hardware/second.yaml", SHEET)
    repository.append(READER, "classes: [second]\n")
    assert load_fleet(repository.root).lanes() == [("reader", "second")]


def test_a_missing_fleet_file_is_said_without_a_machine_path(repository: Repository) -> None:
    (repository.root / "fleet.yaml").unlink()
    assert only(repository) == "fleet.yaml:1:1: there is no such file; create it in repository"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("memory:", "memroy:", "4:1: unknown key 'memroy'; did you mean 'memory'?"),
        ("p95: 40ms", "p95: 40", "18:10: a duration needs a unit; write 40ms"),
        ("kind: sd,", "kind: emcc,", "5:17: 'emcc' is not one of sd, emmc, ssd, nvme; did you mean 'emmc'?"),
        ("isa: [neon]", "isa: [nean]", "3:70: 'nean' is not known here; did you mean 'neon'?"),
        ("cores: 4", 'cores: "4"', "3:46: must be a whole number, not '4'; write 4 without quotes"),
        ("cores: 4", "cores: 4.5", "3:46: must be a whole number, not the number 4.5"),
        ("threads: 2", "threads: 0", "12:12: must be at least 1, not the number 0"),
        ("threads: 2", "arena: yes", "12:10: must be true or false, not 'yes'; write true"),
        ("precisions: [int8, fp32]", "precisions: []", "13:13: must have at least 1 item"),
        ("precisions: [int8, fp32]", "precisions: int8", "13:13: must be a list, not 'int8'; write [int8]"),
        (
            "description: A board.",
            "description: 5",
            '2:14: must be text, not the number 5; put it in quotes: "5"',
        ),
        ("description: A board.", "description:", "2:13: must be text, not empty"),
        ("version: 1\n", "version: 2\n", "1:10: must be 1, not the number 2"),
        ("  peakMemory: 256MiB\n", "", "14:1: missing key 'peakMemory'"),
        (
            "power: {budget: 15W, source: mains}",
            "power: 15W",
            "6:8: must be a mapping (key: value), not '15W'",
        ),
        ("{budget: 15W, source: mains}", "[]", "6:8: must be a mapping (key: value), not a list"),
        ('">=1.20,<2"', '">=1.20 <2"', "10:13: must be a version range (PEP 440), such as >=1.20,<2"),
        ('">=1.20,<2"', '"~=1"', "10:13: this is not a PEP 440 version range; write >=1.20,<2"),
        ("p99: 60ms", "p99: 30ms", "19:10: p99 is below p95 (40ms); write at least 40ms"),
        (
            "peakMemory: 256MiB",
            "peakMemory: 256MiB\n  instructions: {inference: 2.5m}",
            "21:29: 2.5m is not a count; write 2.5M",
        ),
        (
            "peakMemory: 256MiB",
            "peakMemory: 256MiB\n  regression: 1",
            "21:15: a share needs a unit; write 1%",
        ),
        ("forModels: 1GiB", "forModels: 8GiB", "4:34: models cannot have more than the whole memory (4GiB)"),
        (
            "peakMemory: 256MiB",
            "peakMemory: 2GiB",
            "20:15: more than the memory left to models (memory.forModels: 1GiB)",
        ),
        ("diskReserve: 1GB", "diskReserve: 32GB", "24:16: the reserve leaves no storage for models"),
        (
            "artifactSize: 32MB",
            "artifactSize: 16GB",
            "15:17: two of this size do not fit in 31GB (storage.capacity less diskReserve)",
        ),
        (
            "isa: [neon]",
            "isa: [avx2]",
            "3:70: 'avx2' is not an extension of arm64; it has: neon, asimdhp, asimddp, i8mm, bf16, sve",
        ),
        (
            "[CPUExecutionProvider]",
            "[XnnpackExecutionProvider]",
            "11:15: the last provider must be CPUExecutionProvider; add it",
        ),
        (
            "[CPUExecutionProvider]",
            "[CUDAExecutionProvider, CPUExecutionProvider]",
            "11:15: CUDAExecutionProvider needs an accelerator and the sheet has none; "
            "describe it under 'accelerator'",
        ),
        ("threads: 2", "threads: 5", "12:12: more threads than cores (cpu.cores: 4)"),
        (
            "method: qemu-user, cpu: cortex-a72",
            "method: declared",
            "21:21: 'declared' is for accelerators and the sheet has none; write qemu-user or native",
        ),
        (
            ", cpu: cortex-a72}",
            "}",
            "21:21: qemu-user needs a CPU model; add 'cpu', for example cortex-a72",
        ),
        (
            ", cpu: cortex-a72}",
            ", cpu: cortex-a72, calibration: measured, calibratedOn: today}",
            "21:62: 'measured' without figures; add cyclesByKind",
        ),
        (
            ", cpu: cortex-a72}",
            ", cpu: cortex-a72, calibration: measured, cyclesPerInstruction: {fp32: 1.3, int8: 1.6}}",
            "21:62: 'measured' does not say where and when; add calibratedOn",
        ),
        (
            ", cpu: cortex-a72}",
            ", cpu: cortex-a72, threadSpeedup: 2.5}",
            "21:64: more than the threads that run (runtime.threads: 2)",
        ),
        (
            ", cpu: cortex-a72}",
            ", cpu: cortex-a72, cyclesPerInstruction: {fp32: 0, int8: 1}}",
            "21:78: must be more than 0.0, not the number 0",
        ),
        ("maxBackoff: 6h", "maxBackoff: 6m", "23:37: shorter than the interval (15m)"),
        (
            "throttleAt: 80C",
            "throttleAt: 40C",
            "7:58: not above the hottest surroundings (ambientMax: 50C)",
        ),
        ("[int8, fp32]", "[int8, int8]", "13:20: 'int8' is here twice"),
    ],
)
def test_a_wrong_sheet_says_what_is_wrong(repository: Repository, old: str, new: str, message: str) -> None:
    repository.edit(BOARD, old, new)
    assert only(repository) == f"{BOARD}:{message}"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "modelVersion: 1.0.0",
            "modelVersion: v1",
            "2:15: must be a version of three numbers, such as 1.0.0",
        ),
        (
            "network:build",
            "netwrk:build",
            "5:20: there is no file models/reader/netwrk.py; did you mean 'network'?",
        ),
        (
            "network:build",
            "network:buidl",
            "5:20: models/reader/network.py has no 'buidl'; did you mean 'build'?",
        ),
        ("network:build", "network.build", "5:20: must be module:function, such as network:build"),
        (
            "path: weights.safetensors",
            "path: weigths.safetensors",
            "7:9: there is no file models/reader/weigths.safetensors; did you mean 'weights.safetensors'?",
        ),
        (
            "path: weights.safetensors",
            "path: ../../../etc/weights",
            "7:9: this path leaves the model's folder; put the file beside model.yaml",
        ),
        (
            "path: weights.safetensors",
            "path: /etc/hostname",
            "7:9: this path leaves the model's folder; put the file beside model.yaml",
        ),
        (
            "path: weights.safetensors",
            "path: C:\\weights",
            "7:9: this path leaves the model's folder; put the file beside model.yaml",
        ),
        ("  path: weights.safetensors\n", "", "6:1: neither 'path' nor 'uri'; add one of them"),
        (
            "  path: weights.safetensors\n",
            "  path: weights.safetensors\n  uri: https://models.example/reader\n",
            "8:3: both 'path' and 'uri'; keep one of them",
        ),
        ('0000000"', '"', "8:11: must be 64 hexadecimal digits in lower case"),
        (
            '0000000"',
            'ABCDEF0"',
            f"8:11: must be 64 hexadecimal digits in lower case; write {'0' * 57}abcdef0",
        ),
        ("shape: [batch, 1", "shape: [1, 1", "11:29: the first dimension must be 'batch'; write [batch, …]"),
        (
            "shape: [batch, 1",
            "shape: [batch, batch",
            "11:36: only the first dimension is 'batch'; write a number",
        ),
        ("shape: [batch, 1", "shape: [batch, 0", "11:36: must be at least 1 or batch, not the number 0"),
        ("shape: [batch, 1", "shape: [bacth, 1", "11:29: must be a whole number or batch, not 'bacth'"),
        ("name: logits", "name: image", "13:14: another tensor is called 'image'; names must differ"),
        ('labels: ["0", "1"]', 'labels: ["0"]', "14:1: 1 labels for 2 values of 'logits'"),
        ('labels: ["0", "1"]', 'labels: ["0", "0"]', "14:15: '0' is already label 0"),
        (
            'labels: ["0", "1"]',
            'labels: ["0", 1]',
            '14:15: must be text, not the number 1; put it in quotes: "1"',
        ),
        ("floor: 0.9", "floor: 90%", "16:17: must be a number, not '90%'; write 0.9"),
        ("floor: 0.9", "floor: 9", "16:17: must be at most 1.0, not the number 9"),
    ],
)
def test_a_wrong_model_says_what_is_wrong(repository: Repository, old: str, new: str, message: str) -> None:
    repository.edit(READER, old, new)
    assert only(repository) == f"{READER}:{message}"


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ('train: {entry: "data:calibration"}', "17:1: both 'checkpoint' and 'train'; keep one of them"),
        (
            "classes: [baord]",
            "17:11: there is no hardware class 'baord' (hardware/baord.yaml); did you mean 'board'?",
        ),
        ("classes: [board, board]", "17:18: 'board' is here twice"),
        (
            "overrides: [{hardwareClass: baord, metric: {floor: 0.8}}]",
            "17:29: there is no hardware class 'baord' (hardware/baord.yaml); did you mean 'board'?",
        ),
        (
            "overrides: [{hardwareClass: board, limits: {latency: {p95: 41ms}}}]",
            "17:60: wider than the class allows (40ms, hardware/board.yaml:18); "
            "an override may only narrow: write 40ms or less",
        ),
        (
            "overrides: [{hardwareClass: board, limits: {peakMemory: 1GiB}}]",
            "17:57: wider than the class allows (256MiB, hardware/board.yaml:20); "
            "an override may only narrow: write 256MiB or less",
        ),
        (
            "overrides: [{hardwareClass: board, limits: {latency: {p99: 20ms}}}]",
            "17:45: p99 (20ms) is below p95 (40ms)",
        ),
        (
            "overrides: [{hardwareClass: board, limits: {regression: 2%}}]",
            "17:57: wider than the class allows (1%, hardware/board.yaml:14); "
            "an override may only narrow: write 1% or less",
        ),
        (
            "overrides: [{hardwareClass: board}]",
            "17:29: this override changes nothing; add metric, conditions, limits or optimization",
        ),
        (
            "overrides: [{hardwareClass: board, metric: {floor: 0.8}},"
            " {hardwareClass: board, metric: {floor: 0.7}}]",
            "17:75: 'board' is already overridden on line 17",
        ),
        (
            "overrides: [{hardwareClass: board, metric: {floor: 0.8}}]\nclasses: []",
            "17:29: 'board' is not one of this model's 'classes'",
        ),
    ],
)
def test_a_model_only_narrows_what_exists(repository: Repository, added: str, message: str) -> None:
    repository.append(READER, added + "\n")
    assert only(repository) == f"{READER}:{message}"


def test_every_limit_that_a_class_has_can_only_be_narrowed(repository: Repository) -> None:
    repository.edit(BOARD, "peakMemory: 256MiB", "peakMemory: 256MiB\n  powerCycle: 20s")
    repository.append(READER, "overrides: [{hardwareClass: board, limits: {powerCycle: 40s}}]\n")
    assert only(repository) == (
        f"{READER}:17:57: wider than the class allows (20s, {BOARD}:21); an override may only narrow: write 20s or less"
    )


def test_two_data_sets_from_one_function_are_leakage(repository: Repository) -> None:
    repository.edit(READER, 'test: "data:test"', 'test: "data:selection"')
    assert only(repository) == (
        f"{READER}:15:76: data:selection already gives the selection samples; no two sets may share a sample"
    )


def test_a_recipe_is_named_once(repository: Repository) -> None:
    repository.append(READER, "optimization: {recipes: [fp16, static-int8, fp16]}\n")
    assert only(repository) == f"{READER}:17:45: 'fp16' is here twice"


def test_a_model_cannot_widen_the_instruction_budget_of_its_class(repository: Repository) -> None:
    repository.edit(BOARD, "peakMemory: 256MiB", "peakMemory: 256MiB\n  instructions: {load: 120M}")
    repository.append(
        READER, "overrides: [{hardwareClass: board, limits: {instructions: {load: 121M, inference: 9G}}}]\n"
    )
    assert only(repository) == (
        f"{READER}:17:66: wider than the class allows (120M, {BOARD}:21); "
        "an override may only narrow: write 120M or less"
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "model: reader",
            "model: raeder",
            "9:16: there is no model 'raeder' (models/raeder/model.yaml); did you mean 'reader'?",
        ),
        ("line: inspection", "line: 7", '7:36: must be text, not the number 7; put it in quotes: "7"'),
        (
            "name: edge",
            "name: My Edge",
            "2:7: must be a name of lower-case letters, digits and single dashes, at most 63 characters; "
            "write my-edge",
        ),
        (
            "      - model: reader\n",
            "      - model: reader\n      - model: reader\n",
            "10:16: 'reader' is here twice",
        ),
        (
            "      - model: reader\n",
            "      - model: reader\n"
            "  - {name: line, selector: {matchLabels: {a: b}}, models: [{model: reader}]}\n",
            "10:12: group 'line' is already on line 6",
        ),
        (
            "groups:\n",
            "groups:\n  - {name: all, models: [{model: reader}]}\n",
            "10:16: never used: group 'all' on line 6 already decides this model; put narrower groups first",
        ),
    ],
)
def test_a_wrong_fleet_says_what_is_wrong(repository: Repository, old: str, new: str, message: str) -> None:
    repository.edit("fleet.yaml", old, new)
    assert only(repository) == f"fleet.yaml:{message}"


@pytest.mark.parametrize(
    ("url", "credentials", "told"),
    [
        (
            "https://registry.example/edge",
            "{username: env:U}",
            "a log-in is username and password, or helper",
        ),
        ("https://registry.example/edge", "{}", "a log-in is username and password, or helper"),
        (
            "https://registry.example/edge",
            "{username: env:U, password: env:P, helper: x}",
            "a helper knows user name and password",
        ),
        ("https://registry.example/edge", "{helper: ../x}", "what follows docker-credential-"),
        ("https://registry.example/edge", "{username: env:U, password: credential:../p}", "credential:NAME"),
        ("http://registry.example/edge", "{helper: ecr-login}", "a password is not sent over http"),
        ("http://10.0.0.7:5000", "{username: env:U, password: env:P}", "a password is not sent over http"),
    ],
)
def test_a_log_in_that_is_half_or_in_the_open_is_refused(
    repository: Repository, url: str, credentials: str, told: str
) -> None:
    repository.edit(
        "fleet.yaml", "  url: oci:dist/registry\n", f"  url: {url}\n  credentials: {credentials}\n"
    )
    with pytest.raises(InvalidSpec) as caught:
        load_fleet(repository.root)
    assert told in str(caught.value)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    ("url", "credentials"),
    [
        ("https://registry.example/edge", "{helper: ecr-login}"),
        ("http://localhost:5000/edge", "{username: credential:user, password: credential:registry}"),
        ("http://127.0.0.1:5000", "{username: env:U, password: file:token}"),
    ],
)
def test_a_log_in_over_tls_or_within_this_machine_is_fine(
    repository: Repository, url: str, credentials: str
) -> None:
    repository.edit(
        "fleet.yaml", "  url: oci:dist/registry\n", f"  url: {url}\n  credentials: {credentials}\n"
    )
    assert load_fleet(repository.root)


def test_a_literal_secret_is_refused_and_never_echoed(repository: Repository) -> None:
    repository.edit(
        "fleet.yaml",
        "  url: oci:dist/registry\n",
        "  url: https://bob:hunter2@registry.example/edge\n"
        "  credentials:\n    username: hunter2\n    password: hunter2\n"
        "signing:\n  privateKey: |\n    -----BEGIN PRIVATE KEY-----\n    hunter2\n  passphrase: [hunter2]\n",
    )
    with pytest.raises(InvalidSpec) as caught:
        load_fleet(repository.root)
    assert len(caught.value.problems) == 5
    assert "hunter2" not in str(caught.value)
    assert "env:NAME, file:PATH or credential:NAME" in str(caught.value)


def test_a_link_out_of_the_repository_is_no_checkpoint(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("weights")
    weights = repository.root / "models" / "reader" / "weights.safetensors"
    weights.unlink()
    weights.symlink_to(tmp_path / "outside")
    assert "is a link that leaves the repository" in only(repository)


def test_all_mistakes_of_all_files_are_reported_at_once(repository: Repository) -> None:
    repository.edit("fleet.yaml", "model: reader", "model: raeder")
    repository.edit(BOARD, "memory:", "memroy:")
    repository.edit(BOARD, "p99: 60ms", "p99: 30ms")
    repository.edit(BOARD, "clock: 1.5GHz", "clock: 1500")
    repository.edit(READER, "network:build", "netwrk:build")
    repository.append(READER, "classes: [baord]\nextra: 1\n")
    repository.write("hardware/Bad_Name.yaml", "")
    repository.write("hardware/other.yml", "")
    problems = problems_of(repository)
    assert [problem.partition(": ")[0] for problem in problems] == [
        "fleet.yaml:9:16",
        "hardware/Bad_Name.yaml:1:1",
        "hardware/Bad_Name.yaml:1:1",
        f"{BOARD}:3:56",
        f"{BOARD}:4:1",
        f"{BOARD}:19:10",
        "hardware/other.yml:1:1",
        f"{READER}:5:20",
        f"{READER}:17:11",
        f"{READER}:18:1",
    ]


def test_an_error_in_one_file_does_not_hide_its_name_from_others(repository: Repository) -> None:
    repository.write(BOARD, "a: [1\n")
    assert only(repository) == f"{BOARD}:1:4: a [ list ] that is not closed; add the missing ',' or ']'"


def test_a_name_on_disk_cannot_reach_the_terminal_raw(repository: Repository) -> None:
    (repository.root / "hardware" / "a\x1b[31m\udcff.yaml").write_text(SHEET)
    for problem in problems_of(repository):
        assert problem.startswith("hardware/a\ufffd[31m\ufffd.yaml:1:1: 'a\ufffd[31m\ufffd' must be a name")
        assert problem.encode()


def test_a_folder_that_is_a_file_is_a_problem(repository: Repository) -> None:
    (repository.root / "models" / "second").mkdir()
    for file in (repository.root / "hardware").iterdir():
        file.unlink()
    (repository.root / "hardware").rmdir()
    (repository.root / "hardware").write_text("")
    assert only(repository) == "hardware:1:1: this folder cannot be read: Not a directory"


def test_hidden_and_private_folders_are_no_models(repository: Repository) -> None:
    for folder in ("models/__pycache__", "models/.cache"):
        repository.write(f"{folder}/model.yaml", "nonsense: [")
    repository.write("models/shared/notes.md", "no model.yaml here")
    assert list(load_fleet(repository.root).models) == ["reader"]


@given(st.integers(0, len(SHEET) - 1), st.sampled_from(list("{}[]:,'\"&*!|>#%@-? \n\t0xé")), st.booleans())
@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
)
def test_no_typo_in_a_sheet_gives_anything_but_problems(
    repository: Repository, at: int, char: str, insert: bool
) -> None:
    for file, text in ((BOARD, SHEET), (READER, MODEL)):
        repository.write(file, text[:at] + char + text[at + (not insert) :])
    try:
        load_fleet(repository.root)
    except InvalidSpec as error:
        assert error.problems
        assert str(error)


def test_this_repositorys_own_fleet_is_valid_once_it_has_its_weights(workspace: Path) -> None:
    weights = workspace / "models" / "digit-reader" / "weights.safetensors"
    weights.touch()
    loaded = load_fleet(workspace)
    assert sorted(loaded.hardware) == [
        "factory-gateway-gpu",
        "intel-lowpower-detector",
        "jetson-vision-standard",
        "medical-cart-cpu",
        "raspberry-pi-4",
    ]
    assert len(loaded.lanes()) == 25


def test_a_valid_fleet_is_read_without_the_modules_that_only_mistakes_need(repository: Repository) -> None:
    program = (
        "import pathlib, sys\n"
        "from edgewright.spec.load import load_fleet\n"
        "load_fleet(pathlib.Path(sys.argv[1]))\n"
        "print(*(name for name in sys.argv[2:] if name in sys.modules))"
    )
    spared = [
        "difflib",
        "packaging.specifiers",
        "jsonschema",
        "edgewright.spec.diagnose",
        "edgewright.spec.schema",
    ]
    ran = subprocess.run(
        [sys.executable, "-c", program, str(repository.root), *spared],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == ""


@pytest.mark.parametrize("lifetime", ["10ms", "9000000d"])
def test_metadata_lives_between_a_second_and_ten_years(repository: Repository, lifetime: str) -> None:
    repository.append("fleet.yaml", f"trust:\n  expiry:\n    timestamp: {lifetime}\n")
    assert "timestamp metadata lives between a second and ten years; write 7d" in only(repository)
