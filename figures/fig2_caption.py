"""What was tried around figure 2's caption (PowerSGD, lr 0.1, gamma 0.4): how far each run came, and how it ended."""

import functools

import numpy as np
import pandas as pd

from analysis import style
from analysis.paper import reference
from analysis.records import RUN, last
from analysis.tables import markdown

from . import grid
from .recipe import Figure, missing


def make(stem: str, title: str, epochs: pd.DataFrame, provenance: dict) -> dict:
    return {f"{stem}.md": f"# {title}, tier {provenance['tier']}\n\n{tried(epochs)}{missing(provenance)}"}


def make_grid(stem: str, title: str, epochs: pd.DataFrame, provenance: dict) -> dict:
    return {stem: draw(epochs, provenance)} | make(stem, title, epochs, provenance)


def tried(epochs: pd.DataFrame) -> str:
    """A line for each setting: how far each seed got, and whether its first layer's gradient became exactly 0."""
    lines = []
    for _, chosen in epochs.groupby("setting", sort=False):
        runs = [run for _, run in chosen.groupby(RUN, sort=False)]
        first = chosen.iloc[0]
        gamma = "" if pd.isna(first["gamma"]) else f"{first['gamma']:g}"
        accuracies = " ".join(f"{run['train_acc'].max():.4f}" for run in runs)
        ends = " ".join(end(run.iloc[-1]) for run in runs)
        lines.append([first["label"], f"{first['initial_lr']:g}", gamma, first["init"], accuracies, ends])
    return markdown(["what", "lr", "gamma", "init", "best train accuracy of each seed", "ends"], lines)


def end(epoch: pd.Series) -> str:
    if not np.isfinite(epoch["train_loss"]):
        return f"diverged in {epoch['epoch']}"
    return f"{'dead in' if epoch['grad_norm1'] == 0 else 'alive at'} {epoch['epoch']}"


def draw(epochs: pd.DataFrame, provenance: dict):
    """The last epoch's train accuracy, mean over the seeds; a row for each gamma, a column for each learning rate."""
    lrs, rows = provenance["axes"]["initial_lr"][::-1], provenance["entries"]
    data = grid.values(last(epochs), "train_acc", rows, lrs)
    figure, axes = style.plt.subplots(figsize=(len(lrs) + 1, 1.4 + 0.28 * max(len(rows), 8)))
    grid.panel(axes, data, rows, lrs, 0, 1, lambda row, column: f"{data[row, column]:.2%}")
    stated = next(entry for entry in reference()["figure2"] if entry["optimizer"] == "powersgd")
    title = f"train accuracy of the last epoch, mean over seeds\n(paper, lr {stated['lr']:g} γ {stated['gamma']:g}: "
    axes.set(xlabel="learning rate", ylabel="γ")
    axes.set_title(f"{title}{stated['train_acc']:.2%})", fontsize=8)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    style.stamp(figure, provenance)
    return figure


FIGURES = {
    "fig2_caption": Figure(
        "What was tried to make figure 2's caption (PowerSGD, lr 0.1) train.",
        functools.partial(make, "figure2_caption", "Figure 2's caption, varied"), "fig2_caption",
    ),
    "fig2_caption_seeds": Figure(
        "Figure 2's caption taken literally, with each initialisation and ten seeds.",
        functools.partial(make, "figure2_caption_seeds", "Figure 2's caption, ten seeds"), "fig2_caption_seeds",
    ),
    "fig2_grid": Figure(
        "Figure 2's network around the setting that reaches its number: is that special to lr 0.01?",
        functools.partial(make_grid, "figure2_grid", "Figure 2's network by lr and gamma"), "fig2_grid",
    ),
}  # fmt: skip
