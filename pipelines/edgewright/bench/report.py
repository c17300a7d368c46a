"""The gate report: every limit of a lane beside what was measured, and the verdict; signed with the artifact.

A figure that is missing or not finite fails its check: a gate that cannot see says no. A figure exactly at
its limit passes.

>>> check = Check("latency-p95", measured=12.0, limit=20.0, unit="ms", direction="max",
source="hardware/x.yaml#limits")
>>> check.verdict, round(check.headroom, 2)
('pass', 0.4)
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edgewright.errors import BuildError
from edgewright.plan.figures import shown
from edgewright_agent.contract import canonical_json, is_digest

VERSION = 1  # devices read it: keys may be added, none may change its meaning
Verdict = Literal["pass", "fail"]
Direction = Literal["max", "min"]
HEADINGS = ("check", "measured", "limit", "headroom", "verdict", "from", "detail")


@dataclass(frozen=True)
class Check:
    """One limit and what was measured.

    Attributes:
        name: `latency-p95`, `accuracy-floor`, …
        measured: The figure; None when there is none.
        limit: What the YAML demands.
        unit: `ms`, `bytes`, `instructions` or `ratio` (0 to 1).
        direction: Whether the limit is the most (`max`) or the least (`min`) that may be.
        source: The YAML that says so, `file#dotted.path`.
        detail: What a figure alone does not tell: what went wrong, by its name, or what the figure is of.
    """

    name: str
    measured: float | None
    limit: float
    unit: str
    direction: Direction
    source: str
    detail: str = ""

    @property
    def seen(self) -> bool:
        """Whether there is a figure at all."""
        return self.measured is not None and math.isfinite(self.measured)

    @property
    def verdict(self) -> Verdict:
        """`pass` when the figure is there and not beyond the limit."""
        if self.measured is None or not math.isfinite(self.measured):
            return "fail"
        within = self.measured <= self.limit if self.direction == "max" else self.measured >= self.limit
        return "pass" if within else "fail"

    @property
    def headroom(self) -> float | None:
        """Share of the budget left, negative when exceeded, None without a figure.

        The budget of a `max` is the limit itself. That of a `min` ratio is what it allows to be lost: a floor
        of 0.95 allows 5 % errors, so an accuracy of 0.98 leaves 60 % of them. A budget of nothing has all
        left, none, or is exceeded by as much.
        """
        if self.measured is None or not math.isfinite(self.measured):
            return None
        budget, used = (
            (self.limit, self.measured) if self.direction == "max" else (1 - self.limit, 1 - self.measured)
        )
        if budget <= 0:
            return float((used < budget) - (used > budget))
        # Rounded, so that 1 - 0.95 leaves no dust; the verdict does not depend on it.
        return round((budget - used) / budget, 9)

    @property
    def used(self) -> float | None:
        """Share of the budget used: 1 is exactly at the limit."""
        return None if self.headroom is None else 1 - self.headroom

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "name": self.name,
            "measured": finite(self.measured),
            "limit": self.limit,
            "unit": self.unit,
            "direction": self.direction,
            "headroom": self.headroom,
            "verdict": self.verdict,
            "source": self.source,
            **({"detail": self.detail} if self.detail else {}),
        }


@dataclass(frozen=True)
class GateReport:
    """All checks of one artifact.

    Attributes:
        artifact: Digest of the artifact's manifest.
        calibration: How the measured figures relate to the device.
        figures: The whole evaluation and benchmark, for people.
        notes: What stands between the figures and the device, and what could not be compared.
    """

    model: str
    hardware_class: str
    model_version: str
    artifact: str
    calibration: str
    checks: tuple[Check, ...]
    figures: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """`pass` when there are checks and all of them pass."""
        return "pass" if self.checks and not self.failed else "fail"

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that fail."""
        return tuple(check for check in self.checks if check.verdict != "pass")

    def to_json(self) -> bytes:
        """Return the document that is signed, the same bytes for the same report."""
        return canonical_json(
            {
                "version": VERSION,
                "model": self.model,
                "hardwareClass": self.hardware_class,
                "modelVersion": self.model_version,
                "artifact": self.artifact,
                "verdict": self.verdict,
                "calibration": self.calibration,
                "checks": [check.to_json() for check in self.checks],
                "figures": finite(self.figures),
                "notes": list(self.notes),
            }
        )

    @classmethod
    def from_json(cls, data: bytes) -> GateReport:
        """Read a report.

        Raises:
            BuildError: it is not one, or its stored verdicts are not those of its own figures.
        """
        try:
            document = json.loads(data)
            report = cls(
                document["model"],
                document["hardwareClass"],
                document["modelVersion"],
                document["artifact"],
                document["calibration"],
                tuple(
                    Check(
                        c["name"],
                        c["measured"],
                        c["limit"],
                        c["unit"],
                        c["direction"],
                        c["source"],
                        c.get("detail", ""),
                    )
                    for c in document["checks"]
                ),
                document["figures"],
                tuple(document.get("notes", ())),
            )
            stored = [document["verdict"], *(c["verdict"] for c in document["checks"])]
            judged = [report.verdict, *(check.verdict for check in report.checks)]
        except (ValueError, KeyError, TypeError) as error:
            raise BuildError(f"not a gate report: {type(error).__name__}: {error}") from error
        if document.get("version") != VERSION or not is_digest(report.artifact):
            raise BuildError(f"not a gate report of version {VERSION} about an artifact")
        if stored != judged:
            raise BuildError("a gate report's verdicts contradict its own figures")
        return report


def table(report: GateReport) -> list[tuple[str, ...]]:
    """Return one row per check, in the order of `HEADINGS`, as people read it."""
    return [
        (
            check.name,
            shown(check.measured, check.unit),
            ("≤ " if check.direction == "max" else "≥ ") + shown(check.limit, check.unit),
            "–" if check.headroom is None else f"{check.headroom:+.0%}".replace("%", " %"),
            check.verdict,
            check.source,
            check.detail,
        )
        for check in report.checks
    ]


def finite(value: Any) -> Any:
    """Return `value` with every number that JSON has no word for (NaN, infinity) replaced by None."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
