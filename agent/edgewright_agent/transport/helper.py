"""Credential helpers: a program on the device that knows the log-in of a registry, as Docker's clients use them.

>>> ask("ecr-login", "123456789012.dkr.ecr.eu-central-1.amazonaws.com")     # doctest: +SKIP
('AWS', '…')

`docker-credential-NAME get` reads the registry's host from its standard input and writes a JSON object with
`Username` and `Secret` (docker/docker-credential-helpers, "Development"). What it writes is bounded, and so is
its time; it is looked for in PATH.
"""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from edgewright_agent.errors import ConfigError, TransportError
from edgewright_agent.transport.document import parse_json
from edgewright_agent.transport.secret import MAX_SECRET_BYTES

TIMEOUT_S = 20.0
_MAX_ANSWER_BYTES = 2 * MAX_SECRET_BYTES
_PROGRAM = "docker-credential-"
_NOTHING_KNOWN = "credentials not found"  # docker-credential-helpers, credentials/error.go; exit code 1


def ask(name: str, host: str, *, timeout_s: float = TIMEOUT_S) -> tuple[str, str] | None:
    """Return the user name and secret a helper has for a registry; None when it knows none.

    Args:
        name: What follows `docker-credential-`; the configuration checks its form.
        host: `host[:port]` of the registry. Nothing else is told to the helper.
        timeout_s: After that it is killed, and whatever it started with it.

    Raises:
        ConfigError: `bad-secret`: there is no such program, or what it says is no answer.
        TransportError: `network`: it failed or took too long; it may ask a service of its own.
    """
    program = shutil.which(_PROGRAM + name)
    if program is None:
        raise ConfigError("bad-secret", f"source.credentialHelper: {_PROGRAM}{name} is not in PATH")
    code, output = _run(program, host.encode(), timeout_s)
    if code != 0:
        said = output[:200].decode(errors="replace").strip()
        if said.startswith(_NOTHING_KNOWN):
            return None
        raise TransportError("network", f"{_PROGRAM}{name} failed for {host} (exit code {code}): {said!r}")
    return _parse(output, f"the answer of {_PROGRAM}{name} for {host}")


def _run(program: str, asked: bytes, timeout_s: float) -> tuple[int, bytes]:
    """Return exit code and output of a program that may be neither long-winded nor slow."""
    process = subprocess.Popen(  # noqa: S603  the configuration names it
        [program, "get"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # so that what it starts can be ended with it
    )
    try:
        return _conversation(process, asked, Path(program).name, timeout_s)
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise


def _conversation(
    process: subprocess.Popen[bytes], asked: bytes, name: str, timeout_s: float
) -> tuple[int, bytes]:
    assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018  they are pipes
    deadline = time.monotonic() + timeout_s
    output = bytearray()
    with process.stdout, selectors.DefaultSelector() as ready:
        with suppress(BrokenPipeError), process.stdin:  # one that knows without being told need not listen
            process.stdin.write(asked)
        ready.register(process.stdout, selectors.EVENT_READ)
        while ready.select(max(deadline - time.monotonic(), 0.0)):
            data = os.read(process.stdout.fileno(), 4096)
            output += data
            if len(output) > _MAX_ANSWER_BYTES:
                raise ConfigError("bad-secret", f"{name} writes more than {_MAX_ANSWER_BYTES} bytes")
            if not data:
                with suppress(subprocess.TimeoutExpired):
                    return process.wait(max(deadline - time.monotonic(), 0.0)), bytes(output)
                break
    raise TransportError("network", f"{name} gave no answer within {timeout_s:g} s")


def _parse(output: bytes, what: str) -> tuple[str, str]:
    try:
        document = parse_json(output, what)
    except ValueError:
        document = None  # the message would repeat what may be a secret
    fields = document if isinstance(document, dict) else {}
    username, secret = fields.get("Username"), fields.get("Secret")
    if not all(isinstance(text, str) and text and text.isprintable() for text in (username, secret)):
        raise ConfigError("bad-secret", f"{what} has no Username and Secret")
    return str(username), str(secret)
