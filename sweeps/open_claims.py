"""What would decide each open claim, the cheapest first; printed by `plan=true`."""

import functools
from collections.abc import Sequence
from pathlib import Path

from analysis import costs
from analysis.claims.judge import Verdict, on_experiments
from analysis.verdicts import INCONCLUSIVE, NOT_RUN

from .place import Place
from .plan import Plan
from .show import price


def judged_here(results: Path, tier: str) -> list[Verdict]:
    """The verdicts that rest on this tier's runs, or would, except on experiments that ran at the paper's scale."""
    ran = functools.cache(lambda name: tier != "paper" and costs.ran(name, results))
    return [claim for claim in on_experiments(results, tier)
            if claim.experiment and claim.plannable and not ran(claim.experiment)]  # fmt: skip


def table(results: Path, tier: str, plans: Sequence[Plan | str], place: Place) -> str:
    """A line for each open claim: if inconclusive, the cost of seeds for 80 % power; if not run, that of its runs."""
    planned = {plan.experiment: plan for plan in plans if not isinstance(plan, str)}
    lines = []

    @functools.cache
    def missing(experiment: str, labels: tuple[str, ...]) -> tuple[float, int]:
        jobs, waiting = planned[experiment].asked(labels)
        return price(planned[experiment], place, jobs, waiting).hours[1], len(jobs) + len(waiting)

    for claim in judged_here(results, tier):
        if claim.verdict == INCONCLUSIVE:
            hours = None if claim.hours is None else claim.hours / place.slots
            lines.append((hours, claim, "more seeds, 80 % power"))
        elif claim.verdict == NOT_RUN and claim.experiment in planned:
            hours, runs = missing(claim.experiment, claim.labels)
            lines.append((hours, claim, f"{runs} runs"))
    lines.sort(key=lambda line: float("inf") if line[0] is None else line[0])
    header = f"\n{'hours here':>10}  what would decide each open claim, tier {tier}, the cheapest first"
    for cost, claim, how in lines:
        hours_here = "unknown" if cost is None else f"{cost:,.1f}"
        header += f"\n{hours_here:>10}  {claim.key} ({claim.experiment}): {claim.verdict}, {how}"
    return header
