"""Heatmaps of a grid, for figures 4 to 6: a column for each learning rate, a row for each grid entry and gamma."""

import numpy as np
import pandas as pd

from analysis import names, style

Row = tuple[str, float | None]  # a grid entry and its gamma
NONE = -1.0  # stands for no gamma


def values(cells: pd.DataFrame, column: str, rows: list[Row], lrs: list[float]) -> np.ndarray:
    """[rows, lrs]: the mean of a column over each cell; NaN where nothing was run."""
    means = cells.assign(gamma=cells["gamma"].fillna(NONE)).groupby(["entry", "gamma", "initial_lr"])[column].mean()
    wanted = pd.MultiIndex.from_tuples([(entry, NONE if gamma is None else gamma) for entry, gamma in rows])
    return means.astype(float).unstack("initial_lr").reindex(index=wanted, columns=lrs).to_numpy()


def panel(axes, data: np.ndarray, rows: list[Row], lrs: list[float], low: float, high: float, shown, name=None):
    """Draw a heatmap with its labels. shown(row, column): a cell's text; name(entry, gamma): a row's name."""
    mesh = style.heatmap(axes, data, low, high, shown)
    axes.set_xticklabels([f"{lr:g}" for lr in lrs], rotation=45 if len(lrs) > 5 else 0)
    axes.set_yticklabels([(name or row_name)(*row) for row in rows])
    return mesh


def row_name(entry: str, gamma: float | None, alone: bool = False) -> str:
    """A row's gamma, with the optimizer's name unless it is PowerSGD; alone: the gamma is the only one."""
    name = "" if entry == "powersgd" else names.entry(entry)
    return name if gamma is None or (alone and name) else f"{name} γ {gamma:g}".strip()
