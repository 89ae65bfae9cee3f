"""`sweep.py decide=hours`: train what decides the tier's open claims, the cheapest first, look by look.

A look at a claim is its experiment with so many seeds as analysis/looks.py says, of the entries that it compares. What
one look has decided is not trained further; the intervals of such a tier are wide enough for all looks together.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from analysis import looks
from analysis.claims.judge import Verdict
from analysis.verdicts import INCONCLUSIVE, NOT_RUN

from .plan import Experiment, Job, Plan

OPEN = (INCONCLUSIVE, NOT_RUN)


@dataclass(frozen=True)
class Look:
    """The next look at some claims. jobs: to train now; hours: of this machine, with the runs that wait for these."""

    experiment: str
    labels: tuple[str, ...]  # none: all entries
    seeds: int
    claims: tuple[str, ...]
    jobs: tuple[Job, ...]
    hours: float

    @property
    def about(self) -> str:
        entries = f" of {', '.join(self.labels)}" if self.labels else ""
        return f"{self.experiment}{entries}, {self.seeds} seeds, {len(self.jobs)} runs now, {self.hours:.1f} hours"


def next_looks(
    open_claims: Sequence[Verdict], plan: Callable[[str, int], Plan | None], price: Callable[[Plan, list, list], float]
) -> list[Look]:
    """The next look at each open claim, the cheapest first. A claim whose last look is over has none.

    plan: of an experiment with so many seeds, None where the tier has none; price: hours of jobs and of what waits.
    """
    groups: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for claim in open_claims:
        if claim.experiment:
            groups.setdefault((claim.experiment, claim.labels), []).append(claim.key)
    found, plan = [], functools.cache(plan)
    for (name, labels), keys in groups.items():
        for seeds in looks.LOOKS:
            made = plan(name, seeds)
            if made is None:
                break
            jobs, waiting = made.asked(labels)
            if jobs:
                found.append(Look(name, labels, seeds, tuple(keys), tuple(jobs), price(made, jobs, waiting)))
                break
    return sorted(found, key=lambda look: look.hours)


def with_seeds(experiment: Experiment, seeds: int) -> Experiment:
    """The experiment with the first so many seeds from 0 that select nothing."""
    experiment.base["seeds"] = [seed for seed in range(100) if seed not in experiment.protocol["seeds"]][:seeds]
    return experiment


def spend(
    hours: float, claims: Callable[[], list[Verdict]], ahead: Callable[[list[Verdict]], list[Look]],
    train: Callable[[Look], float],
) -> Iterator[str]:  # fmt: skip
    """Train the cheapest look that fits into what is left, judge anew, and so on; yields what happens, a line each.

    claims: their verdicts now; train: the hours that a look took; what it leaves undone is not tried again.
    """
    left, stuck = hours, set()
    before = {(claim.key, claim.place) for claim in claims() if claim.verdict in OPEN}
    while True:
        options = [look for look in ahead([claim for claim in claims() if claim.verdict in OPEN])
                   if not {job.run.id for job in look.jobs} <= stuck]  # fmt: skip
        affordable = [look for look in options if look.hours <= left]
        if not affordable:
            break
        yield f"{left:.1f} hours left; {affordable[0].about}: {', '.join(affordable[0].claims)}"
        left -= train(affordable[0])
        stuck |= {job.run.id for job in affordable[0].jobs}
    after = claims()
    decided = [claim for claim in after if (claim.key, claim.place) in before and claim.verdict not in OPEN]
    yield f"decided: {len(decided)} claims" + "".join(f"\n  {claim.verdict}: {claim.claim}" for claim in decided)
    yield "the next hour would buy" if options else "no look is left"
    buying = 0.0
    for look in options:
        buying += look.hours
        if buying > 1 and look is not options[0]:
            break
        yield f"  {look.about}: {', '.join(look.claims)}"
