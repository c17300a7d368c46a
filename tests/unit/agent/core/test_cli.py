"""The command line: its exit codes, its words, and what it does not import."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgewright_agent.cli import main
from edgewright_agent.errors import HealthError
from edgewright_agent.lock import exclusive
from unit.agent.core import onnx_artifact
from unit.agent.core.idle import settled
from unit.agent.core.workbench import MODEL, PI, Bench, make_artifact

AGENT = [sys.executable, "-m", "edgewright_agent"]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A device that runs 2.0.0, a real little model, after 1.0.0."""
    bench = Bench(tmp_path)
    for version, weights in (("1.0.0", -onnx_artifact.WEIGHTS), ("2.0.0", onnx_artifact.WEIGHTS)):
        files = dict(onnx_artifact.files(weights=weights))
        golden = json.loads(files["golden.json"])
        files["golden.json"] = json.dumps({**golden, "for": version}).encode()
        bench.publish(make_artifact(version, files=files))
        assert bench.codes() == ["installed"]
    write_config(bench)
    return bench


def write_config(bench: Bench) -> str:
    path = bench.folder / "agent.json"
    path.write_text(json.dumps(bench.document))
    return str(path)


def agent(bench: Bench, verb: str, *words: str) -> int:
    return main([verb, "--config", str(bench.folder / "agent.json"), *words])


def test_help_documents_every_command_and_the_exit_codes() -> None:
    shown = subprocess.run([*AGENT, "--help"], capture_output=True, text=True, check=True).stdout
    for word in (
        *("init", "once", "run", "status", "rollback", "retry", "infer", "reanchor", "calibrate"),
        "exit codes:",
    ):
        assert word in shown


@pytest.mark.parametrize("words", [[], ["nonsense"], ["once", "--nonsense"], ["rollback"]])
def test_wrong_usage_is_exit_code_1(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 1
    assert "usage:" in capsys.readouterr().err


def provision(folder: Path) -> None:
    (folder / "root.json").write_text("root.json")
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / "signing.pub").write_bytes(pem)


def init(folder: Path, *more: str) -> int:
    return main(
        [
            *("init", "--device-id", "pi-7", "--class", PI, "--label", "site=lab", "--label", "line=a"),
            *("--source", f"oci:{folder}/registry", "--root", str(folder / "root.json")),
            *("--key", str(folder / "signing.pub"), "--state", str(folder / "state")),
            *("--out", str(folder / "etc" / "agent.json"), *more),
        ]
    )


def test_init_writes_a_configuration_that_works_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    provision(tmp_path)
    assert init(tmp_path, "--interval-s", "60", "--reserve-bytes", "1000") == 0
    monkeypatch.chdir("/")
    assert main(["status", "--config", str(tmp_path / "etc" / "agent.json"), "--json"]) == 0
    shown = capsys.readouterr().out
    status = json.loads(shown[shown.index("{") :])
    assert status["device"] == {"id": "pi-7", "class": PI, "labels": {"site": "lab", "line": "a"}}
    assert status["state"] == "new"


def test_init_writes_mirrors_and_references_that_work_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provision(tmp_path)
    (tmp_path / "password").write_text("s3cret\n")
    (tmp_path / "password").chmod(0o600)
    monkeypatch.setenv("REGISTRY_USER", "pi-7")
    monkeypatch.chdir(tmp_path)
    login = ("--username", "env:REGISTRY_USER", "--password", "file:password")
    mirrors = ("--mirror", "oci:usb", "--mirror", "https://far.example/acme")
    assert init(tmp_path, "--source", "https://r.example/acme", *login, *mirrors) == 0
    written = (tmp_path / "etc" / "agent.json").read_text()
    assert "s3cret" not in written
    assert json.loads(written)["source"] == {
        "url": "https://r.example/acme",
        "mirrors": [f"oci:{tmp_path}/usb", "https://far.example/acme"],
        "username": "env:REGISTRY_USER",
        "password": f"file:{tmp_path}/password",
    }
    (tmp_path / "password").chmod(0o644)
    assert init(tmp_path, "--force", "--source", "https://r.example/acme", *login) == 1


CREDENTIALS = ("--username", "credential:u", "--password", "credential:p")


def test_init_in_a_shell_says_that_what_systemd_passes_is_not_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    provision(tmp_path)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert init(tmp_path, "--source", "https://r.example/acme", *CREDENTIALS) == 0
    told = capsys.readouterr().out
    assert told.startswith(
        "not checked here, for only the agent's unit is given it: credential:u, credential:p"
    )
    assert "wrote" in told
    written = json.loads((tmp_path / "etc" / "agent.json").read_text())["source"]
    assert (written["username"], written["password"]) == ("credential:u", "credential:p")
    assert init(tmp_path, "--force", "--source", "ftp://r.example/acme", *CREDENTIALS) == 1
    assert "bad-source" in capsys.readouterr().err, "what can be checked here is checked"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert init(tmp_path, "--force", "--source", "https://r.example/acme", *CREDENTIALS) == 1, (
        "it is not there"
    )


@pytest.mark.parametrize("told", ["", "INVOCATION_ID", "EDGEWRIGHT_DAEMON"])
def test_a_credential_that_is_not_passed_is_a_failed_poll_where_no_person_polls(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], told: str
) -> None:
    bench.document["source"] = {
        "url": "https://r.example/acme",
        "username": "credential:u",
        "password": "credential:p",
    }
    write_config(bench)
    before = bench.ledger.record
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.delenv("INVOCATION_ID", raising=False)
    if told:
        monkeypatch.setenv(told, "0" * 32)
    assert agent(bench, "once") == 1
    assert "systemd-run -p LoadCredential=" in capsys.readouterr().err
    poll = bench.ledger.record.poll
    assert (poll and poll.code) == ("bad-secret" if told else before.poll and before.poll.code)


def test_run_follows_a_configuration_that_is_a_link(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    monkeypatch.setattr("os.execve", lambda _path, words, _environment: started.extend(words))
    monkeypatch.setattr("os.chdir", lambda _path: None)
    write_config(bench)
    (bench.folder / "link.json").symlink_to("agent.json")
    main(["run", "--config", str(bench.folder / "link.json")])
    assert started[-1] == str(bench.folder / "link.json")


def test_init_refuses_what_would_not_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert init(tmp_path) == 1
    assert "trust.root: cannot read" in capsys.readouterr().err
    provision(tmp_path)
    for more, message in (
        (("--source", "ftp://registry.example"), "is none of https://HOST"),
        (("--source", "https://bob:s3cret@registry.example"), "must not carry a password"),
        (("--source", "https://registry.example", "--ca-file", "/nowhere.pem"), "bad-ca-file"),
        (
            ("--source", "https://r.example", "--username", "env:HOME", "--password", "file:/nowhere"),
            "source.password: file:/nowhere cannot be read",
        ),
        (("--key", str(tmp_path / "root.json")), "not a PEM public key"),
    ):
        assert init(tmp_path, *more) == 1
        assert message in capsys.readouterr().err
    assert init(tmp_path) == 0
    assert init(tmp_path) == 1
    assert "--force" in capsys.readouterr().err
    assert init(tmp_path, "--force") == 0
    with pytest.raises(SystemExit):
        init(tmp_path, "--label", "nonsense")


def test_init_pins_identities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    provision(tmp_path)
    issuer = "https://token.actions.githubusercontent.com"
    pinned = (
        "--identity",
        issuer,
        "ada@acme.example",
        "--identity-pattern",
        issuer,
        "https://github.com/acme/.*",
    )
    assert init(tmp_path, *pinned) == 0
    written = json.loads((tmp_path / "etc" / "agent.json").read_text())
    assert written["trust"]["identities"] == [
        {"issuer": issuer, "identity": "ada@acme.example"},
        {"issuer": issuer, "identityPattern": "https://github.com/acme/.*"},
    ]
    assert init(tmp_path, "--force", "--identity-pattern", issuer, "(") == 1
    assert "no regular expression" in capsys.readouterr().err


def test_init_needs_no_pin_where_the_fleet_publishes_a_policy(tmp_path: Path) -> None:
    provision(tmp_path)
    out = tmp_path / "agent.json"
    words = ["init", "--device-id", "pi-7", "--class", PI, "--source", f"oci:{tmp_path}/registry"]
    assert main([*words, "--root", str(tmp_path / "root.json"), "--out", str(out)]) == 0
    assert set(json.loads(out.read_text())["trust"]) == {"root"}


def test_a_poll_without_news_imports_neither_tuf_nor_cryptography_nor_the_engine(
    tmp_path: Path, unchanged: tuple[str, list[str | None]]
) -> None:
    url, asked = unchanged
    bench = Bench(tmp_path)
    settled(bench, url)
    program = (
        "import sys\n"
        "for name in ('tuf', 'cryptography', 'onnxruntime', 'numpy'): sys.modules[name] = None\n"
        "from edgewright_agent.cli import main; raise SystemExit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "once", "--config", write_config(bench)]
    polled = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (polled.returncode, polled.stdout.strip()) == (0, "up to date (not modified)"), polled.stderr
    assert asked == ['"known"']


def test_once_as_json_ends_with_the_poll_its_exit_code_and_the_traffic(
    tmp_path: Path, unchanged: tuple[str, list[str | None]], capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path)
    settled(bench, unchanged[0])
    write_config(bench)
    assert agent(bench, "once", "--json") == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["event"], last["code"], last["exit_code"]) == ("poll", "not-modified", 0)
    assert (last["requests"], last["bytes_received"]) == (1, 0)


def test_an_unreachable_registry_is_exit_code_3_without_a_traceback(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.document["source"]["url"] = "http://127.0.0.1:9/acme"
    polled = subprocess.run(
        [*AGENT, "once", "--config", write_config(bench)], capture_output=True, text=True, check=False
    )
    assert polled.returncode == 3
    assert "failed  network" in polled.stdout
    assert "Traceback" not in polled.stderr


def test_a_broken_configuration_is_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "agent.json").write_text("{}")
    assert main(["once", "--config", str(tmp_path / "agent.json")]) == 1
    assert "edgewright-agent: bad-config:" in capsys.readouterr().err


@pytest.mark.parametrize("lost", ["password", "signing.pub"])
def test_a_credential_or_anchor_that_is_gone_is_in_the_status(
    bench: Bench, lost: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"username": "file:user", "password": "file:password"}
    bench.document["source"] = {"url": "http://127.0.0.1:9/acme", **files}
    for name in files:
        (bench.folder / files[name].removeprefix("file:")).write_text("pi-7")
        (bench.folder / files[name].removeprefix("file:")).chmod(0o600)
    write_config(bench)
    (bench.folder / lost).unlink()
    assert agent(bench, "once") == 1
    capsys.readouterr()
    assert agent(bench, "status", "--json") == 0
    status = json.loads(capsys.readouterr().out)
    code = "bad-secret" if lost == "password" else "bad-config"
    assert (status["state"], status["poll"]["code"]) == ("failing", code)
    assert lost in status["poll"]["message"]


def test_a_second_agent_is_told_that_one_is_at_work(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    with exclusive(bench.state / "lock"):
        assert agent(bench, "once") == 3
    assert "busy" in capsys.readouterr().err


def test_an_output_that_takes_no_more_is_exit_code_3_without_a_traceback(bench: Bench) -> None:
    command = [*AGENT, "status", "--config", str(bench.folder / "agent.json")]
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (ran.returncode, ran.stderr.splitlines()) == (
        3,
        ["edgewright-agent: io-error: [Errno 28] No space left on device"],
    )


def test_status_needs_no_lock(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    with exclusive(bench.state / "lock"):
        assert agent(bench, "status") == 0
    assert "digit-reader  sha256:" in capsys.readouterr().out


def test_rollback_and_retry_by_hand(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert agent(bench, "rollback", MODEL) == 0
    assert "1.0.0 is active again" in capsys.readouterr().out
    assert bench.running() == "1.0.0"
    assert agent(bench, "rollback", MODEL) == 1
    assert "no-previous" in capsys.readouterr().err
    assert agent(bench, "retry", MODEL) == 0
    assert agent(bench, "retry", MODEL) == 1


def test_reanchor_by_hand(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert agent(bench, "reanchor") == 1
    for slot in ("state.0", "state.1"):
        (bench.state / slot).write_bytes(b"junk")
    assert agent(bench, "once") == 3
    assert "reanchor" in capsys.readouterr().err
    assert agent(bench, "reanchor") == 0
    assert "digit-reader  2.0.0" in capsys.readouterr().out


def test_infer_answers_a_golden_sample_or_a_file(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert agent(bench, "infer", MODEL) == 0
    assert "golden sample → " in capsys.readouterr().out
    assert agent(bench, "infer", MODEL, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    expected = onnx_artifact.scores(onnx_artifact.PIXELS[:1])
    assert answer["outputs"]["scores"][0] == pytest.approx(expected[0].tolist(), abs=1e-5)
    assert answer["labels"] == [onnx_artifact.LABELS[int(expected[0].argmax())]]
    file = bench.folder / "input.json"
    file.write_text(json.dumps({"image": onnx_artifact.PIXELS[:2].tolist()}))
    assert agent(bench, "infer", MODEL, "--json", "--input", str(file)) == 0
    assert len(json.loads(capsys.readouterr().out)["labels"]) == 2
    file.write_text(json.dumps({"image": [[1, 2]]}))
    assert agent(bench, "infer", MODEL, "--input", str(file)) == 1
    assert "the model takes [any, 4]" in capsys.readouterr().err
    for content in ('{"image": [[1' + "0" * 400 + "]]}", '{"image": {}}', "["):
        file.write_text(content)
        assert agent(bench, "infer", MODEL, "--input", str(file)) == 1
        assert "bad-input" in capsys.readouterr().err
    assert agent(bench, "infer", MODEL, "--input", "/nowhere.json") == 1
    assert agent(bench, "infer", "nothing") == 1


def test_a_report_says_per_model_what_happened(bench: Bench) -> None:
    three, four = make_artifact("3.0.0"), make_artifact("4.0.0", model="vibration-monitor")
    bench.publish(three)
    bench.publish(four, model="vibration-monitor")
    bench.doctor.verdicts["3.0.0"] = HealthError("health-wrong-output", "scores is off by up to 3")
    text = bench.once().text()
    assert (
        f"digit-reader       rolled back  3.0.0 {three.digest[:19]} health-wrong-output: scores is off"
        in text
    )
    assert f"vibration-monitor  installed  4.0.0 {four.digest[:19]} (" in text
