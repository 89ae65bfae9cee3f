"""Tests of claims about a whole grid of gamma and lr (figures 5 and 6), from the best value of each run.

Each is (spec, rows) -> (verdict, evidence), as in claims.py. settings: which rows; column, and best: max or min.
"""

import math
from statistics import mean

from .records import select
from .verdicts import INCONCLUSIVE, LEAST_SEEDS, NOT_REPRODUCED, NOT_RUN, REPRODUCED, within

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


def contrast(spec: dict, rows: list[dict]) -> tuple[str, str]:
    """A sum of cells with signs, paired over seeds, lies within `between`: terms: [[sign, lr, gamma], ...]."""
    cells = grid(spec, rows)
    parts = [(sign, cells.get((lr, gamma), {})) for sign, lr, gamma in spec["terms"]]
    seeds = set.intersection(*(set(values) for _, values in parts))
    if not seeds:
        return NOT_RUN, "no run" if not cells else "a cell that it needs is missing"
    return within([sum(sign * values[seed] for sign, values in parts) for seed in sorted(seeds)], spec["between"])


def best_cells(spec: dict, rows: list[dict]) -> tuple[str, str]:
    """The best cell below gamma 1, by its mean, against the best of the rows of `than`: the difference in `between`."""
    ours = {cell: values for cell, values in grid(spec, rows).items() if cell[1] < 1}
    theirs = grid(spec | {"settings": spec["than"]}, rows)
    if not ours or not theirs:
        return NOT_RUN, "no run of " + " and ".join(
            settings["optimizer"] for settings, found in ((spec["settings"], ours), (spec["than"], theirs)) if not found
        )
    best = max if spec["best"] == "max" else min
    top, other = (best(cells.values(), key=lambda values: mean(values.values())) for cells in (ours, theirs))
    seeds = sorted(top.keys() & other.keys())
    if not seeds:
        return NOT_RUN, "no seed in common"
    return within([top[seed] - other[seed] for seed in seeds], spec["between"])


def averaged(test):
    """A test of the cells' means: (spec, means by (lr, gamma)) -> (holds, evidence)."""

    def judged(spec: dict, rows: list[dict]) -> tuple[str, str]:
        cells = grid(spec, rows)
        wanted = {(lr, gamma) for lr in spec["lr"] for gamma in {gamma for _, gamma in cells}}
        if not cells or not wanted <= set(cells):
            return NOT_RUN, f"{len(wanted - set(cells))} cells are missing" if cells else "no run"
        seeds = min(len(cells[cell]) for cell in wanted)
        holds, text = test(spec, {cell: mean(cells[cell].values()) for cell in wanted})
        if seeds < LEAST_SEEDS:
            return INCONCLUSIVE, f"{text}; {seeds} of at least {LEAST_SEEDS} seeds"
        return (REPRODUCED if holds else NOT_REPRODUCED), text

    judged.__name__ = test.__name__
    return judged


@averaged
def without_loss(spec: dict, means: dict) -> tuple[bool, str]:
    """With its best lr, every gamma of the range comes within `loss` of the best cell."""
    top = max(means.values())
    losses = {gamma: top - max(value for (_, g), value in means.items() if g == gamma)
              for gamma in _between(means, spec["gamma"])}  # fmt: skip
    text = "loss by gamma: " + ", ".join(f"{gamma:g} {loss:.4f}" for gamma, loss in losses.items())
    return max(losses.values()) <= spec["loss"], f"{text} (threshold {spec['loss']})"


def robust(spec: dict, rows: list[dict]) -> tuple[str, str]:
    """The mean spread over the learning rates is smaller for the gammas of the range than for the others, by seed."""
    cells = grid(spec, rows)
    gammas = sorted({gamma for _, gamma in cells})
    wanted = [(lr, gamma) for lr in spec["lr"] for gamma in gammas]
    if not cells or not set(wanted) <= set(cells):
        return NOT_RUN, "a cell that it needs is missing" if cells else "no run"
    differences = []
    for seed in set.intersection(*(set(cells[cell]) for cell in wanted)):
        spreads = {}
        for gamma in gammas:
            values = [cells[lr, gamma][seed] for lr in spec["lr"]]
            spreads[gamma] = max(values) - min(values)
        inside = [spread for gamma, spread in spreads.items() if spec["gamma"][0] <= gamma <= spec["gamma"][1]]
        outside = [spread for gamma, spread in spreads.items() if not spec["gamma"][0] <= gamma <= spec["gamma"][1]]
        differences.append(mean(inside) - mean(outside))
    if not differences:
        return NOT_RUN, "no seed has all cells"
    verdict, text = within(differences, [None, 0])
    return verdict, f"mean spread inside less outside the range: {text}"


@averaged
def wider(spec: dict, means: dict) -> tuple[bool, str]:
    """At each smaller lr no fewer gammas come within `factor` of that lr's lowest value, and at the last more."""
    counts = []
    for lr in spec["lr"]:
        values = [value for (rate, _), value in means.items() if rate == lr]
        counts.append(sum(value <= spec["factor"] * min(values) for value in values if math.isfinite(value)))
    text = "useful gammas: " + ", ".join(f"{n} at lr {lr:g}" for n, lr in zip(counts, spec["lr"], strict=True))
    return counts == sorted(counts) and counts[-1] > counts[0], f"{text} (within {spec['factor']} x the lowest)"


@averaged
def good_default(spec: dict, means: dict) -> tuple[bool, str]:
    """At most of the learning rates (three of four) the gamma comes within `loss` of that lr's best."""
    losses = {lr: max(value for (rate, _), value in means.items() if rate == lr) - means[lr, spec["gamma"]]
              for lr in spec["lr"]}  # fmt: skip
    text = "loss by lr: " + ", ".join(f"{lr:g} {loss:.4f}" for lr, loss in losses.items())
    return sum(loss <= spec["loss"] for loss in losses.values()) >= 0.75 * len(losses), (
        f"{text} (threshold {spec['loss']})"
    )


def _between(means: dict, bounds: list[float]) -> list[float]:
    return sorted({gamma for _, gamma in means if bounds[0] <= gamma <= bounds[1]})


TESTS = {test.__name__: test for test in (contrast, best_cells, without_loss, robust, wider, good_default)}
