from __future__ import annotations

import pytest

from edgewright.spec.redact import redact_line, redact_text
from edgewright.spec.yaml import parse

SECRET = "hunter2"


@pytest.mark.parametrize(
    "line",
    [
        "password: hunter2",
        "  'password':hunter2",
        "    registryToken: 'hunter2' # ours",
        "credentials: {username: env:NAME, password: hunter2}",
        "credentials: {passwd: hunter2, username: env:NAME}",
        "pass: hunter2",
        "url: https://bob:hunter2@registry.example/edge",
        "url: https://bob:hun/hunter2@registry.example/edge",
        "url: https://registry.example/edge?token=hunter2",
        "passphrase: env:hunter2-is-no-variable-name",
        "key: ghp_hunter2hunter2hunter2",
        "-----BEGIN PRIVATE KEY----- hunter2",
    ],
)
def test_a_line_with_a_secret_is_shown_without_it(line: str) -> None:
    assert SECRET not in redact_line(line)


@pytest.mark.parametrize(
    "line",
    [
        "password: env:REGISTRY_PASSWORD  # from CI",
        "credentials: {username: env:USER_NAME, password: file:/run/secrets/registry}",
        "passphrase: 'env:SIGNING_PASSPHRASE'",
        "cooling: passive",
        "credentials:",
        'sha256: "cafe567890123456789012345678901234567890123456789012345678901234"',
        "url: https://registry.example/edge",
    ],
)
def test_a_line_without_a_secret_is_shown_as_it_is(line: str) -> None:
    assert redact_line(line) == line


def test_a_secret_written_over_several_lines_is_noticed() -> None:
    above = ["credentials:", "  username: env:NAME", "  password: |"]
    assert redact_line("    hunter2", above) == "    …"
    assert redact_line("    value: hunter2", [*above[:2], "  password:"]) == "    …"
    assert redact_line("  username: env:NAME", above[:1]) == "  username: env:NAME"


def test_tokens_are_recognized_wherever_they_stand() -> None:
    assert redact_text("unknown key 'AKIA0123456789ABCDEF'") == "unknown key '…'"


@pytest.mark.parametrize(
    "value", ["*hunter2", "&hunter2 x", "!hunter2 x", "[hunter2", "hunter2: x", "'hunter2"]
)
def test_a_secret_that_breaks_the_yaml_is_not_echoed(value: str) -> None:
    problems = parse("fleet.yaml", f"registry:\n  password: {value}\n".encode()).problems
    assert problems
    assert SECRET not in "\n".join(problem.render() for problem in problems)
