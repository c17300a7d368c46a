"""What is wrong with this installation, and what to do about it: one finding per thing looked at.

>>> findings = examine(load(path), offline=True)           # doctest: +SKIP
>>> print(in_words(findings))                              # doctest: +SKIP
ok    configuration    /etc/edgewright/agent.json, device pump-7 (raspberry-pi-4)
warn  clock            not synchronized → start a time service, such as systemd-timesyncd
FAIL  state            /var/lib/edgewright is not writable by this user → run as the user edgewright

It only looks: what it writes is one small file in the state directory, which it removes again, to see whether the
disk takes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgewright_agent.config import Config
from edgewright_agent.errors import AgentError, StorageError

OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(frozen=True)
class Finding:
    """What was seen of one thing.

    Attributes:
        what: The thing: `clock`, `state`, `source`.
        level: `ok`; `warn`: it works, but not as it should; `fail`: it does not work.
        message: What was seen.
        remedy: What to do; empty when there is nothing to do.
    """

    what: str
    level: str
    message: str
    remedy: str = ""


Check = Callable[[Config], Iterator[Finding]]


def examine(config: Config, *, offline: bool = False, deep: bool = False) -> list[Finding]:
    """Look at everything an installation needs.

    Args:
        config: The configuration, which has been read already.
        offline: Do not ask the source.
        deep: Hash every installed file, and load every model in the inference engine.
    """
    from edgewright_agent.doctor import device, installation, link, models

    checks: list[Check] = [
        installation.software,
        installation.anchors,
        installation.secrets,
        installation.identity,
        device.state,
        device.space,
        device.clock,
        device.memory,
        installation.service,
        installation.sockets,
        link.policy,
        link.telemetry,
        models.record,
        models.installed,
        models.standing,
        *([models.intact, models.loads] if deep else []),
        *([] if offline else [link.source]),
    ]
    return [finding for check in checks for finding in _guarded(check, config)]


def _guarded(check: Check, config: Config) -> Iterator[Finding]:
    """Look, and make a finding of whatever goes wrong while looking: the other checks must still be made."""
    name = check.__name__
    try:
        yield from check(config)
    except AgentError as error:
        yield Finding(name, FAIL, f"{error.code}: {error}")
    except (OSError, ImportError) as error:
        yield Finding(name, FAIL, f"cannot be looked at: {error}")


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 0 when everything works, be it with warnings, else what a failing installation exits with."""
    return StorageError.exit_code if any(finding.level == FAIL for finding in findings) else 0


def document(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the findings as JSON values."""
    worst = next((level for level in (FAIL, WARN) if any(f.level == level for f in findings)), OK)
    return {"version": 1, "result": worst, "findings": [asdict(finding) for finding in findings]}


def in_words(findings: Sequence[Finding], *, color: bool = False) -> str:
    """Return the findings for people: one line each, and what to do."""
    width = max((len(finding.what) for finding in findings), default=0)
    lines = [_line(finding, width, color) for finding in findings]
    failed, warned = (sum(finding.level == level for finding in findings) for level in (FAIL, WARN))
    if failed:
        lines.append(f"{failed} to mend" + (f", {warned} to look at" if warned else ""))
    elif warned:
        lines.append(f"it works; {warned} to look at")
    else:
        lines.append("all is well")
    return "\n".join(lines)


_COLORS = {OK: "32", WARN: "33", FAIL: "31"}


def _line(finding: Finding, width: int, color: bool) -> str:
    mark = (finding.level.upper() if finding.level == FAIL else finding.level).ljust(4)
    if color:
        mark = f"\x1b[{_COLORS[finding.level]}m{mark}\x1b[0m"
    remedy = f" → {finding.remedy}" if finding.remedy else ""
    return f"{mark}  {finding.what:{width}}  {finding.message}{remedy}"
