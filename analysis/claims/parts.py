"""The parts of a claim, each a quantity against its bounds, and the evidence in words."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from analysis import costs, looks
from analysis.statistics import Estimates, Quantity
from analysis.verdicts import INCONCLUSIVE, LEAST_SEEDS, MOST_SEEDS, NOT_RUN, Bounds, combined, judge, more_seeds

from .schema import Archive, Finding, Interval, NoVerdict


@dataclass(frozen=True)
class Part:
    """One comparison in a claim. quantity: makes it from the sample, which may raise Absent or TooFew."""

    name: str
    quantity: Callable[[], Quantity]
    sample: "Sample"
    between: Bounds
    form: str = "+.4f"  # of the numbers
    note: str = ""
    trained: Callable[[Any], Hashable] = lambda key: key  # what to train for more values of a key of the sample
    stage: str | None = None  # that of the runs which the values are from; None: all


class Sample:
    """One value per run, by setting, and the estimates from them.

    values: by setting (any key), the values of its runs. alike: which settings may share a variance, by default all.
    step: the step to which values are rounded. A setting with one value has no variance and only counts as run.
    """

    def __init__(self, values: Mapping[Hashable, Sequence[float]], alike: Mapping[Hashable, bool] | None = None,
                 step: float = 0.0):  # fmt: skip
        self.values = {key: np.asarray(part, float) for key, part in values.items()}
        self.place = {key: place for place, key in enumerate(key for key, part in self.values.items() if len(part) > 1)}
        self.alike, self.step = alike, step

    @cached_property
    def estimates(self) -> Estimates:
        pool = [self.alike is None or self.alike[key] for key in self.place]
        return Estimates.of([self.values[key] for key in self.place], pool, self.step)

    def keys(self, places: Iterable[int]) -> list[Hashable]:
        """The settings at these places of the estimates."""
        found = {place: key for key, place in self.place.items()}
        return [found[place] for place in places]

    def mean(self, key: Hashable) -> float:
        return float(self.values[key].mean())

    def at(self, key: Hashable, weight: float = 1.0) -> dict[int, float]:
        """The weights of a contrast of one setting. Raises Absent or TooFew if no verdict can rest on it."""
        if key not in self.values:
            raise Absent
        if len(self.values[key]) < LEAST_SEEDS:
            raise TooFew(len(self.values[key]))
        return {self.place[key]: weight}


class Absent(Exception):
    """A setting was not run."""


class TooFew(Exception):
    """A setting has fewer seeds than a verdict takes; str() is their number."""


def per_run(epochs: pd.DataFrame, column: str, at, worst: float) -> pd.Series:
    """One value per run, by the run's id.

    at: "best" or "lowest" of all epochs, "last", or a list of epochs to average. A run that diverged has the worst
    value from then on, also at "last". Raises NoVerdict if no run has those epochs.
    """
    table = epochs.pivot(index="run", columns="epoch", values=column).astype(float)
    table = table.where(np.isfinite(table)).fillna(worst)
    if at in ("best", "lowest"):
        return table.max(axis=1) if at == "best" else table.min(axis=1)
    if at == "last":
        return table.iloc[:, -1]
    if not set(at) <= set(table.columns):
        raise NoVerdict(f"no run has epochs {', '.join(map(str, at))}")
    return table[list(at)].mean(axis=1)


def by_setting(runs: pd.DataFrame, values: pd.Series, keys: list[str]) -> dict:
    """The values of `per_run`, grouped by the runs' columns `keys` (several make a tuple), in the order of the runs."""
    found = runs[runs["run"].isin(values.index)]
    return {key[0] if len(keys) == 1 else known(key):
            values[rows["run"]].to_numpy() for key, rows in found.groupby(keys, dropna=False, sort=False)}  # fmt: skip


def known(row: Any) -> tuple:
    """The values of a row, None for those that are missing."""
    return tuple(None if pd.isna(value) else value for value in row)


def sentence(parts: Sequence[Part], judged: Archive) -> Finding:
    """The verdict on all parts together, and if there are several, each part's own.

    judged: the runs on which the verdict rests. Raises NoVerdict if none of the parts was run.
    """
    found = [_part(part, judged) for part in parts]
    if all(part.verdict == NOT_RUN for part in found):
        raise NoVerdict("no run" if judged.ended().empty else "a setting that it needs was not run")
    variances = list(dict.fromkeys(part.variance for part in found if part.variance))
    ending = f" ({variances[0]})" if len(variances) == 1 else ""
    texts, numbers = [], []
    for part, about in zip(parts, found, strict=True):
        own = f" ({about.variance})" if len(variances) > 1 and about.variance else ""
        name = f"{part.name}: " * bool(part.name)
        numbers.append(f"{name}{about.numbers}{own}")
        texts.append(name + f"{about.verdict}, " * (len(parts) > 1) + about.numbers + about.more + own)
    if judged.tier in looks.TIERS:
        ending += f" ({looks.level(judged.tier):.1%} intervals, for {len(looks.LOOKS)} looks)"
    verdict = combined([part.verdict for part in found])
    intervals = tuple(about.interval for about in found if about.interval)
    runs: Counter = Counter()  # parts share settings, so take the most that any part asks for
    for part in found:
        runs |= Counter(part.runs)
    never = any(part.verdict == INCONCLUSIVE and not part.runs for part in found)
    hours = None if never or not runs else runs.total() * judged.ended()["seconds"].mean() / 3600
    return Finding(verdict, "; ".join(texts) + ending, "; ".join(numbers) + ending, intervals, hours)


@dataclass(frozen=True)
class _Found:
    verdict: str
    numbers: str
    more: str = ""  # what would decide it
    variance: str = ""
    interval: Interval | None = None
    runs: dict[Hashable, int] = field(default_factory=dict)  # the same as a number of runs for each setting


def _part(part: Part, judged: Archive) -> _Found:
    level = looks.level(judged.tier)
    try:
        quantity = part.quantity()
    except Absent:
        return _Found(NOT_RUN, "no such run")
    except TooFew as few:
        used = judged if part.stage is None else judged.only(judged.runs["stage"] == part.stage)
        return _Found(INCONCLUSIVE, f"{few} of at least {LEAST_SEEDS} seeds", f"; {seeds_missing(used)}",
                      runs=lacking(used))  # fmt: skip
    found = judge(quantity, part.sample.estimates, part.between, level)
    text = ""
    runs: dict[Hashable, int] = {}
    if found.verdict == INCONCLUSIVE:
        more = more_seeds(quantity, part.sample.estimates, part.between, level)
        if more is None:
            text = f"; more than {MOST_SEEDS} more seeds would be needed for 80 % power"
        else:
            runs = {part.trained(key): more for key in part.sample.keys(quantity.settings())}
            cost = costs.of_runs(sum(runs.values()), judged.ended())
            text = f"; {more} more seed{'s' * (more > 1)} would decide it with 80 % power: {cost}"
    interval = Interval(part.name, found.verdict, found.value, found.low, found.high, part.between, part.form)
    return _Found(found.verdict, found.spelled(part.form) + part.note, text, found.variance, interval, runs)


def seeds_missing(judged: Archive, least: int = LEAST_SEEDS) -> str:
    """In words, what it would take to give each setting so many seeds."""
    return f"{costs.of_runs(sum(lacking(judged, least).values()), judged.ended())} to that"


def lacking(judged: Archive, least: int = LEAST_SEEDS) -> dict[Hashable, int]:
    """How many runs each setting lacks to have so many seeds."""
    seeds = judged.ended().groupby("setting")["seed"].nunique()
    seeds = seeds.reindex(judged.runs["setting"].unique(), fill_value=0)
    return {setting: int(least - count) for setting, count in seeds.items() if count < least}
