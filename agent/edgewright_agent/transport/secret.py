"""Secrets by reference: a configuration says where a secret is (`env:`, `file:`, `credential:`), never what it is.

>>> Secret.parse("credential:registry", Path("/etc/edgewright"))
Secret(kind='credential', place='registry')
>>> Secret.parse("file:token", Path("/etc/edgewright")).read("source.password")     # doctest: +SKIP
'…'

`credential:NAME` is what systemd passes to a unit by LoadCredential= or LoadCredentialEncrypted=
(systemd.exec(5), Credentials): a file of that name in `$CREDENTIALS_DIRECTORY`.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from edgewright_agent.errors import ConfigError

MAX_SECRET_BYTES = 16 * 1024  # identity tokens of cloud registries have a few KiB
FORMS = "env:NAME, file:PATH or credential:NAME"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_CREDENTIAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")
_READABLE_BY_OTHERS = stat.S_IROTH | stat.S_IWOTH


class NotPassedError(ConfigError):
    """A `credential:` in a process to which systemd has passed none, such as a shell: the unit may have it."""


@dataclass(frozen=True)
class Secret:
    """Where a one-line secret is: `kind` is `env`, `file` or `credential`, `place` a name or an absolute path."""

    kind: str
    place: str

    @classmethod
    def parse(cls, reference: str, base: Path) -> Secret:
        """Read a reference; relative paths start at `base`.

        Raises:
            ValueError: it has none of the three forms. The message does not repeat it: it may be the secret.
        """
        kind, colon, name = reference.partition(":")
        if colon and kind == "file" and name.strip() == name != "" and name.isprintable():
            return cls(kind, str(base / name))
        if (kind == "env" and _VARIABLE.fullmatch(name)) or (
            kind == "credential" and _CREDENTIAL.fullmatch(name)
        ):
            return cls(kind, name)
        raise ValueError(f"must say where the secret is: {FORMS}")

    def __str__(self) -> str:
        return f"{self.kind}:{self.place}"

    def read(self, what: str, *, private: bool = True) -> str:
        """Return the secret without its line end.

        Args:
            what: How an error calls it: `source.password`.
            private: Whether nobody else may know it; a user name is no secret.

        Raises:
            NotPassedError: `bad-secret`: systemd has passed no credentials to this process.
            ConfigError: `bad-secret`: it is not there, empty, too long, no single line of UTF-8 text, or a
                file that every user of this device can read or change. The message never shows it.
        """
        data = self._bytes(what, private)
        if len(data) > MAX_SECRET_BYTES:
            raise _bad(what, self, f"has more than {MAX_SECRET_BYTES} bytes")
        try:
            text = data.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:  # not chained: the exception holds the secret's bytes
            text = "\0"
        if text and not text.isprintable():
            raise _bad(what, self, "is not one line of UTF-8 text")
        if not text:
            raise _bad(what, self, "is empty")
        return text

    def _bytes(self, what: str, private: bool) -> bytes:
        if self.kind == "env":
            value = os.environ.get(self.place)
            if value is None:
                raise _bad(what, self, "is not set in the agent's environment")
            return value.encode(errors="surrogateescape")
        if self.kind == "file":
            return _file(Path(self.place), what, self, guarded=private)
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if not folder:
            raise NotPassedError(
                "bad-secret",
                f"{what}: {self} was not passed: the unit needs LoadCredential= or LoadCredentialEncrypted=; "
                "by hand, systemd-run -p LoadCredential=NAME:FILE",
            )
        return _file(Path(folder) / self.place, what, self, guarded=False)


def _file(path: Path, what: str, secret: Secret, *, guarded: bool) -> bytes:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            # On a device the applications that use a model are the other users. systemd guards its own folder.
            if guarded and stat.S_ISREG(mode) and mode & _READABLE_BY_OTHERS:
                raise _bad(what, secret, f"is open to every user of this device; chmod o-rw {path}")
            return file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise _bad(what, secret, f"cannot be read: {error.strerror}") from error


def _bad(what: str, secret: Secret, problem: str) -> ConfigError:
    return ConfigError("bad-secret", f"{what}: {secret} {problem}")
