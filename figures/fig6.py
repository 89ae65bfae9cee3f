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
    """A row a setting: the lowest train loss (running, of an epoch) of its runs, mean over the seeds."""
    runs = best(epochs, "train_loss", lowest)
    further = [entry.removeprefix(label) for entry, label in zip(runs["entry"], runs["label"], strict=True)]
    runs = runs.assign(optimizer=runs["optimizer"] + further)
    settings = runs.groupby(["entry", "optimizer", "initial_lr", "gamma", "setting"], sort=False, dropna=False)
    found = settings["train_loss"].agg(seeds="size", best_train_loss="mean").reset_index().drop(columns="setting")
    keys = {"other": found["optimizer"] != "powersgd", "optimizer": found["optimizer"], "lr": -found["initial_lr"],
            "gamma": found["gamma"].fillna(0)}  # fmt: skip
    return found.loc[pd.DataFrame(keys).sort_values([*keys], kind="stable").index]


def lowest(losses: pd.Series) -> float:
    """At most the loss of guessing: what did not learn, or diverged in its first epoch, is all alike."""
    return min([*losses[np.isfinite(losses)], GUESSING])


def draw(epochs: pd.DataFrame, found: pd.DataFrame, provenance: dict):
    lrs, rows = provenance["axes"]["initial_lr"][::-1], provenance["entries"]
    columns = min(len(lrs) + 1, 5)
    lines = -(-(len(lrs) + 1) // columns)
    figure, panels = style.plt.subplots(lines, columns, figsize=(2.7 * columns, 0.6 + 3.5 * lines))
    *axes_of, heat = style.listed(panels)[: len(lrs) + 1]
    for axes in style.listed(panels)[len(lrs) + 1 :]:
        axes.set_axis_off()
    colours = style.plt.get_cmap("viridis")(np.linspace(0, 0.92, len(rows)))
    for axes, lr in zip(axes_of, lrs, strict=True):
        for (entry, gamma), colour in zip(rows, colours, strict=True):
            chosen = only(epochs, entry=entry, initial_lr=lr, gamma=gamma)
            if not chosen.empty:
                dash = "-" if "powersgd" in entry else "--"
                style.curves(axes, curves(chosen, "train_loss"), named(entry, gamma), colour, dash)
        axes.set(title=f"lr {lr:g}", xlabel="epoch")
        if axes is not axes_of[0]:
            axes.sharey(axes_of[0])
    axes_of[0].set_yscale("log")
    axes_of[0].set_ylim(top=min(axes_of[0].get_ylim()[1], 2 * GUESSING))  # a first epoch may lie far above
    style.log_axis(axes_of[0].yaxis)
    for axes in style.listed(panels)[::columns]:
        axes.set_ylabel("train loss (running)")
    shown = {label: line for axes in axes_of for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    order = [named(*row) for row in rows if named(*row) in shown]
    figure.legend([shown[label] for label in order], order, loc="lower center", ncols=9, fontsize=7,
                  bbox_to_anchor=(0.5, 0.03))  # fmt: skip
    data = -grid.values(found, "best_train_loss", rows, lrs)  # dark is low
    grid.panel(heat, data, rows, lrs, -GUESSING, np.nanmax(data), lambda loss: f"{-loss:.2f}", named)
    heat.set(title="best train loss", xlabel="learning rate")
    task = names.task(epochs["model"].iloc[0], epochs["dataset"].iloc[0])
    figure.suptitle(task + style.reduced(provenance), fontsize=9)
    figure.tight_layout(rect=(0, 0.12 / lines, 1, 1))
    style.stamp(figure, provenance)
    return figure


def named(entry: str, gamma: float | None) -> str:
    return grid.short_name(own(entry), gamma)


FIGURES = {"fig6": Figure(__doc__, make, "fig6", "laptop")}
