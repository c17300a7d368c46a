"""What is wrong with an installation is found, and said with what to do; nothing is changed by looking."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import pytest

from edgewright_agent import cli
from edgewright_agent.clock import to_text, utc_now
from edgewright_agent.degrade import stand
from edgewright_agent.doctor import (
    FAIL,
    OK,
    WARN,
    Finding,
    document,
    examine,
    exit_code,
    in_words,
    installation,
)
from edgewright_agent.doctor.device import mounted
from edgewright_agent.errors import StorageError
from edgewright_agent.lock import exclusive
from edgewright_agent.manual import pin
from edgewright_agent.telemetry import note_error
from edgewright_agent.telemetry_delivery import send
from real import closed_port
from unit.agent.core.workbench import MODEL, Bench, make_artifact


@pytest.fixture
def device(tmp_path: Path) -> Bench:
    """A device that runs a model."""
    bench = Bench(tmp_path)
    bench.publish(make_artifact("1.0.0"))
    bench.once()
    return bench


def looked_at(device: Bench, *, deep: bool = False) -> dict[str, list[Finding]]:
    """Findings of a look without the network, by what they are about."""
    found: dict[str, list[Finding]] = {}
    for finding in examine(device.config, offline=True, deep=deep):
        found.setdefault(finding.what, []).append(finding)
    return found


def levels(found: dict[str, list[Finding]], what: str) -> list[str]:
    return [finding.level for finding in found[what]]


def test_an_installation_that_works_has_nothing_to_mend(device: Bench) -> None:
    found = looked_at(device)
    assert all(finding.level != FAIL for findings in found.values() for finding in findings), found
    assert levels(found, MODEL) == [OK] and levels(found, "record") == [OK]


def test_looking_changes_nothing(device: Bench) -> None:
    def tree() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in sorted(device.state.rglob("*")) if p.is_file()}

    before = tree()
    looked_at(device, deep=True)
    assert tree() == before


@pytest.mark.parametrize(
    ("harm", "what", "said"),
    [
        (lambda d: [slot.unlink() for slot in d.state.glob("state.*")], "record", "reanchor"),
        (lambda d: (d.folder / "root.json").unlink(), "anchors", "root.json"),
        (
            lambda d: os.truncate(d.store.path(d.store.links()[MODEL]) / "model.onnx", 10),
            MODEL,
            "once --force",
        ),
        (lambda d: (d.state / "current" / MODEL).unlink(), MODEL, "once --force"),
    ],
    ids=["no record", "no trust anchor", "a damaged model", "no link"],
)
def test_what_does_not_work_is_a_failure_with_a_way_out(
    device: Bench, harm: Callable[[Bench], object], what: str, said: str
) -> None:
    harm(device)
    found = looked_at(device)
    assert FAIL in levels(found, what), found
    assert any(said in f"{finding.message} {finding.remedy}" for finding in found[what])
    assert exit_code([finding for findings in found.values() for finding in findings]) == 3


def test_damage_of_the_same_length_is_found_by_a_deep_look(device: Bench) -> None:
    model = device.store.path(device.store.links()[MODEL]) / "model.onnx"
    body = bytearray(model.read_bytes())
    body[100] ^= 1
    model.write_bytes(body)
    assert FAIL not in levels(looked_at(device), MODEL)
    assert FAIL in levels(looked_at(device, deep=True), MODEL)


def test_a_reserve_that_is_reached_is_a_failure(device: Bench) -> None:
    device.document["reserveBytes"] = 2**60
    assert levels(looked_at(device), "space") == [FAIL]


@pytest.mark.parametrize("reserve", [{"diskReserveBytes": 2**53 - 1}, {"inodeReserve": 2**31 - 1}])
def test_the_reserve_of_the_class_counts_as_well(device: Bench, reserve: dict[str, int]) -> None:
    ledger = device.ledger
    ledger.commit(replace(ledger.record, policy=reserve))
    assert levels(looked_at(device), "space") == [FAIL]


def test_a_trust_anchor_that_others_may_write_is_worth_a_look(device: Bench) -> None:
    (device.folder / "root.json").chmod(0o666)
    assert levels(looked_at(device), "trust") == [WARN, OK]


def test_a_check_that_breaks_does_not_keep_the_others_from_being_made(device: Bench) -> None:
    (device.state / "state.0").chmod(0)
    (device.state / "state.1").chmod(0)
    if os.geteuid() == 0:
        for name in ("state.0", "state.1"):
            (device.state / name).unlink()
            (device.state / name).mkdir()
    found = looked_at(device)
    assert levels(found, "record") == [FAIL]
    assert "space" in found and "memory" in found


def test_the_file_system_of_a_path_is_that_of_the_deepest_mount() -> None:
    assert mounted(Path("/proc/self"))[0] == "proc"
    assert mounted(Path("/"))[0] != "unknown"


def test_findings_are_for_people_and_for_machines() -> None:
    findings = [
        Finding("clock", WARN, "not synchronized", "start a time service"),
        Finding("state", OK, "ext4"),
    ]
    assert in_words(findings) == (
        "warn  clock  not synchronized → start a time service\nok    state  ext4\nit works; 1 to look at"
    )
    assert "\x1b[33m" in in_words(findings, color=True)
    assert document(findings)["result"] == WARN and exit_code(findings) == 0
    assert in_words([Finding("state", OK, "ext4")]).endswith("all is well")


def test_the_command_tells_and_ends_with_what_it_found(
    device: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    config = device.folder / "agent.json"
    config.write_text(json.dumps(device.document))
    assert cli.main(["doctor", "--offline", "--json", "--config", str(config)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["result"] in (OK, WARN)
    assert {"configuration", "software", "state", "record", MODEL} <= {f["what"] for f in told["findings"]}
    assert cli.main(["doctor", "--config", str(config)]) == 3, "its source is an empty folder"
    assert "FAIL  source" in capsys.readouterr().out


def test_who_may_not_see_whether_an_agent_runs_is_told_so(
    device: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock is the agent's alone: an agent that runs must not be called one that does not."""

    def closed(path: Path) -> NoReturn:
        raise StorageError("not-permitted", f"cannot lock {path}")

    (device.state / "daemon.lock").touch()
    monkeypatch.setattr(installation, "exclusive", closed)
    (finding,) = looked_at(device)["service"]
    assert finding.level == WARN
    assert "only the agent's user" in finding.message


def test_windows_the_metered_link_pins_and_rungs_are_told_with_a_way_out(device: Bench) -> None:
    device.document["network"] = {"windows": {"activation": ["03:00-03:01"]}, "metered": "yes"}
    pin(device.ledger, device.store, MODEL, now=device.now)
    device.publish(make_artifact("2.0.0"))
    device.once()
    ledger, state = device.ledger, device.ledger.record.model(MODEL)
    down = stand(state, "factory", "damaged", to_text(device.now))
    ledger.commit(ledger.record.with_model(MODEL, down))
    found = looked_at(device)
    (link,) = found["link"]
    assert link.level == OK
    assert "when the activation window opens" in link.message
    assert "not metered" in link.message
    (model,) = found[MODEL]
    assert (model.level, model.remedy) == (WARN, f"edgewright-agent unpin {MODEL}")
    (rung,) = found["ladder"]
    assert (rung.level, rung.remedy) == (WARN, "edgewright-agent once")
    assert f"{MODEL} factory since" in rung.message


def test_telemetry_that_does_not_arrive_is_told(device: Bench) -> None:
    assert "telemetry" not in looked_at(device), "nobody asked for any"
    device.document["telemetry"] = {}
    (told,) = looked_at(device)["telemetry"]
    assert (told.level, "no endpoint" in told.message) == (WARN, True)
    with closed_port() as port:
        device.document["telemetry"] = {"endpoint": f"http://127.0.0.1:{port}"}
        assert levels(looked_at(device), "telemetry") == [OK], "nothing was sent yet"
        note_error(device.config, "session-crashed", "once")
        assert send(device.config).outcome == "network"
        (told,) = looked_at(device)["telemetry"]
    assert (told.level, told.remedy) == (WARN, "edgewright-agent telemetry --send")


@pytest.mark.parametrize(
    ("breakage", "remedy"),
    [
        ("raise ModuleNotFoundError(\"No module named '_cffi_backend'\")", "--system-site-packages"),
        ("import os; os.abort()", "install cryptography"),
    ],
    ids=["a virtual environment that does not see cffi", "a library of another processor"],
)
def test_a_python_that_cannot_verify_is_a_failure(
    device: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breakage: str, remedy: str
) -> None:
    """That a package is there says nothing of its compiled part."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/_cffi_backend.py").write_text(breakage)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'broken'}:{os.environ.get('PYTHONPATH', '')}")
    found = [finding for finding in looked_at(device)["software"] if finding.level == FAIL]
    assert len(found) == 1
    assert "cryptography does not load" in found[0].message
    assert remedy in found[0].remedy


def test_what_a_check_cannot_import_is_a_finding_of_it(
    device: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "edgewright_agent.report_signing", None)
    found = looked_at(device)
    assert levels(found, "clock") == [FAIL]
    assert levels(found, "record") == [OK], "the others are made all the same"


def test_a_secret_that_only_the_unit_has_is_not_called_missing(
    device: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    device.document["source"] = {
        "url": "http://127.0.0.1:1/acme", "username": "credential:user", "password": "credential:token",
    }  # fmt: skip
    device.document["decryption"] = {"keys": ["/run/credentials/edgewright-agent.service/model.key"]}
    found = {f.what: f for f in examine(device.config) if f.what in ("log-in", "source", "decryption")}
    assert {what: f.level for what, f in found.items()} == {
        "log-in": WARN,
        "source": WARN,
        "decryption": WARN,
    }
    assert "credential:user, credential:token" in found["log-in"].message
    assert all("systemctl reload" in f.remedy for f in found.values())
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "passed"))
    assert levels(looked_at(device), "log-in") == [FAIL], "in the unit it is missing"


@pytest.mark.parametrize(
    ("polling", "hours", "level"),
    [
        ({}, 6, OK),
        ({}, 24, WARN),
        ({"maxBackoffS": 172800}, 24, OK),
        ({"intervalS": 86400}, 72, OK),
        ({"intervalS": 86400}, 120, WARN),
    ],
)
def test_a_device_that_nobody_polls_is_worth_a_look(
    device: Bench, polling: dict[str, int], hours: int, level: str
) -> None:
    """All is well is what the last poll said; that there was none since, it could not say."""
    device.document["poll"] = polling
    ledger, known = device.ledger, device.ledger.record
    assert known.poll is not None
    at = to_text(utc_now() - timedelta(hours=hours))
    far = dict.fromkeys(known.expires, to_text(utc_now() + timedelta(days=300)))
    ledger.commit(replace(known, poll=replace(known.poll, at=at), expires=far))
    (found,) = looked_at(device)["metadata"]
    assert found.level == level, found
    assert ("nobody polls" in found.message) == (level == WARN)


@pytest.mark.parametrize(
    ("says", "level", "remedy"),
    [
        ({}, WARN, "systemctl enable --now edgewright-agent.service"),
        ({"is-enabled edgewright-agent.timer": "enabled"}, WARN, "systemctl start edgewright-agent.timer"),
        ({"is-enabled edgewright-agent.timer": "enabled", "is-active edgewright-agent.timer": "active"}, OK, ""),
        (
            {
                "is-enabled edgewright-agent.timer": "enabled", "is-active edgewright-agent.timer": "active",
                "is-failed edgewright-agent-once.service": "failed",
            },
            WARN, "journalctl -u edgewright-agent-once.service",
        ),
        (
            {"is-enabled edgewright-agent.service": "enabled", "is-failed edgewright-agent.service": "failed"},
            FAIL, "journalctl -u edgewright-agent.service",
        ),
    ],
    ids=["none", "a timer that was not started", "a timer", "a timer whose polls fail", "a failed service"],
)  # fmt: skip
def test_who_polls_is_what_systemd_says_of_the_units(
    device: Bench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    says: dict[str, str],
    level: str,
    remedy: str,
) -> None:
    program = tmp_path / "bin/systemctl"
    program.parent.mkdir()
    cases = "".join(f'"{asked}") echo {answer} ;;\n' for asked, answer in says.items())
    program.write_text(f'#!/bin/sh\ncase "$1 $2" in\n{cases}esac\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    (found,) = looked_at(device)["service"]
    assert found.level == level, found
    assert found.remedy.startswith(remedy)


def test_an_agent_that_runs_but_does_not_answer_is_a_failure(device: Bench) -> None:
    assert "sockets" not in looked_at(device), "none runs"
    with exclusive(device.state / "daemon.lock"):
        (told,) = looked_at(device)["sockets"]
    assert (told.level, told.remedy) == (FAIL, "restart the agent")
