"""Secrets by reference: the YAML names where a secret is, never the secret.

>>> read_secret("env:HOME", Path("."), what="the home folder")   # doctest: +SKIP
b'/root'

`env:NAME` is an environment variable, `file:PATH` a file, `credential:NAME` what systemd passes to a unit by
LoadCredential= (systemd.exec(5), Credentials): a file of that name in `$CREDENTIALS_DIRECTORY`. Who else may read a
file is not judged here: Docker and Kubernetes mount secrets readable by all inside a container of their own.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from edgewright.errors import TrustError

FORMS = "env:NAME, file:PATH or credential:NAME"
MAX_SECRET_BYTES = 64 * 1024
_CREDENTIAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")


def secret_path(reference: str, root: Path) -> Path | None:
    """Return the file a `file:` reference names (relative to the fleet's `root`), None for the other forms."""
    return root / reference.removeprefix("file:") if reference.startswith("file:") else None


def read_secret(reference: str, root: Path, *, what: str, hint: str | None = None) -> bytes:
    """Return the bytes a reference stands for, at most `MAX_SECRET_BYTES`.

    Args:
        reference: `env:NAME`, `file:PATH` or `credential:NAME`.
        root: Folder that relative paths start from.
        what: How to call the secret in an error: "the signing key".
        hint: What to do when it is missing.

    Raises:
        TrustError: it is not there, empty or too long, or the file cannot be read.
    """
    kind, _, name = reference.partition(":")
    if kind == "env" and name:
        value = os.environ.get(name)
        if not value:
            raise TrustError(
                f"{what} is expected in the environment variable {name}, which is not set", hint=hint
            )
        return value.encode(errors="surrogateescape")
    path = secret_path(reference, root)
    if kind == "credential" and _CREDENTIAL.fullmatch(name):
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if not folder:
            raise TrustError(
                f"{what} is expected as the systemd credential {name}, but none were passed",
                hint=hint or f"LoadCredential={name}:PATH or LoadCredentialEncrypted= in the unit",
            )
        path = Path(folder) / name
    if path is None:
        # Not repeated: somebody may have written the secret itself.
        raise TrustError(f"{what} is not given as {FORMS}", hint=hint)
    try:
        with path.open("rb") as file:
            secret = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise TrustError(f"{what} cannot be read from {path}: {error.strerror}", hint=hint) from error
    if not 0 < len(secret) <= MAX_SECRET_BYTES:
        problem = f"more than {MAX_SECRET_BYTES} bytes" if secret else "nothing in it"
        raise TrustError(f"{what}: {path} has {problem}", hint=hint)
    return secret


def read_line(reference: str, root: Path, *, what: str) -> str:
    """Return a one-line secret (user name, password, passphrase) without its line end.

    Raises:
        TrustError: as for `read_secret`, or it is not one line of text.
    """
    secret = read_secret(reference, root, what=what)
    try:
        line = secret.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:  # not chained: the exception holds the secret's bytes
        line = "\n"
    if line and line.isprintable():
        return line
    raise TrustError(
        f"{what} is not one line of UTF-8 text", hint=f"look at {reference}: is it the one you mean?"
    )
