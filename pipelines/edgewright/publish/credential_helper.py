"""Credential helpers: a program that knows the log-in of a registry, as Docker's own clients use them.

>>> ask("ecr-login", "123456789012.dkr.ecr.eu-central-1.amazonaws.com")     # doctest: +SKIP
('AWS', '…')

`docker-credential-NAME get` reads the registry's host from its standard input and writes a JSON object with
`Username` and `Secret` (docker/docker-credential-helpers, "Development"); the user name `<token>` says that the
secret is an identity token. What it writes is bounded, and so is its time.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from edgewright.errors import EnvironmentFault, NetworkError

TIMEOUT_S = 60.0  # some open a browser or ask a cloud
_MAX_ANSWER_BYTES = 64 * 1024
_PROGRAM = "docker-credential-"
_NOTHING_KNOWN = "credentials not found"  # docker-credential-helpers, credentials/error.go; exit code 1


def ask(name: str, host: str, *, timeout_s: float = TIMEOUT_S) -> tuple[str, str] | None:
    """Return the user name and secret a helper has for a registry; None when it knows none.

    Args:
        name: What follows `docker-credential-`.
        host: `host[:port]` of the registry. Nothing else is told to the helper.
        timeout_s: After that it is ended, and whatever it started with it.

    Raises:
        EnvironmentFault: there is no such program, or what it says is no answer.
        NetworkError: it failed or took too long.
    """
    program = shutil.which(_PROGRAM + name)
    if program is None:
        raise EnvironmentFault(
            f"{_PROGRAM}{name} is not in PATH", hint="install it, or correct registry.credentials.helper"
        )
    code, output = _run(program, host.encode(), timeout_s)
    if code != 0:
        said = output[:200].decode(errors="replace").strip()
        if said.startswith(_NOTHING_KNOWN):
            return None
        raise NetworkError(f"{_PROGRAM}{name} failed for {host} (exit code {code}): {said}")
    try:
        document = json.loads(output)
    except (ValueError, RecursionError):  # not chained: the exception holds what may be a secret
        document = None
    fields = document if isinstance(document, dict) else {}
    username, secret = fields.get("Username"), fields.get("Secret")
    if not all(isinstance(text, str) and text and text.isprintable() for text in (username, secret)):
        raise EnvironmentFault(f"{_PROGRAM}{name} gives no Username and Secret for {host}")
    return str(username), str(secret)


def _run(program: str, asked: bytes, timeout_s: float) -> tuple[int, bytes]:
    """Return exit code and output of a program that may be neither long-winded nor slow."""
    process = subprocess.Popen(  # noqa: S603  fleet.yaml names it
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
                raise EnvironmentFault(f"{name} writes more than {_MAX_ANSWER_BYTES} bytes")
            if not data:
                with suppress(subprocess.TimeoutExpired):
                    return process.wait(max(deadline - time.monotonic(), 0.0)), bytes(output)
                break
    raise NetworkError(f"{name} gave no answer within {timeout_s:g} s")
