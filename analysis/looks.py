"""Judging again as seeds are added: how wide intervals must be so that all looks together are seldom wrong.

Adding seeds until an interval decides gives several chances to be wrong. With Pocock's boundary every look has the same
level, chosen so that without an effect some look decides in only 5 % of cases. This is exact for normal means of
independent runs; analysis/simulate.py shows how well it holds with Student's t and pooled variances.
"""

from functools import cache

import numpy as np

from analysis.statistics import LEVEL

LOOKS = (3, 5, 10)  # seeds of each setting; the verdict after the last look is final
TIERS = ("laptop",)  # where seeds are added look by look: sweep.py decide=hours


def level(tier: str) -> float:
    """The level of the intervals that this tier's verdicts use."""
    return pocock(LOOKS) if tier in TIERS else LEVEL


@cache
def pocock(looks: tuple[int, ...], together: float = LEVEL) -> float:
    """The level of each look's two-sided interval at which all of them cover the truth with probability `together`."""
    from scipy.optimize import brentq  # here, as they take a second to import, and most tiers have one look
    from scipy.stats import multivariate_normal, norm

    n = np.array(looks, float)
    covariance = np.sqrt(np.minimum.outer(n, n) / np.maximum.outer(n, n))
    # Its integrals are randomised: without a seed, bounds of verdicts differed in their sixth digit between processes.
    means = multivariate_normal(np.zeros(len(n)), covariance, seed=0)  # pyright: ignore[reportArgumentType]

    def excess(bound: float) -> float:
        ends = np.full(len(n), bound)
        return float(means.cdf(ends, lower_limit=-ends)) - together

    return float(1 - 2 * norm.sf(brentq(excess, norm.isf((1 - together) / 2), 6)))


def following(seeds: int) -> int | None:
    """The number of seeds of the next look after one with `seeds`; None after the last."""
    return next((look for look in LOOKS if look > seeds), None)
