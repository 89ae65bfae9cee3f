"""Figure 5: best test accuracy on CIFAR-10 by gamma and lr, PowerSGD with SGDM's row beside it, two networks."""

import functools

import pandas as pd

from analysis import names, style
from analysis.paper import reference
from analysis.records import best

from . import grid
from .recipe import Figure

ORDER = {"sgdm": 0, "powersgd": 1}  # of the rows; others come after them


def make(stem: str, epochs: pd.DataFrame, provenance: dict) -> dict:
    found = cells(epochs)
    table = found.drop(columns="entry").rename(columns={"initial_lr": "lr"})
    return {stem: draw(found, provenance), f"{stem}.csv": table}


def cells(epochs: pd.DataFrame) -> pd.DataFrame:
    """A row for each setting: the best test accuracy of its runs, mean over the seeds."""
    runs = best(epochs, "test_acc")
    further = [entry.removeprefix(label) for entry, label in zip(runs["entry"], runs["label"], strict=True)]
    runs = runs.assign(entry=runs["entry"].map(own), optimizer=runs["optimizer"] + further)
    settings = runs.groupby(["model", "entry", "optimizer", "gamma", "initial_lr", "setting"], sort=False, dropna=False)
    found = settings["test_acc"].agg(seeds="size", best_test_acc="mean", least="min", greatest="max")
    return found.reset_index().drop(columns="setting")


def own(entry: str) -> str:
    """A grid entry's name without its network's."""
    network, _, rest = entry.partition("-")
    return rest if network in names.NETWORKS else entry


def draw(found: pd.DataFrame, provenance: dict):
    models = [model for model in names.NETWORKS if (found["model"] == model).any()]
    lrs = provenance["axes"]["initial_lr"][::-1]
    values = found["best_test_acc"]
    rows = list(dict.fromkeys((own(entry), gamma) for entry, gamma in provenance["entries"]))
    rows.sort(key=lambda row: ORDER.get(row[0].partition(",")[0], 2))
    size = (4.3 * len(models) + 1.4, 2 + 0.3 * max(len(rows), 8))
    figure, panels = style.plt.subplots(1, len(models), figsize=size, sharey=True, layout="constrained")
    panels = style.listed(panels)
    for axes, model in zip(panels, models, strict=True):
        part = found[found["model"] == model].assign(half=(found["greatest"] - found["least"]) / 2)
        data, half = (grid.values(part, column, rows, lrs) for column in ("best_test_acc", "half"))
        mesh = grid.panel(axes, data, rows, lrs, values.min(), values.max(),
                          lambda row, column, data=data, half=half: f"{data[row, column]:.1%}"
                          + f" ±{100 * half[row, column]:.1f}" * bool(half[row, column]), grid.row_name)  # fmt: skip
        axes.set(xlabel="learning rate")
        axes.set_title(names.NETWORKS[model] + style.reduced(provenance), fontsize=9)
    panels[0].set_ylabel("γ of PowerSGD (1 is SGD)")
    stated = ", ".join(f"γ {one['gamma']:g} {one['best_test_acc']:.2%}" for one in reference()["figure5"]["stated"])
    title = "best test accuracy on CIFAR-10, mean over seeds ± half their range"
    figure.suptitle(f"{title}\n(the paper, at its scale, lr 0.001: {stated})", fontsize=9)
    style.scale(figure, mesh, panels, "test accuracy")
    style.stamp(figure, provenance)
    return figure


FIGURES = {
    "fig5": Figure(__doc__, functools.partial(make, "figure5"), "fig5", "laptop"),
    "fig5_controls": Figure(
        "Figure 5 for SGD with longer steps along the gradient: is one longer step for all layers enough?",
        functools.partial(make, "figure5_controls"), "fig5_controls", "laptop",
    ),
}  # fmt: skip
