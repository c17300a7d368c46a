"""Who signed keyless: Sigstore bundles with a short-lived certificate, checked offline in a child process.

The child (`keyless_child`) loads sigstore-python, which is large, and ends; this module starts it and bounds it. What
comes back are facts, not a verdict: the caller decides whether an identity is one it trusts.

>>> found = verify_bundles([bundle], trusted_root=root)             # doctest: +SKIP
>>> found[0].issuer, found[0].identity                              # doctest: +SKIP
('https://token.actions.githubusercontent.com', 'https://github.com/acme/fleet/.github/workflows/release.yml@refs/heads/main')
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from edgewright_agent.contract import MAX_BUNDLE_BYTES, MAX_REFERRERS, MAX_TRUSTED_ROOT_BYTES
from edgewright_agent.errors import TrustError
from edgewright_agent.transport.document import parse_json

TIMEOUT_S = 180.0
"""For all bundles together. Four take 1 CPU-second on x86; a small board is ten times slower and may be busy."""

_COMMAND = (sys.executable, "-B", "-m", "edgewright_agent.trust.keyless_child")
_MAX_REASON = 300
_MAX_NAMES_BYTES = 8192  # issuer, identity and field names of one answer
_MISSING = "signatures by identity need sigstore: install edgewright-agent[keyless]"


@dataclass(frozen=True)
class Verified:
    """What a valid bundle holds, and whose certificate signed it.

    Attributes:
        payload_type: DSSE payload type.
        payload: What was signed; not parsed.
        issuer: Who vouched for the identity: URL of the OIDC issuer in the certificate.
        identity: The certificate's only subject alternative name: an e-mail address or a URI.
    """

    payload_type: str
    payload: bytes
    issuer: str
    identity: str


def verify_bundles(
    bundles: Sequence[bytes],
    *,
    trusted_root: bytes,
    command: Sequence[str] = _COMMAND,
    timeout_s: float = TIMEOUT_S,
) -> list[Verified | TrustError]:
    """Return, for each bundle in order, what it holds or why it is refused; never raises for what is in one.

    A bundle is valid when its certificate leads to an authority of the trusted root at a verified time and holds a
    certificate log's timestamp (SCT), its only transparency log entry is about this signature, with an inclusion proof
    and a signed checkpoint, and the DSSE signature is the certificate's (Sigstore client specification, Verification).

    Args:
        bundles: Sigstore bundles v0.3, JSON, from anybody.
        trusted_root: Sigstore TrustedRoot, JSON, as `targets` signed it.
        command: The child, for tests.
        timeout_s: For all of them together.

    Returns:
        TrustError codes: `bad-signature`; `bad-trusted-root`; `keyless-missing` when sigstore is not installed.
    """
    answers: list[Verified | TrustError | None] = [_too_large(bundle) for bundle in bundles]
    pending = [index for index, answer in enumerate(answers) if answer is None]
    for index in pending[MAX_REFERRERS:]:
        answers[index] = _bad(f"there are more than {MAX_REFERRERS} bundles")
    pending = pending[:MAX_REFERRERS]
    if pending and (problem := _unusable(trusted_root)) is not None:
        return [answer or problem for answer in answers]
    deadline = time.monotonic() + timeout_s
    while pending:
        given = [bundles[index] for index in pending]
        ended, told = _ask(given, trusted_root, command, deadline - time.monotonic())
        for answer in told:
            answers[pending.pop(0)] = answer
        if pending:
            # The bundle it was at ended the child, or took all the time. It must not hide those behind it.
            answers[pending.pop(0)] = _bad(ended)
        if time.monotonic() >= deadline:
            break
    return [answer or _bad("there was no time left to check it") for answer in answers]


def _too_large(bundle: bytes) -> TrustError | None:
    return _bad(f"it has more than {MAX_BUNDLE_BYTES} bytes") if len(bundle) > MAX_BUNDLE_BYTES else None


def _unusable(trusted_root: bytes) -> TrustError | None:
    if find_spec("sigstore") is None:
        return TrustError("keyless-missing", _MISSING)
    if len(trusted_root) > MAX_TRUSTED_ROOT_BYTES:
        message = f"the Sigstore trusted root has more than {MAX_TRUSTED_ROOT_BYTES} bytes"
        return TrustError("bad-trusted-root", message)
    return None


def _ask(
    bundles: Sequence[bytes], trusted_root: bytes, command: Sequence[str], timeout_s: float
) -> tuple[str, list[Verified | TrustError]]:
    """Run the child once; return why it ended before the last bundle, and what it said until then."""
    request = json.dumps(
        {"trustedRoot": _text(trusted_root), "bundles": [_text(bundle) for bundle in bundles]}
    )
    limit = sum(len(bundle) + _MAX_NAMES_BYTES for bundle in bundles)  # it can repeat what it got, not more
    with _unnamed_file(request.encode()) as given:
        try:
            child = subprocess.Popen(  # noqa: S603  our own interpreter, no shell
                list(command),
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=_environment(os.environ),
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:  # no memory or no process left at the moment
            return f"the process that checks it cannot be started: {error}", []
    try:
        ended, output = _listen(child, limit, max(timeout_s, 0.0))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    return ended or f"the process that checked it ended with {child.returncode}", list(
        _answers(output, len(bundles))
    )


@contextlib.contextmanager
def _unnamed_file(content: bytes) -> Iterator[int]:
    """Give a file that lies in memory only: a pipe would have to be fed while the answers are read."""
    with os.fdopen(os.memfd_create("bundles"), "wb") as file:
        file.write(content)
        file.flush()
        file.seek(0)
        yield file.fileno()


def _listen(child: subprocess.Popen[bytes], limit: int, timeout_s: float) -> tuple[str, bytes]:
    """Return what the child writes, and why nobody listens any more when it did not end by itself."""
    assert child.stdout  # noqa: S101  it is a pipe
    deadline = time.monotonic() + timeout_s
    output = b""
    with child.stdout, selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while len(output) <= limit:
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if time.monotonic() >= deadline:
                return f"it was not checked within {timeout_s:.0f} s", output
            if ready:
                data = os.read(child.stdout.fileno(), 65536)
                if not data:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        child.wait(1.0)  # it has closed its output, so it is ending
                    return "", output
                output += data
    return "the process that checked it wrote too much", output


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    """Return what the child needs of our environment: where its modules are. No home, no proxies, no secrets."""
    kept = {name: ours[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG") if name in ours}
    return {**kept, "PYTHONSAFEPATH": "1", "PYDANTIC_DISABLE_PLUGINS": "__all__"}


def _answers(output: bytes, count: int) -> Iterator[Verified | TrustError]:
    """Yield the answers in the child's output, one line each; the first that is none ends them."""
    for line in output.splitlines()[:count]:
        try:
            yield _answer(parse_json(line, "the answer"))
        except (ValueError, KeyError, TypeError):
            return


def _answer(fields: Any) -> Verified | TrustError:
    if "code" in fields:
        return TrustError(str(fields["code"])[:80], str(fields["message"])[:_MAX_REASON])
    if "refused" in fields:
        return _bad(str(fields["refused"]))
    return Verified(
        payload_type=str(fields["payloadType"]),
        payload=base64.b64decode(fields["payload"], validate=True),
        issuer=str(fields["issuer"]),
        identity=str(fields["identity"]),
    )


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bad(reason: str) -> TrustError:
    return TrustError("bad-signature", f"a signature bundle is refused: {reason[:_MAX_REASON]}")
