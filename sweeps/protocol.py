"""The tuning protocol of section 4.1, as functions of scores: which setting is chosen, which lr is tried next.

The paper: "The settings of hyper-parameters that can achieve the best performance on the test set are chosen. When
two settings achieve similar test performance, the setting which converges faster is adopted." And for the adaptive
methods: "we would try the learning rate between the best learning rate and its closest neighbor ... until
performance could not be improved any more."
"""

import math
from dataclasses import dataclass
from statistics import mean


@dataclass(frozen=True)
class Score:
    """A setting's runs over the selecting seeds: mean best accuracy, mean epochs to most of it."""

    setting: tuple  # (path, value) pairs
    accuracy: float
    epochs: float


def score(setting: tuple, runs: list[list[float]], reach: float) -> Score:
    """From the accuracy of each epoch, of each run. Epochs count from 1; an empty run scores 0 and never arrives."""
    best = [max(run, default=0.0) for run in runs]
    return Score(setting, mean(best), mean(_arrival(run, reach) for run in runs))


def _arrival(run: list[float], reach: float) -> float:
    """The first epoch with at least `reach` of the best accuracy (a collapsed run has that of its last at once)."""
    return next((epoch for epoch, value in enumerate(run, start=1) if value >= reach * max(run)), math.inf)


def choose(scores: list[Score], similar: float) -> tuple[Score, str]:
    """The chosen score and the reason. Accuracies within `similar` of the highest are similar; the fastest wins.

    Raises ValueError without scores.
    """
    ordered = sorted(scores, key=lambda s: -s.accuracy)  # stable: of equals the first of the grid
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


def refine(tried: list[float], best: float) -> list[float]:
    """The learning rates to try next around the best: [] when nothing is left.

    Between it and its closest neighbour (or, when that leaves nothing new, the other one): the value of one
    significant digit near their geometric mean. If it is the end of the grid, also one beyond, by the ratio of the
    last two.
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


def one_digit(value: float) -> float:
    """Rounded to one significant digit: 2.236e-4 to 2e-4."""
    return float(f"{value:.0e}")


def spelled(setting: tuple) -> str:
    return ", ".join(f"{path.removeprefix('optimizer.')} {value:g}" for path, value in setting) or "the only setting"
