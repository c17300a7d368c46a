"""What Git says of the fleet's repository at this moment: which commit, from where, and whether files differ from it.

>>> look(Path("."))                      # doctest: +SKIP
Worktree(state='clean', commit='3f2a…', repository='https://github.com/acme/fleet', folder='')
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

_DEADLINE_S = 60
_READ = ("fleet.yaml", "hardware", "models", "baselines")
"""What of a repository decides an artifact; a changed README does not make it another one."""
_MAX_CHANGED = 20
_QUIET = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
"""Looking must not take locks that somebody else's git waits for, nor ask anybody for anything."""
_SCP_LIKE = re.compile(r"(?:[^@/\s]+@)?([A-Za-z0-9.-]+):(?!//)(\S+)")


@dataclass(frozen=True)
class Worktree:
    """The repository that specs and code came from.

    Attributes:
        state: `clean`: every file that decides an artifact is as in `commit`; `modified`: some are not;
            `unversioned`: Git knows nothing of this folder, or there is no Git.
        commit: 40 (or 64) hex digits; empty when unversioned.
        repository: Address people clone from, without credentials; empty when there is none, or only a local one.
        folder: Where fleet.yaml lies inside the repository; empty at its top.
        changed: Files that are not as in `commit`, the first of them.
    """

    state: Literal["clean", "modified", "unversioned"]
    commit: str = ""
    repository: str = ""
    folder: str = ""
    changed: tuple[str, ...] = ()


def look(
    root: Path, environment: Mapping[str, str] = os.environ, *, pinned: Collection[str] = ()
) -> Worktree:
    """Return what Git says of the repository around `root`; never fails, for signing must not depend on Git.

    Args:
        root: Folder of fleet.yaml.
        environment: In GitHub Actions the repository's address is taken from it.
        pinned: Files below `root` that a spec names with their sha256: Git need not know them.
    """
    commit = _git(root, "rev-parse", "--verify", "HEAD")
    # What Git is told to ignore is read all the same: code and data that nobody finds in the commit.
    options = ("--porcelain", "--untracked-files=all", "--ignored=traditional", "--no-renames")
    status = _git(root, "status", *options, "--", *_READ)
    if commit is None or status is None or re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", commit.strip()) is None:
        return Worktree("unversioned")
    prefix = (_git(root, "rev-parse", "--show-prefix") or "").strip()
    apart = {prefix + name for name in pinned}
    changed = tuple(
        name
        for line in status.splitlines()
        if (name := line[3:].strip('"')) and not (line.startswith("!!") and _decides_nothing(name, apart))
    )
    return Worktree(
        state="modified" if changed else "clean",
        commit=commit.strip(),
        repository=_repository(root, environment),
        folder=prefix.rstrip("/"),
        changed=changed[:_MAX_CHANGED],
    )


def _decides_nothing(name: str, pinned: Collection[str]) -> bool:
    """Whether an ignored file is of those that no stage reads (`edgewright.plan.stage.code_digests`)."""
    return name in pinned or "__pycache__" in name.split("/") or name.endswith((".pyc", ".md"))


def public_address(remote: str) -> str:
    """Return a remote as an address anybody may see: no user, no password, nothing of this machine.

    >>> public_address("https://bot:token@git.example/acme/fleet.git")
    'https://git.example/acme/fleet'
    >>> public_address("git@github.com:acme/fleet.git")
    'https://github.com/acme/fleet'
    >>> public_address("/home/ada/fleet")
    ''
    """
    remote = remote.strip()
    if (match := _SCP_LIKE.fullmatch(remote)) is not None:
        remote = f"ssh://{match[1]}/{match[2]}"
    try:
        parts = urlsplit(remote)
        host, port = parts.hostname, parts.port
    except ValueError:
        return ""
    if parts.scheme not in ("http", "https", "ssh", "git") or not host:
        return ""
    # People and policies write https, whatever this machine fetches by; a port belongs to the scheme it was given for.
    place = f"{host}:{port}" if port is not None and parts.scheme in ("http", "https") else host
    return f"https://{place}/{parts.path.strip('/').removesuffix('.git')}"


def _repository(root: Path, environment: Mapping[str, str]) -> str:
    if environment.get("GITHUB_ACTIONS") == "true" and environment.get("GITHUB_REPOSITORY"):
        server = environment.get("GITHUB_SERVER_URL", "https://github.com")
        return public_address(f"{server}/{environment['GITHUB_REPOSITORY']}")
    return public_address(_git(root, "config", "--get", "remote.origin.url") or "")


def _git(root: Path, *arguments: str) -> str | None:
    """Return what a git command prints, or None when it fails or there is no git."""
    try:
        ran = subprocess.run(
            ["git", "-c", "core.quotePath=false", "-c", "core.fsmonitor=false", "-C", str(root), *arguments],
            capture_output=True,
            timeout=_DEADLINE_S,
            check=False,
            env={**_outside_of_hooks(), **_QUIET},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ran.stdout.decode("utf-8", "replace") if ran.returncode == 0 else None


def _outside_of_hooks() -> dict[str, str]:
    """Return the environment without what git tells its hooks: it would answer for the repository of the hook."""
    told = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_NAMESPACE")
    return {name: value for name, value in os.environ.items() if name not in told}
