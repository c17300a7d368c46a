"""The device reference and the agent's README name everything that the agent's code can say, take and write."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from edgewright_agent import config, status
from edgewright_agent.arguments import parser
from edgewright_agent.soak import MAX_FAILURES, MAX_HANGS
from real import ROOT

AGENT = ROOT / "agent/edgewright_agent"
REFERENCE = (ROOT / "docs/device-reference.md").read_text()
README = (ROOT / "agent/README.md").read_text()
# Answers to programmers, not to people who look after devices.
NOT_CODES = {"graphOptimization", "hardwareClass"}


@cache
def trees() -> tuple[ast.Module, ...]:
    return tuple(ast.parse(path.read_text()) for path in sorted(AGENT.rglob("*.py")))


def calls() -> Iterator[tuple[str, ast.Call]]:
    for tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield getattr(node.func, "attr", getattr(node.func, "id", "")), node


def first_word(call: ast.Call) -> str | None:
    first = call.args[0] if call.args else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None


def section(title: str) -> str:
    return REFERENCE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def named(text: str) -> set[str]:
    return set(re.findall(r"`([^`\n]+)`", text))


def test_every_code_of_an_error_is_in_the_reference() -> None:
    raised = {first_word(call) for name, call in calls() if name.endswith("Error")} - {None} - NOT_CODES
    codes = {code for code in raised if code and re.fullmatch(r"[a-z]+(-[a-z]+)*", code)}
    assert len(codes) > 60
    assert sorted(codes - named(section("Codes"))) == []


def test_every_code_that_is_no_error_is_in_the_reference() -> None:
    outcomes = {
        word.value
        for name, call in calls()
        if name == "Outcome"
        for word in call.args[1:2]
        if isinstance(word, ast.Constant)
    }
    assert outcomes >= {"current", "pinned", "tombstoned"}
    assert sorted(outcomes - named(section("Codes"))) == []


def test_every_state_is_in_the_reference() -> None:
    device, _, model = (status.__doc__ or "").partition("Model states:")
    for title, told in (("Device states", device), ("Model states", model)):
        states = set(re.findall(r"^    ([a-z-]+) {1,}\S", told, re.M))
        assert states and sorted(states - named(section(title))) == []


def test_every_counter_is_in_the_reference() -> None:
    counted = {word.arg for name, call in calls() if name == "counted" for word in call.keywords} - {None}
    events = {
        word.value.value
        for name, call in calls()
        for word in call.keywords
        if name == "_save" and word.arg == "event" and isinstance(word.value, ast.Constant)
    }
    assert counted and events
    assert sorted((counted | events) - named(section("What commands print for programs"))) == []


def test_every_event_of_the_log_is_in_the_reference() -> None:
    events = {first_word(call) for name, call in calls() if name == "log"} - {None}
    assert sorted(str(event) for event in events - named(section("What `run` logs"))) == []


def test_every_metric_is_in_the_reference() -> None:
    text = (AGENT / "metrics.py").read_text().split('"""', 2)[2]  # its own example is none
    told = set(re.findall(r'"(edgewright_[a-z_]+)"', text))
    told |= {f"edgewright_model_{name}" for name in re.findall(r'\bof\("([a-z_]+)"', text)}
    assert len(told) > 10
    assert sorted(told - named(section("Sockets"))) == []


def test_the_example_configuration_is_one() -> None:
    example = section("Configuration").partition("```json\n")[2].partition("```")[0]
    assert config.parse(json.loads(example), base=Path("/etc/edgewright")).device.id == "pump-7"


@pytest.mark.parametrize("name", ["config", "network", "telemetry_settings"])
def test_every_key_of_the_configuration_is_in_the_reference(name: str) -> None:
    readers = {
        "text",
        "texts",
        "number",
        "optional",
        "section",
        "sections",
        "path",
        "secret",
        "helper",
        "labels",
    }
    tree = ast.parse((AGENT / f"{name}.py").read_text())
    keys = {
        first_word(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {*readers, "name", "switch", "mirrors"}
    } - {None}
    assert keys
    words = set(re.findall(r"[A-Za-z]+", section("Configuration")))
    assert sorted(str(key) for key in keys - words) == []


def test_every_command_is_in_the_readme() -> None:
    helped = parser().format_help()
    verbs = set(re.findall(r"^    ([a-z][a-z-]*)(?:  |$)", helped, re.M))
    told = {words.split()[0] for words in named(README) if words}
    assert {"once", "doctor", "acknowledge"} <= verbs
    assert sorted(verbs - told) == []


def test_the_limits_of_a_soak_are_those_of_the_code() -> None:
    assert f"applications crash {MAX_FAILURES} times, hang twice" in section("Codes") and MAX_HANGS == 2
