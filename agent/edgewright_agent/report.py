"""What one poll brought, for people and for programs.

>>> poll = Poll("2030-01-01T00:00:00Z", "ok", "metadata verified")
>>> outcome = Outcome("digit-reader", "installed", "1.0.0: loads in 9 ms", 0, "sha256:" + "ab" * 32, "1.0.0")
>>> print(Report(poll, (outcome,), 0).text())
digit-reader  installed  1.0.0 sha256:abababababab (1.0.0: loads in 9 ms)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from edgewright_agent.record import Poll

if TYPE_CHECKING:
    from edgewright_agent.trial import Outcome

SHORT_DIGEST_CHARS = len("sha256:") + 12


@dataclass(frozen=True)
class Report:
    """One poll, whole: its own result, what became of each model, and what the link carried.

    Attributes:
        traffic: `requests` and `bytes_received`, as `Metered.traffic`.
        stuck: Garbage that could not be removed: paths below the state directory, and why.
    """

    poll: Poll
    outcomes: tuple[Outcome, ...]
    exit_code: int
    traffic: Mapping[str, int] = field(default_factory=dict)
    stuck: Mapping[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """Return one line per model, and one for the poll unless the models say it all."""
        width = max((len(outcome.model) for outcome in self.outcomes), default=0)
        lines = [f"{outcome.model:{width}}  {describe(outcome)}" for outcome in self.outcomes]
        if self.poll.code == "not-modified":
            lines.append(self.poll.message)
        elif self.poll.code != "ok":
            lines.append(f"{_kind(self.exit_code)}  {self.poll.code}: {self.poll.message}")
        elif not lines:
            lines.append("no model is assigned to this device")
        lines += [f"not removed  {path} ({why})" for path, why in sorted(self.stuck.items())]
        return "\n".join(lines)

    def json_lines(self) -> str:
        """Return one JSON object per model and, last, one for the poll with the exit code and traffic."""
        events = [{"event": "model", **asdict(outcome)} for outcome in self.outcomes]
        poll = {"event": "poll", **asdict(self.poll), "exit_code": self.exit_code, **self.traffic}
        poll["stuck"] = dict(self.stuck)
        return "\n".join(json.dumps(event, sort_keys=True) for event in (*events, poll))


def describe(outcome: Outcome) -> str:
    """Return an outcome in words: what happened, to which version, why."""
    what = f"{outcome.version or '?'} {short(outcome.digest)}".rstrip()
    if outcome.exit_code == 0:
        return f"{outcome.code}  {what} ({outcome.message})"
    if outcome.code.startswith(("health-", "soak-")):
        return f"rolled back  {what} {outcome.code}: {outcome.message}"
    return f"{_kind(outcome.exit_code)}  {what} {outcome.code}: {outcome.message}"


def short(digest: str | None) -> str:
    """Return the first 12 hex digits of a digest, with its algorithm; nothing for none."""
    return digest[:SHORT_DIGEST_CHARS] if digest else ""


def _kind(exit_code: int) -> str:
    return {2: "refused", 3: "failed"}.get(exit_code, "wrong")
