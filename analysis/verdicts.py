"""The verdicts, and the judgement of a mean over seeds by its interval."""

import math
from statistics import mean

from analysis.statistics import t_interval

LEAST_SEEDS = 3
REPRODUCED, NOT_REPRODUCED, MIXED = "reproduced", "not reproduced", "mixed"
INCONCLUSIVE, NOT_RUN, NOT_TESTABLE = "inconclusive", "not run", "not testable"


def within(values: list[float], between: list[float | None], parts: int = 1) -> tuple[str, str]:
    """Does the mean over seeds lie between the bounds (null: no bound)? Its 95 % interval decides.

    parts: of how many such parts the claim consists. One alone refutes it, and of many one lies outside by chance, so
    what refutes is the interval at the level 1 - 0.05 / parts (Bonferroni).
    """
    if len(values) < LEAST_SEEDS:
        return INCONCLUSIVE, f"{mean(values):+.4f} over {len(values)} of at least {LEAST_SEEDS} seeds"
    least = -math.inf if between[0] is None else between[0]
    most = math.inf if between[1] is None else between[1]
    if not all(map(math.isfinite, values)):  # a run that diverged at once: no interval, but it may be clear
        text = f"{', '.join(f'{value:+.4f}' for value in values)} over {len(values)} seeds"
        if all(least < value < most for value in values):
            return REPRODUCED, text
        return (NOT_REPRODUCED if all(value <= least or value >= most for value in values) else INCONCLUSIVE), text
    average, low, high = t_interval(values)
    text = f"{average:+.4f} [{low:+.4f}, {high:+.4f}] over {len(values)} seeds"
    if least < low and high < most:
        return REPRODUCED, text
    _, low, high = t_interval(values, 1 - 0.05 / parts)
    return (NOT_REPRODUCED if high <= least or low >= most else INCONCLUSIVE), text


def combined(verdicts: list[str]) -> str:
    """Of a claim in several parts: all must hold, so one that does not refutes it; if another does, it is mixed."""
    if NOT_REPRODUCED in verdicts:
        return MIXED if REPRODUCED in verdicts else NOT_REPRODUCED
    if len(set(verdicts)) == 1:
        return verdicts[0]
    return NOT_RUN if NOT_RUN in verdicts else INCONCLUSIVE
