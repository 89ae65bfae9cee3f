"""Beside figure 5: PowerSGD and steps along the gradient with its lengths, epoch by epoch, at the same gamma and lr."""

import functools

import pandas as pd

from analysis import names, style
from analysis.records import NoRecords, best, curves, only
from analysis.tables import interval, markdown

from .recipe import Figure, missing

PEER = "powersgd"
DRAWN = [(0.1, 0.2), (0.1, 0.6), (0.01, 0.2), (0.01, 0.6)]  # lr and gamma, of more settings; the table has all
SHOWN = {"train_acc": "train accuracy (running)", "test_acc": "test accuracy"}


def make(name: str, epochs: pd.DataFrame, provenance: dict) -> dict:
    if not present(epochs):
        raise NoRecords("PowerSGD, with which the others are compared, was not run")
    title = f"# PowerSGD's step lengths along the gradient, tier {provenance['tier']}"
    pictures = {f"{name}_{model}": draw(only(epochs, model=model), provenance) for model in present(epochs)}
    return pictures | {f"{name}.md": f"{title}\n\n{table(epochs)}{missing(provenance)}"}


def present(epochs: pd.DataFrame) -> list[str]:
    """The networks with which PowerSGD was run."""
    return [model for model in names.NETWORKS if not only(epochs, model=model, optimizer=PEER).empty]


def settings(epochs: pd.DataFrame) -> list[tuple[float, float]]:
    """Each (lr, gamma) at which PowerSGD was run."""
    found = only(epochs, optimizer=PEER)[["initial_lr", "gamma"]].drop_duplicates()
    return list(found.sort_values(["initial_lr", "gamma"], ascending=[False, True]).itertuples(index=False, name=None))


def draw(epochs: pd.DataFrame, provenance: dict):
    """A column for each lr and gamma, train above test accuracy."""
    found = settings(epochs)
    cells = found if len(found) <= len(DRAWN) else [cell for cell in found if cell in DRAWN] or found[: len(DRAWN)]
    optimizers = list(epochs["optimizer"].unique())
    figure, panels = style.plt.subplots(2, len(cells), figsize=(2.7 * len(cells) + 0.6, 5.6), sharex=True, sharey="row",
                                        squeeze=False, layout="constrained")  # fmt: skip
    for column, (lr, gamma) in enumerate(cells):
        for axes, (shown, label) in zip(panels[:, column], SHOWN.items(), strict=True):
            for optimizer in optimizers:
                runs = only(epochs, initial_lr=lr, optimizer=optimizer)
                runs = runs[runs["gamma"].isna() | (runs["gamma"] == gamma)]  # steps of length lr have no gamma
                if not runs.empty:
                    colour, dash = style.nth(optimizers.index(optimizer))
                    style.curves(axes, curves(runs, shown), names.optimizer(optimizer), colour, dash)
            if column == 0:
                axes.set_ylabel(label)
        panels[0, column].set_title(f"lr {lr:g}, γ {gamma:g}")
        panels[1, column].set_xlabel("epoch")
    for row in panels:  # bands of two or three seeds leave the range of accuracies
        row[0].set_ylim(0, 0.02 + max(line.get_ydata().max() for axes in row for line in axes.lines))
    task = names.task(epochs["model"].iloc[0], epochs["dataset"].iloc[0])
    figure.suptitle(f"{task}{style.reduced(provenance)}: PowerSGD's step lengths along the gradient", fontsize=10)
    style.stamp(figure, provenance, legend=panels[0, 0])
    return figure


def table(epochs: pd.DataFrame) -> str:
    """Each setting's accuracies, and how far its mean train accuracy is from PowerSGD's, on average over the epochs."""
    lines, shown = [], set()
    for model in present(epochs):
        for lr, gamma in settings(only(epochs, model=model)):
            cell = only(epochs, model=model, initial_lr=lr)
            cell = cell[(cell["gamma"] == gamma) | (cell["gamma"].isna() & ~cell["setting"].isin(shown))]
            shown |= set(cell["setting"])
            peer = mean_curve(only(cell, optimizer=PEER))
            for optimizer, runs in cell.groupby("optimizer", sort=False):
                power = "" if runs["gamma"].isna().all() else f"{gamma:g}"
                apart = f"{(mean_curve(runs) - peer).abs().mean():.3f}" if power and optimizer != PEER else ""
                lines.append([names.NETWORKS[model], f"{lr:g}", power, names.optimizer(str(optimizer)),
                              str(runs["run"].nunique()), interval(best(runs, "train_acc")["train_acc"]),
                              interval(best(runs, "test_acc")["test_acc"]), apart])  # fmt: skip
    header = ["", "lr", "gamma", "optimizer", "seeds", "best train accuracy", "best test accuracy",
              "train curve's mean distance from PowerSGD's"]  # fmt: skip
    return markdown(header, lines)


def mean_curve(runs: pd.DataFrame) -> pd.Series:
    """Mean train accuracy over the seeds, by epoch."""
    return runs.groupby("epoch")["train_acc"].mean()


FIGURES = {
    "fig5_lengths": Figure(__doc__, functools.partial(make, "figure5_lengths"), "fig5_controls", "laptop"),
    "fig1ab_early_lengths": Figure(
        "The same in figure 1(a, b)'s first epochs, at the settings chosen for either",
        functools.partial(make, "figure1ab_early_lengths"), "fig1ab_early_lengths", "laptop",
    ),
}  # fmt: skip
