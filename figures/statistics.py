"""Averages over seeds with their uncertainty. Pure functions of numbers."""

import numpy as np

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


def curve_interval(series: list[list[float]], level: float = 0.95) -> np.ndarray:
    """Mean and interval at each epoch over the seeds that reached it: array [epochs, 3] (mean, low, high)."""
    longest = max(len(values) for values in series)
    points = [[values[i] for values in series if len(values) > i] for i in range(longest)]
    return np.array([mean_interval(point, level) for point in points])
