"""Figure 6: train loss of ResNet-50 on CIFAR-10 by gamma, curves at each lr and a heatmap of the best."""

import math

import numpy as np
import pandas as pd

from analysis import names, style
from analysis.records import best, curves, only

from . import grid
from .fig5 import own
from .recipe import Figure

GUESSING = math.log(10)  # the loss of equal probabilities for ten classes


def make(epochs: pd.DataFrame, provenance: dict) -> dict:
    found = cells(epochs)
    table = found.drop(columns="entry").rename(columns={"initial_lr": "lr"})
    return {"figure6": draw(epochs, found, provenance), "figure6.csv": table}


def cells(epochs: pd.DataFrame) -> pd.DataFrame:
    """A row for each setting: the lowest running train loss of an epoch of its runs, mean over the seeds."""
    runs = best(epochs, "train_loss", lowest)
    further = [entry.removeprefix(label) for entry, label in zip(runs["entry"], runs["label"], strict=True)]
    runs = runs.assign(optimizer=runs["optimizer"] + further)
    settings = runs.groupby(["entry", "optimizer", "initial_lr", "gamma", "setting"], sort=False, dropna=False)
    found = settings["train_loss"].agg(seeds="size", best_train_loss="mean").reset_index().drop(columns="setting")
    keys = {"other": found["optimizer"] != "powersgd", "optimizer": found["optimizer"], "lr": -found["initial_lr"],
            "gamma": found["gamma"].fillna(0)}  # fmt: skip
    return found.loc[pd.DataFrame(keys).sort_values([*keys], kind="stable").index]


def lowest(losses: pd.Series) -> float:
    """The lowest loss, at most that of guessing, which also stands for runs that diverged in their first epoch."""
    return min([*losses[np.isfinite(losses)], GUESSING])


def draw(epochs: pd.DataFrame, found: pd.DataFrame, provenance: dict):
    """A small panel for each row of the grid, with a line for each learning rate; beside them the best as a heatmap."""
    lrs, rows = provenance["axes"]["initial_lr"][::-1], provenance["entries"]
    columns = 3 if len(rows) <= 9 else 4
    lines = -(-len(rows) // columns)
    figure = style.plt.figure(figsize=(11, max(1.5 * lines + 1.4, 4)), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(7, 4))  # pyright: ignore[reportGeneralTypeIssues]
    panels = style.listed(left.subplots(lines, columns, sharex=True, sharey=True, squeeze=False))
    top = max((epochs["train_loss"][np.isfinite(epochs["train_loss"])].max(), GUESSING))
    for axes, row in zip(panels, rows, strict=False):
        for index, lr in enumerate(lrs):
            chosen = only(epochs, entry=row[0], initial_lr=lr, gamma=row[1])
            if not chosen.empty:
                style.curves(axes, curves(chosen, "train_loss"), f"lr {lr:g}", *style.nth(index))
        axes.set_title(named(*row), fontsize=9, pad=2)
    for axes in panels[len(rows) :]:
        axes.set_axis_off()
    panels[0].set_yscale("log")
    panels[0].set_ylim(top=1.05 * top)
    style.log_axis(panels[0].yaxis)
    left.supylabel("train loss (running)", fontsize=9)
    left.supxlabel("epoch", fontsize=9)
    handles = {label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    shown = [f"lr {lr:g}" for lr in lrs if f"lr {lr:g}" in handles]
    left.legend([handles[label] for label in shown], shown, loc="outside upper center", ncols=6)
    heat = right.subplots()
    data = grid.values(found, "best_train_loss", rows, lrs)
    grid.panel(heat, -data, rows, lrs, -GUESSING, np.nanmax(-data),  # dark is low
                      lambda row, column: f"{data[row, column]:.2f}", named)  # fmt: skip
    heat.set(xlabel="learning rate")
    heat.set_title("lowest train loss, mean over seeds (dark: low)", fontsize=9)
    task = names.task(epochs["model"].iloc[0], epochs["dataset"].iloc[0])
    figure.suptitle(task + style.reduced(provenance), fontsize=10)
    style.stamp(figure, provenance)
    return figure


def named(entry: str, gamma: float | None) -> str:
    return f"γ {gamma:g}" if own(entry) == "powersgd" and gamma is not None else grid.row_name(own(entry), gamma)


FIGURES = {"fig6": Figure(__doc__, make, "fig6", "laptop")}
