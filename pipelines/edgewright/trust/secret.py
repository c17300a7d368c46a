"""Secrets by reference: the YAML names where a secret is (`env:NAME`, `file:PATH`), never the secret.

>>> read_secret("env:HOME", Path("."), what="the home folder")   # doctest: +SKIP
b'/root'
"""

from __future__ import annotations

import os
from pathlib import Path

from edgewright.errors import TrustError


def secret_path(reference: str, root: Path) -> Path | None:
    """Return the file a `file:` reference names (relative to the fleet's `root`), None for `env:`."""
    return root / reference.removeprefix("file:") if reference.startswith("file:") else None


def read_secret(reference: str, root: Path, *, what: str, hint: str | None = None) -> bytes:
    """Return the bytes a reference stands for.

    Args:
        reference: `env:NAME` or `file:PATH`.
        root: Folder that relative paths start from.
        what: How to call the secret in an error: "the signing key".
        hint: What to do when it is missing.

    Raises:
        TrustError: the variable is unset or empty, or the file cannot be read.
    """
    path = secret_path(reference, root)
    if path is not None:
        try:
            return path.read_bytes()
        except OSError as error:
            raise TrustError(f"{what} cannot be read from {path}: {error.strerror}", hint=hint) from error
    kind, _, name = reference.partition(":")
    if kind != "env" or not name:
        raise TrustError(f"{what} is given as {reference!r}, which is neither env:NAME nor file:PATH")
    value = os.environ.get(name)
    if not value:
        raise TrustError(
            f"{what} is expected in the environment variable {name}, which is not set", hint=hint
        )
    return value.encode()


def read_line(reference: str, root: Path, *, what: str) -> str:
    """Return a one-line secret (user name, password, passphrase) without its trailing line end.

    Raises:
        TrustError: as for `read_secret`, or it is no text.
    """
    secret = read_secret(reference, root, what=what)
    try:
        return secret.decode().rstrip("\r\n")
    except UnicodeDecodeError:  # not chained: the exception holds the secret's bytes
        pass
    raise TrustError(f"{what} is not UTF-8 text", hint=f"look at {reference}: is it the file you mean?")
