"""Explore: build and measure a lane's candidates, the cheap checks before the costly ones.

Successive halving (Jamieson and Talwalkar, 2016) over three rungs: every candidate is scored on a few selection
samples, the better half on all of them, and the finalists run on the class's target. What is kept at each rung is the
Pareto set over accuracy, size and a rough speed, then the next fronts until half are kept: no limit and no objective
plays a part, so that a changed one re-decides without measuring anything again.

>>> found = explore(shop, class_facts, recipes, meter, budget_s=600)          # doctest: +SKIP
>>> [(one.name, one.rung) for one in found.candidates]                        # doctest: +SKIP
[('fp32', 'target'), ('static-int8 U8S8', 'target'), …]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from edgewright.build.passes.facts import ClassFacts
from edgewright.build.search.candidate import FP32, TRAINED, Candidate, Cost, Proposal
from edgewright.build.search.pareto import fronts
from edgewright.build.search.planned import FINALISTS, Plan, plan
from edgewright.build.search.proposals import MIXED, effort
from edgewright.build.search.sensitivity import RESTORED, mixed, ranking_estimate_s
from edgewright.build.search.workshop import Workshop
from edgewright.errors import BuildError
from edgewright.plan.figures import shown

QUICK_ROWS = 256
QUICK_FROM_MACS = 4e9
"""Scoring a model on all selection samples takes a second or more from here on; below, the first rung is the second."""
HOPELESS = 0.1
"""A loss of a tenth of the metric: such a candidate comes to the target only where there is room."""
METHODS = ("percentile", "entropy")
"""Calibrations tried where minmax loses something; it is equal or better nearly everywhere."""


class Meter(Protocol):
    """Measures what a model costs on a class."""

    @property
    def workers(self) -> int:
        """How many may be measured at a time."""
        ...

    def measure(self, model: bytes, precision: str) -> Cost:
        """Return the cost of a serialized model.

        Raises:
            BuildError: it does not run there; says how.
        """
        ...


Watch = Callable[[Candidate], None]
Tell = Callable[[str], None]


class Stopped(Exception):
    """Somebody wants the best so far."""


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        candidates: Everything that was tried, fp32 first.
        models: Digest → bytes of those that reached the target.
        skipped: Recipe → why it does not apply.
        left: Names of proposals that the time budget left out.
        complete: Whether it came to its end.
    """

    candidates: tuple[Candidate, ...]
    models: Mapping[str, bytes]
    skipped: Mapping[str, str] = field(default_factory=dict)
    left: tuple[str, ...] = ()
    complete: bool = True


def explore(
    shop: Workshop,
    class_facts: ClassFacts,
    recipes: Sequence[str],
    meter: Meter,
    *,
    budget_s: float,
    watch: Watch = lambda _candidate: None,
    tell: Tell = lambda _text: None,
) -> Found:
    """Build and measure candidates.

    Args:
        shop: Builds and scores them.
        class_facts: Of the hardware class.
        recipes: Names that the model allows.
        meter: Measures on the target.
        budget_s: Estimated seconds that may be spent.
        watch: Called with every candidate when something new is known of it; may raise `Stopped` to end the search
            with what it has.
        tell: Told what goes on.

    Raises:
        BuildError: fp32 itself does not run or gives NaN, or contradicts metric, labels or targets; or a field
            condition tests nothing.
        EnvironmentFault: the target is not on this machine.
    """
    planned = plan(shop, class_facts, recipes, budget_s)
    state = _State(shop, class_facts, planned, meter, watch, tell, left_s=budget_s - planned.estimate_s)
    complete = True
    try:
        state.score_all()
        if "static-int8" in recipes:
            state.mend(MIXED in recipes)
        state.measure_finalists()
    except Stopped:
        complete = False
    if complete and state.known[FP32].cost is None:
        raise BuildError(
            f"fp32 does not run on the target: {state.known[FP32].stopped}",
            hint="whatever cannot run in fp32 has nothing to be compared with: leave this class out of `classes`",
        )
    order = {name: index for index, name in enumerate(state.known)}
    return Found(
        candidates=tuple(sorted(state.known.values(), key=lambda one: (one.name != FP32, order[one.name]))),
        models={one.digest: state.models[one.name] for one in state.known.values() if one.cost is not None},
        skipped=planned.skipped,
        left=(*(proposal.name for proposal in planned.left), *state.left),
        complete=complete,
    )


@dataclass
class _State:
    """A search under way."""

    shop: Workshop
    class_facts: ClassFacts
    planned: Plan
    meter: Meter
    watch: Watch
    tell: Tell
    left_s: float
    known: dict[str, Candidate] = field(default_factory=dict)
    models: dict[str, bytes] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)

    def learn(self, candidate: Candidate) -> Candidate:
        """Take note of what is known now."""
        self.known[candidate.name] = candidate
        self.watch(candidate)
        return candidate

    def score_all(self) -> None:
        """Rungs `quick` and `full`."""
        self.shop.reference  # noqa: B018  fp32 comes first: if it does not run, nothing else is worth saying
        self.shop.under_conditions(self.shop.bases[TRAINED])  # nor if a condition tests nothing
        for proposal in self.planned.proposals:
            self.tell(f"scoring {proposal.name}")
            self.try_quickly(proposal)
        quick = [one for one in self.known.values() if one.rung == "quick"]
        if quick:
            self.tell("scoring the better half on all selection samples")
        for candidate in self.better_half(quick):
            self.learn(self.shop.scored(candidate, self.models[candidate.name], None))
        for candidate in list(self.known.values()):
            if candidate.rung == "quick":
                self.learn(candidate.with_stop("the worse half on a few samples"))

    def try_quickly(self, proposal: Proposal) -> Candidate:
        """Build a proposal and score it on a few samples."""
        try:
            model = self.shop.build(proposal)
        except BuildError as error:
            return self.learn(Candidate(proposal, stopped=str(error)))
        self.models[proposal.name] = model
        every = self.planned.graphs[proposal.base].total_macs * len(self.shop.selection)
        rows = None if every < QUICK_FROM_MACS else QUICK_ROWS
        return self.learn(self.shop.scored(Candidate(proposal), model, rows))

    def better_half(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        """Return the Pareto set, and further fronts until half are in it; fp32 always."""
        chosen = list(candidates)
        kept: list[Candidate] = []
        for front in fronts([self.point(one) for one in chosen]):
            if len(kept) >= (len(chosen) + 1) // 2:
                break
            kept += [chosen[index] for index in front]
        return kept + [one for one in chosen if one.name == FP32 and one not in kept]

    def mend(self, with_mixed: bool) -> None:
        """Try other calibrations and mixed precision where static int8 loses something."""
        for base, graph in self.planned.graphs.items():
            tried = [one for one in self.known.values() if one.proposal.base == base and one.drop]
            static = [one for one in tried if one.proposal.recipe == "static-int8"]
            own = next((one.drop for one in tried if one.proposal.recipe == FP32), None)
            if not static or own is None:
                continue
            best = self.least_lossy(static)
            if best.drop is None or best.drop.value - own.value <= RESTORED or self.outdone(best, tried):
                continue
            for method in METHODS:
                settings = {**best.proposal.settings, "method": method}
                text = f"{best.proposal.text} {method}"
                proposal = replace(best.proposal, settings=settings, text=text)
                if self.affords(proposal.name, best.proposal.estimate_s):
                    self.finish(proposal)
            # From minmax, also where another method lost less: what those clip, no node kept in fp32 brings back
            # (seen on an auto-encoder of spectrograms: 0.0065 left where minmax left 0.0012).
            one_s, name = best.proposal.estimate_s, replace(best.proposal, recipe=MIXED, text="").name
            if with_mixed and self.affords(name, ranking_estimate_s(graph) + one_s):
                for proposal, model in mixed(self.shop, best, graph.compute, self.tell):
                    kept = len(proposal.settings["keep"]) / len(graph.compute)
                    unit = effort(self.planned.graphs[TRAINED], FP32, {}, self.class_facts)
                    speed = effort(graph, MIXED, proposal.settings, self.class_facts, kept) / unit
                    self.models[proposal.name] = model
                    known = Candidate(replace(proposal, speed=round(speed, 4)))
                    self.learn(self.shop.scored(known, model, None))
                    if not self.affords(f"{name}, more nodes fp32", one_s):
                        break

    @staticmethod
    def least_lossy(candidates: Iterable[Candidate]) -> Candidate:
        """Return the candidate that lost least; equal ones in the order of their names."""
        return min(candidates, key=lambda one: (one.drop.value if one.drop else 1.0, one.name))

    def affords(self, name: str, cost_s: float) -> bool:
        """Whether the time budget has room for what mending takes; notes what it leaves out."""
        if cost_s > self.left_s:
            self.left.append(name)
            return False
        self.left_s -= cost_s
        return True

    def outdone(self, best: Candidate, tried: Sequence[Candidate]) -> bool:
        """Whether another recipe made something as small and roughly as fast that lost far less."""
        lost = best.drop.value if best.drop else 1.0
        return any(
            one.size_bytes <= best.size_bytes and one.drop is not None and one.drop.value <= lost / 4
            for one in tried
            if one.proposal.recipe not in (FP32, "static-int8")
            and one.proposal.speed <= best.proposal.speed * 1.2
        )

    def finish(self, proposal: Proposal) -> None:
        """Build a proposal and score it on all samples."""
        candidate = self.try_quickly(proposal)
        if candidate.rung == "quick":
            self.learn(self.shop.scored(candidate, self.models[proposal.name], None))

    def measure_finalists(self) -> None:
        """Rung `target`."""
        scored = [one for one in self.known.values() if one.rung == "full" and not one.stopped]
        finalists = self.finalists(scored)
        names = {one.digest: one.name for one in finalists}
        for candidate in scored:
            if candidate in finalists:
                continue
            why = "beaten before the target: less accurate, larger, or slower by estimate"
            if candidate.drop and candidate.drop.value >= HOPELESS:
                why = f"lost {shown(candidate.drop.value, 'ratio')} of the score: left before the target"
            if candidate.digest in names:
                why = f"the same model as {names[candidate.digest]}"
            self.learn(candidate.with_stop(why))
        with ThreadPoolExecutor(self.meter.workers) as pool:
            futures = {}
            for one in finalists:
                model = self.models[one.name]
                futures[one.name] = pool.submit(self.meter.measure, model, one.proposal.precision)
            for number, one in enumerate(finalists, 1):
                self.tell(f"on the target: {one.name} ({number} of {len(finalists)})")
                try:
                    cost = futures[one.name].result()
                    conditions = self.shop.under_conditions(self.models[one.name])
                    self.learn(replace(one, rung="target", cost=cost, conditions=conditions))
                except BuildError as error:
                    self.learn(one.with_stop(str(error)))
                except BaseException:
                    for future in futures.values():
                        future.cancel()
                    raise

    def finalists(self, scored: Sequence[Candidate]) -> list[Candidate]:
        """Return fp32 and at most `FINALISTS` - 1 others: front by front, those that lost a tenth last."""
        hopeful = [one for one in scored if one.drop and one.drop.value < HOPELESS and one.name != FP32]
        others = [one for one in scored if one not in hopeful and one.name != FP32]
        ranked: list[Candidate] = []
        for group in (hopeful, others):
            for front in fronts([self.point(one) for one in group]):
                ranked += sorted(
                    (group[index] for index in front), key=lambda one: (self.point(one)[2], one.name)
                )
        distinct: dict[str, Candidate] = {}
        for one in ranked:  # two settings may give one and the same model
            distinct.setdefault(one.digest, one)
        return [one for one in scored if one.name == FP32] + list(distinct.values())[: FINALISTS - 1]

    def point(self, candidate: Candidate) -> tuple[float, float, float]:
        """Return what is compared before the target: loss to a tenth of a point, size, rough speed."""
        loss = round(candidate.drop.value, 3) if candidate.drop else 1.0
        return (loss, float(candidate.size_bytes), candidate.proposal.speed)


def document(found: Found) -> dict[str, Any]:
    """Return `candidates.json`; the same for the same search."""
    return {
        "version": 1,
        "candidates": [one.to_json() for one in found.candidates],
        "skipped": dict(found.skipped),
        "beyondBudget": list(found.left),
    }
