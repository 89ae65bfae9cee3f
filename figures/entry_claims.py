"""Tests of claims about grid entries and the settings chosen for them (figures 1 and 7).

Each is (spec, rows) -> (verdict, evidence), as in claims.py. of, minus: labels of grid entries; each of the first
against the best of the second.
"""

import math

import numpy as np

from .records import by_seed, grid_scores, select
from .statistics import expected_best
from .verdicts import NOT_RUN, combined, within


def difference(spec: dict, rows: list[dict]) -> tuple[str, str]:
    """Is the mean paired difference of two grid entries' chosen settings within `between` (null: no bound)?

    column and at: which value of a run, "best", "lowest", "last", "after_drop" (the first epoch after the first drop of
    the learning rate) or an epoch; each of a list counts. Reproduced if the 95 % interval over seeds lies between the
    bounds, not reproduced if it lies outside.
    """
    reported = [row for row in rows if row["stage"] == "report"]
    found = []
    for label in np.atleast_1d(spec["of"]):
        for at in spec["at"] if isinstance(spec["at"], list) else [spec["at"]]:
            ours = _values(reported, label, spec["column"], at)
            others = [_values(reported, other, spec["column"], at) for other in np.atleast_1d(spec["minus"])]
            if not ours or not all(others):
                found.append((NOT_RUN, f"{label} at {at}: no such run"))
                continue
            found.append(_compared(spec, f"{label} at {at}", ours, others))
    return _together(found)


def _values(rows: list[dict], label: str, column: str, at) -> dict[int, float]:
    """The value of each seed's run. A run that diverged before that epoch has the worst there is."""
    worst = 0.0 if column.endswith("acc") else math.inf
    longest = max((row["epoch"] for row in rows), default=0)
    values = {}
    for seed, series in by_seed(select(rows, label=label), column).items():
        series = [value if math.isfinite(value) else worst for value in series]
        diverged = len(series) < longest
        if at == "after_drop":
            lrs = by_seed(select(rows, label=label, seed=seed), "lr")[seed]
            epoch = next((n for n, lr in enumerate(lrs) if lr < lrs[0]), None)
            value = (worst if diverged else None) if epoch is None else series[epoch]
        elif isinstance(at, int):
            value = (worst if at <= longest else None) if len(series) < at else series[at - 1]
        elif at == "last":
            value = worst if diverged else series[-1]
        else:
            value = max(series) if at == "best" else min(series)
        if value is not None:
            values[seed] = value
    return values


def _compared(spec: dict, name: str, ours: dict[int, float], others: list[dict[int, float]]) -> tuple[str, str]:
    best = min if spec["at"] == "lowest" else max
    other = best(others, key=lambda values: sum(values.values()) / len(values))  # the best of them, by its mean
    paired = [ours[seed] - other[seed] for seed in ours if seed in other]
    if not paired:
        return NOT_RUN, f"{name}: no seed in common"
    verdict, text = within(paired, spec["between"])
    return verdict, f"{name}: {text}"


def epochs_to(spec: dict, rows: list[dict]) -> tuple[str, str]:
    """Is the mean paired difference in epochs, until a stated accuracy is reached, within `between`?

    reach: the accuracy, as a fraction of the best that the other's run reaches. A run that never does counts one epoch
    more than the longest has.
    """
    reported = [row for row in rows if row["stage"] == "report"]
    longest = max((row["epoch"] for row in reported), default=0)
    found = []
    for label in np.atleast_1d(spec["of"]):
        for other in np.atleast_1d(spec["minus"]):
            ours, theirs = (by_seed(select(reported, label=name), spec["column"]) for name in (label, other))
            differences = []
            for seed in ours.keys() & theirs.keys():
                goal = spec["reach"] * max(value for value in theirs[seed] if math.isfinite(value))
                epochs = [next((n for n, value in enumerate(series, 1) if value >= goal), longest + 1)
                          for series in (ours[seed], theirs[seed])]  # fmt: skip
                differences.append(epochs[0] - epochs[1])
            if differences:
                verdict, text = within(differences, spec["between"])
                found.append((verdict, f"{label}, epochs to {spec['reach']:.0%} of {other}'s best: {text}"))
            else:
                found.append((NOT_RUN, f"{label} and {other}: no such runs"))
    return _together(found)


def equal_budget(spec: dict, rows: list[dict]) -> tuple[str, str]:
    """At an equal number of settings tried, is the difference of the best test accuracies within `between`?

    The number is the smallest grid's; the best of so many settings is expected over all choices from a grid. A
    difference for each seed that selected.
    """
    tries = [grid_scores(select(rows, seed=seed)) for seed in sorted({row["seed"] for row in rows})]
    found = []
    for label in np.atleast_1d(spec["of"]):
        differences = []
        for tried in tries:
            compared = [tried.get(name) for name in (label, *np.atleast_1d(spec["minus"]))]
            if all(compared):
                k = min(map(len, compared))
                ours, *others = (expected_best(values, k) for values in compared)
                differences.append(ours - max(others))
        if differences:
            verdict, text = within(differences, spec["between"])
            found.append((verdict, f"{label}, best of {k} settings: {text}"))
        else:
            found.append((NOT_RUN, f"{label}: no such runs"))
    return _together(found)


def gain(spec: dict, rows: list[dict]) -> tuple[str, str]:
    """Is an entry's mean gain between two epochs (`epochs`) within `between`?"""
    first, last = spec["epochs"]
    series = by_seed([row for row in select(rows, label=spec["of"]) if row["stage"] == "report"], spec["column"])
    gains = [values[last - 1] - values[first - 1] for values in series.values() if len(values) >= last]
    if not gains:
        return NOT_RUN, f"no run has {last} epochs" if series else "no run"
    verdict, text = within(gains, spec["between"])
    return verdict, f"{spec['of']} from epoch {first} to {last}: {text}"


def _together(found: list[tuple[str, str]]) -> tuple[str, str]:
    if {verdict for verdict, _ in found} == {NOT_RUN}:
        return NOT_RUN, "no run"
    return combined([verdict for verdict, _ in found]), "; ".join(text for _, text in found)


TESTS = {test.__name__: test for test in (difference, epochs_to, equal_budget, gain)}
