"""A sentence's parts, each a quantity against its bounds, and the evidence in words."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import costs
from analysis.statistics import Estimates, Quantity
from analysis.verdicts import INCONCLUSIVE, LEAST_SEEDS, MOST_SEEDS, NOT_RUN, Bounds, combined, judge, more_seeds

from .schema import Archive, Finding, Interval, NoVerdict


@dataclass(frozen=True)
class Part:
    """One comparison of a sentence. quantity: makes it from the sample, which raises Absent or TooFew."""

    name: str
    quantity: Callable[[], Quantity]
    sample: "Sample"
    between: Bounds
    form: str = "+.4f"  # of the numbers
    note: str = ""


class Sample:
    """One value a run, by setting and seed, and what they estimate.

    values: by setting (any key) its runs' values; alike: may share a variance, by default all; step: to which the
    values are rounded. A setting with one value has no variance and only counts as run.
    """

    def __init__(self, values: Mapping[Hashable, Sequence[float]], alike: Mapping[Hashable, bool] | None = None,
                 step: float = 0.0):  # fmt: skip
        self.values = {key: np.asarray(part, float) for key, part in values.items()}
        usable = {key: part for key, part in self.values.items() if len(part) > 1}
        self.place = {key: place for place, key in enumerate(usable)}
        self.estimates = None
        if usable:
            pool = [alike is None or alike[key] for key in usable]
            self.estimates = Estimates.of(list(usable.values()), pool, step)

    def mean(self, key: Hashable) -> float:
        return float(self.values[key].mean())

    def at(self, key: Hashable, weight: float = 1.0) -> dict[int, float]:
        """The weights of one setting. Raises Absent or TooFew where no verdict can rest on it."""
        if key not in self.values:
            raise Absent
        if len(self.values[key]) < LEAST_SEEDS:
            raise TooFew(len(self.values[key]))
        return {self.place[key]: weight}


class Absent(Exception):
    """A setting was not run."""


class TooFew(Exception):
    """A setting has fewer seeds than a verdict takes; str() is how many."""


def per_run(epochs: pd.DataFrame, column: str, at, worst: float) -> pd.Series:
    """One value a run, by the run's identity.

    at: "best", "lowest" (of all epochs), "last", or a list of epochs whose mean it is. A run that diverged has the
    worst value from there on, also at "last". Raises NoVerdict if no run has those epochs.
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
    """The values of `per_run` by the runs' columns `keys` (one: itself, several: a tuple), in the order of the runs."""
    found = runs[runs["run"].isin(values.index)]
    return {key[0] if len(keys) == 1 else tuple(None if pd.isna(part) else part for part in key):
            values[rows["run"]].to_numpy() for key, rows in found.groupby(keys, dropna=False, sort=False)}  # fmt: skip


def sentence(parts: Sequence[Part], judged: Archive) -> Finding:
    """The verdict on all parts together, with each part's own where there are several.

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
    verdict = combined([part.verdict for part in found])
    intervals = tuple(about.interval for about in found if about.interval)
    return Finding(verdict, "; ".join(texts) + ending, "; ".join(numbers) + ending, intervals)


class _Found(NamedTuple):
    verdict: str
    numbers: str
    more: str = ""  # what would decide it
    variance: str = ""
    interval: Interval | None = None


def _part(part: Part, judged: Archive) -> _Found:
    try:
        quantity = part.quantity()
    except Absent:
        return _Found(NOT_RUN, "no such run")
    except TooFew as few:
        return _Found(INCONCLUSIVE, f"{few} of at least {LEAST_SEEDS} seeds", f"; {seeds_missing(judged)}")
    found = judge(quantity, part.sample.estimates, part.between)
    text = ""
    if found.verdict == INCONCLUSIVE:
        more = more_seeds(quantity, part.sample.estimates, part.between)
        if more is None:
            text = f"; more than {MOST_SEEDS} more seeds would be needed for 80 % power"
        else:
            cost = costs.of_runs(len(quantity.settings()) * more, judged.ended())
            text = f"; {more} more seed{'s' * (more > 1)} would decide it with 80 % power: {cost}"
    interval = Interval(part.name, found.verdict, found.value, found.low, found.high, part.between, part.form)
    return _Found(found.verdict, found.spelled(part.form) + part.note, text, found.variance, interval)


def seeds_missing(judged: Archive) -> str:
    """What the runs would take that give each setting the least number of seeds."""
    ended = judged.ended()
    seeds = ended.groupby("setting")["seed"].nunique().reindex(judged.runs["setting"].unique(), fill_value=0)
    return f"{costs.of_runs(int((LEAST_SEEDS - seeds).clip(lower=0).sum()), ended)} to that"
