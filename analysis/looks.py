"""Judging again as seeds are added: how wide an interval must be so that all looks together are seldom wrong.

Adding seeds until an interval decides gives more than one chance to be wrong. With Pocock's boundary every look has
the same level, so high that under no effect any of them decides in 5 % of cases: exact for normal means of independent
runs; analysis/simulate.py counts what Student's t and pooled variances make of it.
"""

from functools import cache

import numpy as np
from scipy.optimize import brentq
from scipy.stats import multivariate_normal, norm

from analysis.statistics import LEVEL

LOOKS = (3, 5, 10)  # seeds of each setting; an interval after the last is final
TIERS = ("laptop",)  # whose runs are added look by look: sweep.py decide=hours


def level(tier: str) -> float:
    """Of an interval of this tier's verdicts."""
    return pocock(LOOKS) if tier in TIERS else LEVEL


@cache
def pocock(looks: tuple[int, ...], together: float = LEVEL) -> float:
    """The level of each look's two-sided interval such that all of them cover the truth at once in `together`."""
    n = np.array(looks, float)
    means = multivariate_normal(np.zeros(len(n)), np.sqrt(np.minimum.outer(n, n) / np.maximum.outer(n, n)))  # pyright: ignore[reportArgumentType]

    def excess(bound: float) -> float:
        ends = np.full(len(n), bound)
        return float(means.cdf(ends, lower_limit=-ends)) - together

    return float(1 - 2 * norm.sf(brentq(excess, norm.isf((1 - together) / 2), 6)))


def following(seeds: int) -> int | None:
    """The next look after so many seeds."""
    return next((look for look in LOOKS if look > seeds), None)
