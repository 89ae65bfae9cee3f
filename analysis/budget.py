"""The optimizers of figure 1 compared at an equal number of settings tried.

PowerSGD is tuned over 25 settings and SGDM over 5, both on the test set. The expected best of k settings, drawn from
the grid without replacement, is what each reaches with an equal budget. Settings tried in refinement are left out.
"""

from collections.abc import Collection

import pandas as pd

from analysis import names
from analysis.records import best
from analysis.statistics import expected_best

HEADER = ["optimizer", "settings of the grid", "best of the grid", "of them, tried", "expected best of those",
          "settings of the refinement"]  # fmt: skip


def scores(epochs: pd.DataFrame) -> dict[str, list[float]]:
    """By label: the best test accuracy of each setting of the grid, as a mean over the selecting seeds."""
    runs = best(epochs[epochs["stage"] == "grid"], "test_acc")
    means = runs.groupby(["label", "setting"], sort=False)["test_acc"].mean()
    return {str(label): values.tolist() for label, values in means.groupby(level="label", sort=False)}


def compared(epochs: pd.DataFrame, paper: Collection[str], incomplete: Collection[str] = ()) -> list[list[str]]:
    """Each optimizer with its own number of settings, and with the smallest number that an entry of the paper has.

    incomplete: entries left out, since runs of their grids are missing. Settings beyond the grid count as refinement.
    """
    found = {label: values for label, values in scores(epochs).items() if label not in incomplete}
    budget = min((len(values) for label, values in found.items() if label in paper), default=0)
    refined = epochs[epochs["stage"].isin(("refine", "extend"))].groupby("label")["setting"].nunique()
    return [
        [names.optimizer(label), str(len(values)), f"{max(values):.4f}", str(budget),
         f"{expected_best(values, budget):.4f}", str(refined.get(label, 0))]
        for label, values in found.items()
        if len(values) >= budget > 0
    ]  # fmt: skip
