"""From an interval to a verdict, and how many more seeds would decide. docs/verdicts.md has the rules in words."""

import math
from dataclasses import dataclass

import numpy as np

from analysis.statistics import ALIKE, LEVEL, Estimates, Quantity

LEAST_SEEDS = 3
REPRODUCED, NOT_REPRODUCED, MIXED = "reproduced", "not reproduced", "mixed"
INCONCLUSIVE, NOT_RUN = "inconclusive", "not run"
NOT_TESTABLE, NOT_TESTABLE_HERE = "not testable", "not testable at this tier"
POWER = 0.8
MOST_SEEDS = 512  # `more_seeds` looks no further

Bounds = tuple[float | None, float | None]


@dataclass(frozen=True)
class Judged:
    """A quantity judged against its bounds."""

    verdict: str
    value: float
    low: float
    high: float
    variance: str  # in words, which variance was used
    seeds: str  # in words, how many

    def spelled(self, form: str = "+.4f") -> str:
        return f"{self.value:{form}} [{self.low:{form}}, {self.high:{form}}] over {self.seeds}"


def decide(value, low, high, between: Bounds) -> np.ndarray:
    """1 where the whole interval lies between the bounds (None: no bound), -1 where it lies outside, else 0."""
    least, most = (-math.inf if between[0] is None else between[0]), (math.inf if between[1] is None else between[1])
    return np.where((least < low) & (high < most), 1, np.where((high <= least) | (low >= most), -1, 0))


def judge(quantity: Quantity, estimates: Estimates, between: Bounds, level: float = LEVEL) -> Judged:
    """Judge by the interval of this level: reproduced if all of it is between the bounds, not reproduced if none is.

    With two bounds these are the two one-sided tests of equivalence, each at 2.5 %; with one bound the rule is
    symmetric in the sign of the effect.
    """
    value, low, high = (float(number) for number in quantity.interval(estimates, level))
    words = {1: REPRODUCED, -1: NOT_REPRODUCED, 0: INCONCLUSIVE}
    places = sorted(quantity.settings())
    counts = sorted(set(estimates.seeds[places].tolist()))
    seeds = f"{counts[0]} seeds" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"
    verdict = words[int(decide(value, low, high, between))]
    return Judged(verdict, value, low, high, variance(estimates, places), seeds)


def variance(estimates: Estimates, places: list[int]) -> str:
    """Which variance the intervals of these settings use."""
    shared = estimates.shared[places]
    if not shared.any():
        refused = estimates.freedom and estimates.p < ALIKE
        return "own variances" + (f", Bartlett p {estimates.p:.2g}" if refused else "")
    text = f"sd {math.sqrt(estimates.pooled):.4f} pooled, {estimates.freedom:g} df, Bartlett p {estimates.p:.2f}"
    return text if shared.all() else f"{text}; own variance for {(~shared).sum()} of {len(places)} settings"


def combined(verdicts: list[str]) -> str:
    """The verdict on a claim with several parts: theirs if all agree, mixed if some hold and some do not.

    Symmetric: if one part is undecided, so is the claim, whatever the others are.
    """
    if len(set(verdicts)) == 1:
        return verdicts[0]
    if NOT_RUN in verdicts:
        return NOT_RUN
    return MIXED if set(verdicts) == {REPRODUCED, NOT_REPRODUCED} else INCONCLUSIVE


def more_seeds(
    quantity: Quantity, estimates: Estimates, between: Bounds, level: float = LEVEL, power: float = POWER
) -> int | None:
    """How many more seeds of each setting would decide with this probability, if the present estimates were true.

    Simulates the experiment 1000 times for each number; None if more than MOST_SEEDS.
    """
    places = sorted(quantity.settings())

    def decided(more: int) -> bool:
        seeds = estimates.seeds.copy()
        seeds[places] += more
        again = estimates.repeated(seeds, 1000, np.random.default_rng(more))
        return bool((decide(*quantity.interval(again, level), between) != 0).mean() >= power)

    enough = 1
    while not decided(enough):
        enough *= 2
        if enough > MOST_SEEDS:
            return None
    least = enough // 2
    while enough - least > 1:  # decided(enough), not decided(least)
        middle = (enough + least) // 2
        least, enough = (least, middle) if decided(middle) else (middle, enough)
    return enough
