"""Tests of claims about grid entries and the settings chosen for them (figures 1 and 7).

Each is (spec, rows) -> (verdict, evidence), as in claims.py. of, minus: labels of grid entries; each of the first
against the best of the second.
"""

import itertools
import math
from typing import NamedTuple

from analysis.records import by_seed, grid_scores, select
from analysis.statistics import expected_best
from analysis.verdicts import NOT_RUN, combined, within


def difference(spec: dict, rows: list[dict]) -> tuple[str, str]:
    """Is the mean paired difference of two grid entries' chosen settings within `between` (null: no bound)?

    column and at: which value of a run, "best", "lowest", "last", "before_drop" and "after_drop" (the epochs before and
    after the first drop of the learning rate) or an epoch; each of a list counts. A mapping from these to bounds gives
    each its own.
    """
    reported = [row for row in rows if row["stage"] == "report"]
    bounds = spec["at"] if isinstance(spec["at"], dict) else {at: spec["between"] for at in _listed(spec["at"])}
    parts = []
    for label, (at, between) in itertools.product(_listed(spec["of"]), bounds.items()):
        ours = _values(reported, label, spec["column"], at)
        others = {name: _values(reported, name, spec["column"], at) for name in _listed(spec["minus"])}
        if not all(others.values()):
            parts.append(Part(f"{label}, {spec['column']} at {at}", [], between))
            continue
        best = max if at != "lowest" else min
        other = best(others, key=lambda name: sum(others[name].values()) / len(others[name]))  # by its mean
        differences = [ours[seed] - others[other][seed] for seed in ours if seed in others[other]]
        parts.append(Part(f"{label} - {other}, {spec['column']} at {at}", differences, between))
    return _judged(parts)


def _values(rows: list[dict], label: str, column: str, at) -> dict[int, float]:
    """The value of each seed's run. A run that diverged before that epoch has the worst there is."""
    worst = 0.0 if column.endswith("acc") else math.inf
    longest = max((row["epoch"] for row in rows), default=0)
    values = {}
    for seed, series in by_seed(select(rows, label=label), column).items():
        series = [value if math.isfinite(value) else worst for value in series]
        diverged = len(series) < longest
        if at in ("before_drop", "after_drop"):
            lrs = by_seed(select(rows, label=label, seed=seed), "lr")[seed]
            epoch = next((n for n, lr in enumerate(lrs) if lr < lrs[0]), None)
            value = (worst if diverged else None) if epoch is None else series[epoch - (at == "before_drop")]
        elif isinstance(at, int):
            value = (worst if at <= longest else None) if len(series) < at else series[at - 1]
        elif at == "last":
            value = worst if diverged else series[-1]
        else:
            value = max(series) if at == "best" else min(series)
        if value is not None:
            values[seed] = value
    return values


def epochs_to(spec: dict, rows: list[dict]) -> tuple[str, str]:
    """Is the mean paired difference in epochs, until a stated accuracy is reached, within `between`?

    reach: the accuracy, as a fraction of the best that the other's run reaches. A run that never does counts one epoch
    more than the longest has.
    """
    reported = [row for row in rows if row["stage"] == "report"]
    longest = max((row["epoch"] for row in reported), default=0)
    parts = []
    for label, other in itertools.product(_listed(spec["of"]), _listed(spec["minus"])):
        ours, theirs = (by_seed(select(reported, label=name), spec["column"]) for name in (label, other))
        differences = []
        for seed in ours.keys() & theirs.keys():
            goal = spec["reach"] * max(value for value in theirs[seed] if math.isfinite(value))
            epochs = [next((n for n, value in enumerate(series, 1) if value >= goal), longest + 1)
                      for series in (ours[seed], theirs[seed])]  # fmt: skip
            differences.append(epochs[0] - epochs[1])
        name = f"{label} - {other}, epochs to {spec['reach']:.0%} of {other}'s best"
        parts.append(Part(name, differences, spec["between"]))
    return _judged(parts)


def equal_budget(spec: dict, rows: list[dict]) -> tuple[str, str]:
    """At an equal number of settings tried, is the difference of the best test accuracies within `between`?

    The number is the smallest grid's; the best of so many settings is expected over all choices from a grid. A
    difference for each seed that selected.
    """
    tries = [grid_scores(select(rows, seed=seed)) for seed in sorted({row["seed"] for row in rows})]
    parts = []
    for label in _listed(spec["of"]):
        differences, k = [], 0
        for tried in tries:
            compared = [tried.get(name) for name in (label, *_listed(spec["minus"]))]
            if all(compared):
                k = min(map(len, compared))
                ours, *others = (expected_best(values, k) for values in compared)
                differences.append(ours - max(others))
        parts.append(Part(f"{label}, best of {k} settings, seeds that selected", differences, spec["between"]))
    return _judged(parts)


def gain(spec: dict, rows: list[dict]) -> tuple[str, str]:
    """Is an entry's mean gain between two epochs (`epochs`) within `between`?"""
    first, last = spec["epochs"]
    series = by_seed([row for row in select(rows, label=spec["of"]) if row["stage"] == "report"], spec["column"])
    gains = [values[last - 1] - values[first - 1] for values in series.values() if len(values) >= last]
    return _judged([Part(f"{spec['of']} from epoch {first} to {last}", gains, spec["between"])])


class Part(NamedTuple):
    """One of the comparisons that a claim consists of."""

    name: str
    differences: list[float]  # one a seed; none if it was not run
    between: list[float | None]


def _judged(parts: list[Part]) -> tuple[str, str]:
    if not any(part.differences for part in parts):
        return NOT_RUN, "no run"
    found = [within(part.differences, part.between, len(parts)) if part.differences else (NOT_RUN, "no such run")
             for part in parts]  # fmt: skip
    texts = [f"{part.name}: {text}" for part, (_, text) in zip(parts, found, strict=True)]
    return combined([verdict for verdict, _ in found]), "; ".join(texts)


def _listed(value) -> list:
    return value if isinstance(value, list) else [value]


TESTS = {test.__name__: test for test in (difference, epochs_to, equal_budget, gain)}
