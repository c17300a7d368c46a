"""A candidate: one way to build a lane's artifact, and what is known of it so far.

>>> proposal = Proposal("trained", "static-int8", "int8", {"activations": "u8", "weights": "s8"}, "U8S8")
>>> proposal.name
'static-int8 U8S8'
>>> replace(proposal, base="pruned-50").name
'pruned-50 + static-int8 U8S8'
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from edgewright.build.metric import Drop, Score

TRAINED = "trained"
"""The base that is the model itself; others are its variants."""
FP32 = "fp32"

Rung = Literal["none", "built", "quick", "full", "target"]
"""How far a candidate came: built; scored on a few selection samples; on all; measured on the target."""


@dataclass(frozen=True)
class Proposal:
    """What could be built.

    Attributes:
        base: `TRAINED` or a variant's name.
        recipe: `fp32` or a recipe's name.
        precision: What the artifact is called.
        settings: Of the recipe.
        text: The settings as people write them.
        estimate_s: What building and scoring it takes, roughly; target figures are estimated apart.
        speed: Rough latency against fp32 of `TRAINED`, before anything is measured.
    """

    base: str
    recipe: str
    precision: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    estimate_s: float = 0.0
    speed: float = 1.0

    @property
    def name(self) -> str:
        """What it is called in tables; unique within a search."""
        own = f"{self.recipe} {self.text}".strip()
        return own if self.base == TRAINED else f"{self.base} + {own}"


@dataclass(frozen=True)
class Cost:
    """What a candidate costs on its class.

    Attributes:
        latency_ms: One inference: `value`, `low`, `high` of its band.
        load_ms: Upper end of the start-up.
        power_cycle_ms: Upper end of the start-up after a power cycle.
        memory_bytes: Peak over the bare engine, measured: what the limit is held to.
        estimate_bytes: The same estimated from the graph: what candidates are compared by, because a measured figure
            near a step differs from machine to machine.
        instructions: Per inference.
        disagrees: What the target answers otherwise than this machine; empty when it agrees.
        load_instructions: To load.
    """

    latency_ms: Mapping[str, float]
    load_ms: float
    power_cycle_ms: float
    memory_bytes: int
    estimate_bytes: int
    instructions: int
    disagrees: str = ""
    load_instructions: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "latencyMs": dict(self.latency_ms),
            "loadMs": self.load_ms,
            "powerCycleMs": self.power_cycle_ms,
            "memoryBytes": self.memory_bytes,
            "memoryEstimateBytes": self.estimate_bytes,
            "instructions": self.instructions,
            "loadInstructions": self.load_instructions,
            **({"disagrees": self.disagrees} if self.disagrees else {}),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Cost:
        """Read what `to_json` wrote."""
        return cls(
            document["latencyMs"],
            document["loadMs"],
            document["powerCycleMs"],
            document["memoryBytes"],
            document["memoryEstimateBytes"],
            document["instructions"],
            document.get("disagrees", ""),
            document["loadInstructions"],
        )


@dataclass(frozen=True)
class Candidate:
    """A proposal, and what is known of it.

    Attributes:
        digest: sha256 of the model's bytes; empty when it could not be built.
        score: On the selection data: on all of it, or in rung `quick` on a few.
        drop: Against fp32 on the same samples.
        worst_label: The label that lost most recall, and how much.
        cost: On the target.
        conditions: Field condition → score on the selection data under it.
        stopped: Why it came no further.
    """

    proposal: Proposal
    digest: str = ""
    size_bytes: int = 0
    rung: Rung = "none"
    score: Score | None = None
    drop: Drop | None = None
    worst_label: tuple[str, float] | None = None
    cost: Cost | None = None
    stopped: str = ""
    conditions: Mapping[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The proposal's name."""
        return self.proposal.name

    def with_stop(self, why: str) -> Candidate:
        """Return it with the reason why it comes no further."""
        return replace(self, stopped=why)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; the same for the same candidate."""
        proposal = self.proposal
        return {
            "name": proposal.name,
            "base": proposal.base,
            "recipe": proposal.recipe,
            "precision": proposal.precision,
            "settings": dict(proposal.settings),
            "text": proposal.text,
            "model": self.digest,
            "sizeBytes": self.size_bytes,
            "rung": self.rung,
            "score": vars(self.score) if self.score else None,
            "drop": vars(self.drop) if self.drop else None,
            "worstLabel": list(self.worst_label) if self.worst_label else None,
            "cost": self.cost.to_json() if self.cost else None,
            "stopped": self.stopped,
            "conditions": dict(self.conditions),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Candidate:
        """Read what `to_json` wrote."""
        proposal = Proposal(
            document["base"],
            document["recipe"],
            document["precision"],
            document["settings"],
            document["text"],
        )
        score, drop, worst, cost = (document[name] for name in ("score", "drop", "worstLabel", "cost"))
        return cls(
            proposal,
            document["model"],
            document["sizeBytes"],
            document["rung"],
            Score(**score) if score else None,
            Drop(**drop) if drop else None,
            (worst[0], worst[1]) if worst else None,
            Cost.from_json(cost) if cost else None,
            document["stopped"],
            document["conditions"],
        )
