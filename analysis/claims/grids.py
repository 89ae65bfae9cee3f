"""Tests of claims about a whole grid of gamma and lr (figures 5 and 6), from the best value of each run.

Each is (spec, rows) -> (verdict, evidence), as in claims.py. settings: which rows; column, and best: max or min; lr and
gamma: the part of the grid that it speaks of. Which cell is best is decided by the means, differences are by seed. A
grid of which a cell is missing gives no verdict: that cell might be the best.
"""

import math
from statistics import mean

import numpy as np

from analysis.records import select
from analysis.verdicts import INCONCLUSIVE, MIXED, NOT_REPRODUCED, NOT_RUN, REPRODUCED, combined, within

Grid = dict[tuple[float, float], dict[int, float]]  # by (lr, gamma): the best value of each seed


def grid(spec: dict, rows: list[dict]) -> Grid:
    """A run that never gave a finite value counts as the worst possible, which `worst` of the claim may say."""
    better, worst = (max, 0.0) if spec["best"] == "max" else (min, spec.get("worst", math.inf))
    found: Grid = {}
    for row in select(rows, **spec["settings"]):
        seeds = found.setdefault((row["initial_lr"], row["gamma"]), {})
        value = row[spec["column"]]
        seeds[row["seed"]] = better(seeds.get(row["seed"], worst), value if math.isfinite(value) else worst)
    return found


def planned(spec: dict) -> set[tuple[float, float]]:
    """The cells that the experiment's plan has, whether they ran or not."""
    return {(run["initial_lr"], run["gamma"]) for run in select(spec.get("planned", []), **spec["settings"])}


def contrast(spec: dict, rows: list[dict]) -> tuple[str, str]:
    """A sum of cells with signs, paired over seeds, lies within `between`: terms: [[sign, lr, gamma], ...]."""
    cells = grid(spec, rows)
    parts = [(sign, cells.get((lr, gamma), {})) for sign, lr, gamma in spec["terms"]]
    seeds = set.intersection(*(set(values) for _, values in parts))
    if not seeds:
        return NOT_RUN, "no run" if not cells else "a cell that it needs is missing"
    return within([sum(sign * values[seed] for sign, values in parts) for seed in sorted(seeds)], spec["between"])


def best_cells(spec: dict, rows: list[dict]) -> tuple[str, str]:
    """The best cell below gamma 1 against the best of the rows of `than`: the difference lies within `between`."""
    cells = grid(spec, rows)
    ours = {cell: values for cell, values in cells.items() if cell[1] < 1}
    than = spec | {"settings": spec["settings"] | spec["than"]}
    theirs = grid(than, rows)
    if not ours or not theirs:
        return NOT_RUN, "no run" if not ours else f"no run of {spec['than']}"
    missing = (planned(spec) - cells.keys()) | (planned(than) - theirs.keys())
    if missing:
        return NOT_RUN, f"{len(missing)} cells are missing"
    (cell, top), (_, other) = (_best(spec, cells) for cells in (ours, theirs))
    differences = [top[seed] - other[seed] for seed in sorted(top.keys() & other.keys())]
    if not differences:
        return NOT_RUN, "no seed in common"
    verdict, text = within(differences, spec["between"])
    return verdict, f"lr {cell[0]:g} γ {cell[1]:g}: {text}"


def whole(test):
    """A test of all cells that the claim speaks of: (spec, cells, their common seeds) -> (verdict, evidence)."""

    def judged(spec: dict, rows: list[dict]) -> tuple[str, str]:
        cells = grid(spec, rows)
        gammas = {gamma for _, gamma in {*cells, *planned(spec)}} | {1.0, *np.atleast_1d(spec.get("gamma", []))}
        wanted = {(lr, gamma) for lr in spec["lr"] for gamma in gammas}
        if not cells or not wanted <= set(cells):
            return NOT_RUN, f"{len(wanted - set(cells))} cells are missing" if cells else "no run"
        seeds = sorted(set.intersection(*(set(cells[cell]) for cell in wanted)))
        return test(spec, {cell: cells[cell] for cell in wanted}, seeds) if seeds else (NOT_RUN, "no seed in common")

    judged.__name__ = test.__name__
    return judged


@whole
def without_loss(spec: dict, cells: Grid, seeds: list[int]) -> tuple[str, str]:
    """With its best lr, every gamma of the range comes within `loss` of the best cell."""
    found, inside = {}, _inside(spec, cells)
    for gamma in inside:
        column = {cell: values for cell, values in cells.items() if cell[1] == gamma}
        losses = _losses(spec, cells, _best(spec, column)[1], seeds)
        found[gamma] = within(losses, [None, spec["loss"]], len(inside))
    text = "; ".join(f"γ {gamma:g} {text}" for gamma, (_, text) in found.items())
    verdicts = [verdict for verdict, _ in found.values()]  # the best gamma loses nothing, so "mixed" would say nothing
    verdict = NOT_REPRODUCED if NOT_REPRODUCED in verdicts else combined(verdicts)
    return verdict, f"loss (threshold {spec['loss']}) {text}"


@whole
def robust(spec: dict, cells: Grid, seeds: list[int]) -> tuple[str, str]:
    """Over the learning rates the values of the range's gammas spread less, and their worst is better, than others'.

    The worst counts, too, because a gamma that never learns anything spreads least of all.
    """
    inside, gammas = _inside(spec, cells), {gamma for _, gamma in cells}
    sign = 1 if spec["best"] == "max" else -1
    spreads, worsts = [], []
    for seed in seeds:
        columns = {gamma: [sign * cells[lr, gamma][seed] for lr in spec["lr"]] for gamma in gammas}
        groups = [[columns[g] for g in gammas if (g in inside) == chosen] for chosen in (True, False)]
        spread, worst = ([mean(map(of, group)) for group in groups] for of in (lambda v: max(v) - min(v), min))
        spreads.append(spread[0] - spread[1])
        worsts.append(worst[0] - worst[1])
    parts = within(spreads, [None, 0], 2), within(worsts, [0, None], 2)
    text = f"inside less outside the range: mean spread {parts[0][1]}; mean of the worst {parts[1][1]}"
    return combined([verdict for verdict, _ in parts]), text + ("" if sign == 1 else " (the loss with a minus)")


@whole
def wider(spec: dict, cells: Grid, seeds: list[int]) -> tuple[str, str]:
    """From the first lr to the last, more and more gammas below 1 are better than gamma 1 by more than `margin`.

    Judged by the last less the first; mixed if the mean number falls on the way.
    """
    sign = 1 if spec["best"] == "max" else -1
    counts = {
        lr: [sum(sign * (cells[lr, gamma][seed] - cells[lr, 1.0][seed]) > spec["margin"]
                 for rate, gamma in cells if rate == lr) for seed in seeds]
        for lr in spec["lr"]
    }  # fmt: skip
    first, last = counts[spec["lr"][0]], counts[spec["lr"][-1]]
    verdict, text = within([b - a for a, b in zip(first, last, strict=True)], [0, None])
    means = [mean(values) for values in counts.values()]
    if verdict == REPRODUCED and means != sorted(means):
        verdict = MIXED
    useful = ", ".join(f"{number:.1f} at lr {lr:g}" for lr, number in zip(counts, means, strict=True))
    return verdict, f"useful gammas: {useful}; last less first {text}"


@whole
def good_default(spec: dict, cells: Grid, seeds: list[int]) -> tuple[str, str]:
    """At most of the learning rates (three of four) the gamma comes within `loss` of that lr's best."""
    found = {}
    for lr in spec["lr"]:
        row = {cell: values for cell, values in cells.items() if cell[0] == lr}
        found[lr] = within(_losses(spec, row, cells[lr, spec["gamma"]], seeds), [None, spec["loss"]], len(spec["lr"]))
    text = f"loss (threshold {spec['loss']}) " + "; ".join(f"lr {lr:g} {text}" for lr, (_, text) in found.items())
    verdicts = [verdict for verdict, _ in found.values()]
    if verdicts.count(REPRODUCED) >= 0.75 * len(verdicts):
        return REPRODUCED, text
    return (NOT_REPRODUCED if verdicts.count(NOT_REPRODUCED) > 0.25 * len(verdicts) else INCONCLUSIVE), text


def _inside(spec: dict, cells: Grid) -> list[float]:
    least, most = spec["gamma"]
    return sorted({gamma for _, gamma in cells if least <= gamma <= most})


def _best(spec: dict, cells: Grid) -> tuple[tuple[float, float], dict[int, float]]:
    choose = max if spec["best"] == "max" else min
    return choose(cells.items(), key=lambda item: mean(item[1].values()))


def _losses(spec: dict, cells: Grid, values: dict[int, float], seeds: list[int]) -> list[float]:
    """How far the values stay behind the best of the cells, by seed."""
    _, top = _best(spec, cells)
    return [(top[seed] - values[seed]) * (1 if spec["best"] == "max" else -1) for seed in seeds]


TESTS = {test.__name__: test for test in (contrast, best_cells, without_loss, robust, wider, good_default)}
