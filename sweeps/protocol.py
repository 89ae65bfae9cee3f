"""The tuning protocol of section 4.1 as functions of scores: which setting is chosen, and which lr is tried next.

The paper: "The settings of hyper-parameters that can achieve the best performance on the test set are chosen. When
two settings achieve similar test performance, the setting which converges faster is adopted." And for the adaptive
methods: "we would try the learning rate between the best learning rate and its closest neighbor ... until
performance could not be improved any more."
"""

import math
from dataclasses import dataclass
from statistics import mean
from typing import Any


@dataclass(frozen=True)
class Score:
    """A setting's result over the selecting seeds: mean best accuracy, and mean epochs to reach most of it."""

    setting: tuple  # (path, value) pairs
    accuracy: float
    epochs: float
    seeds: int = 1


def score(setting: tuple, runs: list[list[float]], reach: float) -> Score:
    """The score from each run's accuracy by epoch. Epochs count from 1; an empty run scores 0 after infinite epochs."""
    best = [max(run, default=0.0) for run in runs]
    return Score(setting, mean(best), mean(_arrival(run, reach) for run in runs), len(runs))


def _arrival(run: list[float], reach: float) -> float:
    """The first epoch with at least `reach` of the run's best accuracy (in a collapsed run that may be the first)."""
    return next((epoch for epoch, value in enumerate(run, start=1) if value >= reach * max(run)), math.inf)


def choose(scores: list[Score], similar: float) -> tuple[Score, str]:
    """The chosen score and the reason. Among accuracies within `similar` of the highest, the fastest is chosen.

    Raises ValueError without scores.
    """
    ordered = sorted(scores, key=lambda s: -s.accuracy)  # stable: among equals the first in the grid
    top = ordered[0]
    # 1e-12: 0.941 and 0.940 are 0.001 apart on paper, not in floats.
    close = [s for s in ordered if top.accuracy - s.accuracy <= similar + 1e-12]
    chosen = min(close, key=lambda s: s.epochs)
    if len(close) == 1:
        behind = f"; the next has {ordered[1].accuracy:.4f}" if len(ordered) > 1 else ""
        return chosen, f"highest accuracy, {top.accuracy:.4f}{behind}"
    if chosen is top:
        return chosen, f"highest accuracy, {top.accuracy:.4f}, and the fastest of {len(close)} similar settings"
    return chosen, (
        f"similar to the highest accuracy ({chosen.accuracy:.4f} against {top.accuracy:.4f} of {spelled(top.setting)}) "
        f"and faster ({chosen.epochs:g} epochs against {top.epochs:g})"
    )


def finalists(scores: list[Score], number: int) -> list[tuple]:
    """The settings with the highest accuracies, so many of them; of equal ones the first in the grid."""
    return [score.setting for score in sorted(scores, key=lambda score: -score.accuracy)[:number]]


def refine(tried: list[float], best: float) -> list[float]:
    """The learning rates to try next around the best one; [] if none is left.

    Between it and its closest neighbour (or the other one, if that gives nothing new): their geometric mean, rounded to
    one significant digit. If the best is at the end of the grid, also one value beyond, by the ratio of the last two.
    """
    ordered = sorted(set(tried))
    at = ordered.index(best)
    beside = ordered[max(at - 1, 0) : at] + ordered[at + 1 : at + 2]
    neighbours = sorted(beside, key=lambda lr: abs(math.log(lr / best)))
    between = (one_digit(math.sqrt(best * neighbour)) for neighbour in neighbours)
    proposed = [lr for lr in between if lr not in ordered][:1]
    if len(neighbours) == 1:
        beyond = one_digit(best * best / neighbours[0])
        proposed += [beyond] if beyond not in ordered else []
    return proposed


def neighbours(tried: list[tuple], best: tuple) -> list[tuple]:
    """The settings to try next so that the best is not at the edge of the grid: its untried neighbours along each axis.

    A neighbour has the next value among all settings tried. Beyond the last value it is one step further: a learning
    rate by the ratio of the last two, rounded to 1, 2, 3 or 5 times a power of ten; gamma by their difference, within
    [0, 1]. An axis with a single value is not extended. This is not in the paper.
    """
    proposed = []
    for axis, (path, value) in enumerate(best):
        values = sorted({setting[axis][1] for setting in tried})
        if len(values) < 2 or not path.endswith(("lr", "gamma")):
            continue
        at = values.index(value)
        below = values[at - 1] if at else _further(path, value, values[1])
        above = values[at + 1] if at + 1 < len(values) else _further(path, value, values[-2])
        beside = [(*best[:axis], (path, one), *best[axis + 1 :]) for one in (below, above) if one is not None]
        proposed += [setting for setting in beside if setting not in tried]
    return proposed


def _further(path: str, end: float, before: float) -> float | None:
    if path.endswith("gamma"):
        gamma = round(2 * end - before, 6)
        return gamma if 0 <= gamma <= 1 else None
    lr = end * end / before
    powers = [digit * 10.0**exponent for exponent in (math.floor(math.log10(lr)),) for digit in (1, 2, 3, 5, 10)]
    return float(f"{min(powers, key=lambda one: abs(math.log(one / lr))):.0e}")


def one_digit(value: float) -> float:
    """Rounded to one significant digit: 2.236e-4 gives 2e-4."""
    return float(f"{value:.0e}")


def spelled(setting: tuple) -> str:
    words = (f"{path.removeprefix('optimizer.')} {_word(value)}" for path, value in setting)
    return ", ".join(words) or "the only setting"


def _word(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
