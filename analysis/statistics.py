"""Averages over seeds with their uncertainty, and the best of several tries. Pure functions of numbers."""

from math import comb

import numpy as np
from scipy.special import stdtrit

RESAMPLES = 10_000


def mean_interval(values, level: float = 0.95) -> tuple[float, float, float]:
    """Mean of one value a seed and its percentile bootstrap interval: (mean, low, high).

    The resampling is seeded, so the same values give the same interval. With one value the interval is that
    value: it says nothing about the spread. Raises ValueError without values.
    """
    values = np.asarray(values, dtype=float)
    if values.size == 0:
        raise ValueError("no values to average")
    draws = np.random.default_rng(0).integers(values.size, size=(RESAMPLES, values.size))
    means = values[draws].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(values.mean()), float(low), float(high)


def t_interval(values, level: float = 0.95) -> tuple[float, float, float]:
    """Mean of one value a seed and its interval by Student's t: (mean, low, high).

    For verdicts: of three to five values the bootstrap's interval covers far less than 95 %. Raises ValueError with
    fewer than two values.
    """
    values = np.asarray(values, dtype=float)
    if values.size < 2:
        raise ValueError("an interval needs two values")
    half = stdtrit(values.size - 1, (1 + level) / 2) * values.std(ddof=1) / np.sqrt(values.size)
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def curve_interval(series: list[list[float]], level: float = 0.95) -> np.ndarray:
    """Mean and interval at each epoch over the seeds that reached it: array [epochs, 3] (mean, low, high)."""
    longest = max(len(values) for values in series)
    points = [[values[i] for values in series if len(values) > i] for i in range(longest)]
    return np.array([mean_interval(point, level) for point in points])


def expected_best(values: list[float], k: int) -> float:
    """The mean, over all choices of k of the values, of the largest. Raises ValueError unless 1 <= k <= len(values)."""
    if not 1 <= k <= len(values):
        raise ValueError(f"k is {k}, must be between 1 and {len(values)}")
    # The i-th smallest is the largest of a choice if the other k - 1 lie below it.
    ordered = sorted(values)
    return sum(comb(i, k - 1) * value for i, value in enumerate(ordered)) / comb(len(values), k)
