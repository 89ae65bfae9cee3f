"""Means over seeds, their intervals by Student's t, and quantities built from them. Pure functions of numbers.

Seeds are not treated as blocks (results of different settings with the same seed hardly correlate), so settings are
compared unpaired; if the settings of an experiment have similar spreads, their variance is pooled. A claim is about a
`Quantity`: a contrast of settings' means, or the largest, the least or the number of several contrasts. It lies beyond
each of its bounds with at most the stated probability, even if the data choose which contrast is the largest;
analysis/simulate.py checks this.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import comb

import numpy as np
from scipy.special import bdtri, chdtrc, fdtrc, stdtrit  # scipy.stats takes a second to import

LEVEL = 0.95  # of every interval that does not state another
ALIKE = 0.05  # variances are pooled if Bartlett's test does not reject at this level,
LARGER = 0.10  # but a setting whose variance is larger than the pooled one, by an F test at this level, keeps its own


def t_interval(values, level: float = LEVEL) -> tuple[float, float, float]:
    """Mean of one value per seed, with its interval by Student's t: (mean, low, high); nan bounds for a single value.

    Raises ValueError without values.
    """
    values = np.asarray(values, dtype=float)
    if values.size == 0:
        raise ValueError("no values to average")
    if values.size == 1:
        return float(values[0]), np.nan, np.nan
    half = stdtrit(values.size - 1, (1 + level) / 2) * values.std(ddof=1) / np.sqrt(values.size)
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def curve_interval(series: list[list[float]], level: float = LEVEL) -> np.ndarray:
    """Mean and t interval at each epoch, over the seeds that reached it: array [epochs, 3] (mean, low, high)."""
    longest = max(len(values) for values in series)
    points = [[values[i] for values in series if len(values) > i] for i in range(longest)]
    return np.array([t_interval(point, level) for point in points])


def share_limit(successes: int, trials: int, level: float = LEVEL) -> float:
    """The upper limit of the probability that a run succeeds, given successes in trials (Clopper and Pearson)."""
    return 1.0 if successes == trials else float(bdtri(successes, trials, 1 - level))


def expected_best(values: list[float], k: int) -> float:
    """The mean of the largest value over all choices of k values. Raises ValueError unless 1 <= k <= len(values)."""
    if not 1 <= k <= len(values):
        raise ValueError(f"k is {k}, must be between 1 and {len(values)}")
    # The i-th smallest value is the largest of a choice if the other k - 1 lie below it.
    ordered = sorted(values)
    return sum(comb(i, k - 1) * value for i, value in enumerate(ordered)) / comb(len(values), k)


def bartlett(variances: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """Bartlett's p value for the hypothesis that all variances [..., settings] are equal. freedom: [settings]."""
    count, total = len(freedom), freedom.sum()
    pooled = (variances * freedom).sum(-1) / total
    with np.errstate(divide="ignore", invalid="ignore"):  # a variance of 0 equals no other
        statistic = total * np.log(pooled) - (freedom * np.log(variances)).sum(-1)
    correction = 1 + ((1 / freedom).sum() - 1 / total) / (3 * (count - 1))
    return chdtrc(count - 1, np.maximum(statistic, 0) / correction)  # rounding may make it -1e-16, and this nan


@dataclass(frozen=True)
class Estimates:
    """Means and variances of settings; leading axes, if any, are repetitions of the experiment."""

    means: np.ndarray  # [..., settings]
    variances: np.ndarray  # [..., settings], of one run, each estimated from the setting's own seeds
    seeds: np.ndarray  # [settings]
    shared: np.ndarray  # [..., settings]: uses the pooled variance
    pooled: np.ndarray  # [...], the pooled variance
    freedom: float  # its degrees of freedom; 0: nothing is pooled
    p: np.ndarray  # [...], of Bartlett's test

    @classmethod
    def of(cls, values: Sequence[np.ndarray], pool: Sequence[bool] | None = None, step: float = 0.0) -> "Estimates":
        """values: for each setting one value per seed, [..., seeds], at least two. pool: which may share a variance.

        step: the step to which values are rounded; no variance is less than that of the rounding.
        """
        values = [np.asarray(part, dtype=float) for part in values]
        seeds = np.array([part.shape[-1] for part in values])
        means = np.stack([part.mean(-1) for part in values], axis=-1)
        variances = np.maximum(np.stack([part.var(-1, ddof=1) for part in values], axis=-1), step**2 / 12)
        members = np.ones(len(values), bool) if pool is None else np.asarray(pool, bool)
        freedom = (seeds - 1.0)[members]
        total = freedom.sum() if members.sum() > 1 else 0.0
        if total == 0:
            nothing = np.zeros(means.shape[:-1])
            return cls(means, variances, seeds, np.zeros(means.shape, bool), nothing, 0.0, nothing)
        pooled = (variances[..., members] * freedom).sum(-1) / total
        p = bartlett(variances[..., members], freedom)
        with np.errstate(divide="ignore", invalid="ignore"):
            larger = fdtrc(seeds - 1, total, variances / pooled[..., None]) < LARGER
        shared = members & (p >= ALIKE)[..., None] & ~larger
        return cls(means, variances, seeds, shared, pooled, total, p)

    def repeated(self, seeds: np.ndarray, times: int, random: np.random.Generator) -> "Estimates":
        """Simulate `times` repetitions with other numbers of seeds, taking these means and variances as true."""
        true = np.where(self.shared, self.pooled, self.variances)
        means = self.means + np.sqrt(true / seeds) * random.standard_normal((times, len(seeds)))
        variances = true * random.chisquare(seeds - 1, (times, len(seeds))) / (seeds - 1)
        freedom = self.freedom + (self.shared * (seeds - self.seeds)).sum()
        pooled = self.pooled * random.chisquare(freedom, times) / freedom if freedom else np.zeros(times)
        shared = np.broadcast_to(self.shared, means.shape)
        return replace(self, means=means, variances=variances, seeds=seeds, shared=shared, pooled=pooled,
                       freedom=freedom)  # fmt: skip


class Quantity:
    """A number about settings. low and high: bounds, each of which is wrong with probability at most alpha."""

    def value(self, of: Estimates) -> np.ndarray:
        raise NotImplementedError

    def low(self, of: Estimates, alpha: float) -> np.ndarray:
        raise NotImplementedError

    def high(self, of: Estimates, alpha: float) -> np.ndarray:
        raise NotImplementedError

    def settings(self) -> set[int]:
        """The indices of the settings that it is about."""
        raise NotImplementedError

    def interval(self, of: Estimates, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(value, low, high); the interval covers the true value with probability at least `level`."""
        alpha = (1 - level) / 2
        return self.value(of), self.low(of, alpha), self.high(of, alpha)


@dataclass(frozen=True)
class Contrast(Quantity):
    """A weighted sum of settings' means; weights by index."""

    weights: dict[int, float]

    def settings(self):
        return set(self.weights)

    def value(self, of):
        return self._weighted(of)[0] @ self._weighted(of)[1]

    def low(self, of, alpha):
        return self.value(of) - self._half(of, alpha)

    def high(self, of, alpha):
        return self.value(of) + self._half(of, alpha)

    def _weighted(self, of):
        return of.means[..., list(self.weights)], np.array(list(self.weights.values()))

    def _half(self, of, alpha):
        """Half the interval, by Student's t; with Satterthwaite's degrees of freedom unless all share a variance."""
        places = list(self.weights)
        squares = np.array(list(self.weights.values())) ** 2 / of.seeds[places]
        shared = of.shared[..., places]
        pooled = of.pooled * (squares * shared).sum(-1)
        own = squares * np.where(shared, 0, of.variances[..., places])
        total = pooled + own.sum(-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            freedom = total**2 / (pooled**2 / (of.freedom or 1) + (own**2 / (of.seeds[places] - 1)).sum(-1))
        return np.where(total > 0, stdtrit(np.where(total > 0, freedom, 1), 1 - alpha) * np.sqrt(total), 0.0)


@dataclass(frozen=True)
class Several(Quantity):
    parts: tuple[Quantity, ...]

    def settings(self):
        return set().union(*(part.settings() for part in self.parts))

    def _each(self, of, bound: str, alpha: float) -> np.ndarray:
        return np.array([getattr(part, bound)(of, alpha) for part in self.parts])


class Largest(Several):
    """The largest of several. The lower bound holds whichever of them is the largest in the data."""

    def value(self, of):
        return np.max([part.value(of) for part in self.parts], axis=0)

    def low(self, of, alpha):
        return self._each(of, "low", alpha / len(self.parts)).max(0)

    def high(self, of, alpha):
        return self._each(of, "high", alpha).max(0)


class Least(Several):
    """The least of several; see `Largest`."""

    def value(self, of):
        return np.min([part.value(of) for part in self.parts], axis=0)

    def low(self, of, alpha):
        return self._each(of, "low", alpha).min(0)

    def high(self, of, alpha):
        return self._each(of, "high", alpha / len(self.parts)).min(0)


@dataclass(frozen=True)
class Count(Several):
    """How many of several are above a margin."""

    margin: float

    def value(self, of):
        return np.sum([part.value(of) > self.margin for part in self.parts], axis=0)

    def low(self, of, alpha):
        return (self._each(of, "low", alpha / len(self.parts)) > self.margin).sum(0)

    def high(self, of, alpha):
        return (self._each(of, "high", alpha / len(self.parts)) > self.margin).sum(0)


@dataclass(frozen=True)
class Best(Quantity):
    """Where on an axis the largest of several settings' means lies. at: {index of the setting: its coordinate}.

    Bounds: the ends of the set of settings that no other significantly exceeds (multiple comparisons with the best).
    """

    axis: dict[int, float]

    def settings(self):
        return set(self.axis)

    def value(self, of):
        return np.array(list(self.axis.values()))[np.argmax(of.means[..., list(self.axis)], axis=-1)]

    def low(self, of, alpha):
        return np.where(self._possible(of, alpha), np.array(list(self.axis.values())), np.inf).min(-1)

    def high(self, of, alpha):
        return np.where(self._possible(of, alpha), np.array(list(self.axis.values())), -np.inf).max(-1)

    def _possible(self, of, alpha):
        """[..., settings]: not significantly below another. Leaves out the truly best one with probability alpha."""
        part = alpha / (len(self.axis) - 1)
        behind = [
            np.max([Contrast({other: 1, place: -1}).low(of, part) for other in self.axis if other != place], axis=0)
            for place in self.axis
        ]
        return np.stack(behind, axis=-1) <= 0


@dataclass(frozen=True)
class Difference(Quantity):
    """One quantity minus another, if that is not a contrast."""

    of: Quantity
    minus: Quantity

    def settings(self):
        return self.of.settings() | self.minus.settings()

    def value(self, of):
        return self.of.value(of) - self.minus.value(of)

    def low(self, of, alpha):
        return self.of.low(of, alpha / 2) - self.minus.high(of, alpha / 2)

    def high(self, of, alpha):
        return self.of.high(of, alpha / 2) - self.minus.low(of, alpha / 2)


def against_best(ours: Sequence[dict[int, float]], theirs: Sequence[dict[int, float]]) -> Quantity:
    """The best of our contrasts minus the best of theirs; a plain contrast if there is one of each.

    The bounds allow for the data choosing the best: the best of 32 settings also had more luck.
    """
    pairs = [Least(tuple(Contrast(_less(one, other)) for other in theirs)) for one in ours]
    pairs = [pair.parts[0] if len(pair.parts) == 1 else pair for pair in pairs]
    return pairs[0] if len(pairs) == 1 else Largest(tuple(pairs))


def _less(one: dict[int, float], other: dict[int, float]) -> dict[int, float]:
    weights = dict(one)
    for place, weight in other.items():
        weights[place] = weights.get(place, 0) - weight
    return {place: weight for place, weight in weights.items() if weight}
