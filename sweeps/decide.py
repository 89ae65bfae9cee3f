"""`sweep.py decide=hours`: train the runs that decide the tier's open claims, the cheapest first, look by look.

A look at a claim is its experiment, only the entries that the claim compares, with one of the numbers of seeds in
analysis/looks.py. A claim that one look has decided gets no further seeds; the intervals of such a tier are widened to
cover all looks together.
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
    """The next look at some claims.

    jobs: to train now. hours: on this machine, including the runs that wait for these.
    """

    experiment: str
    labels: tuple[str, ...]  # empty: all entries
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
    """The next look at each open claim, the cheapest first; none for a claim that has had its last look.

    plan: returns the plan of an experiment with so many seeds, or None if it does not exist at the tier. price: returns
    the hours of jobs and of the runs that wait for them.
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


def catch_up(open_claims: Sequence[Verdict], plan: Callable[[str, int], Plan | None], export: Callable[[Plan], None]):
    """Export the looks at these claims that earlier commands trained, for claims are judged by the archive."""
    exported, plan = set(), functools.cache(plan)
    for name, labels in dict.fromkeys((claim.experiment, claim.labels) for claim in open_claims if claim.experiment):
        for seeds in looks.LOOKS:
            made = plan(name, seeds)
            if made is None:
                break
            complete = not any(made.asked(labels))
            new = any(job.done and job.archived is None for job in made.jobs)
            if (complete or new) and (name, seeds) not in exported:
                export(made)
                exported.add((name, seeds))
            if not complete:
                break


def with_seeds(experiment: Experiment, seeds: int) -> Experiment:
    """Give the experiment the first `seeds` seeds, counted from 0, that are not among its selecting seeds."""
    experiment.base["seeds"] = [seed for seed in range(100) if seed not in experiment.protocol["seeds"]][:seeds]
    return experiment


def spend(
    hours: float, claims: Callable[[], list[Verdict]], ahead: Callable[[list[Verdict]], list[Look]],
    train: Callable[[Look], float],
) -> Iterator[str]:  # fmt: skip
    """Train the cheapest look that the remaining hours allow, judge again, and repeat; yields progress line by line.

    claims: returns the present verdicts. train: trains a look and returns the hours it took; a run that it leaves
    unfinished is not tried again.
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
