"""Figure 7: train loss and test accuracy with and without warm restarts, ResNet-50 on CIFAR-10.

Restarts leave a 160-epoch run ten epochs into a hot cycle, so best and last epoch are both in the table.
"""

import pandas as pd

from analysis import names, style
from analysis.paper import FIGURE7, reference
from analysis.records import best, curves, last
from analysis.tables import interval, markdown

from .recipe import Figure, reported

DASHES = {"step": "-", "warm_restarts": "--", "cosine": ":"}  # a cosine's schedule is one long cycle of warm_restarts


def make(epochs: pd.DataFrame, provenance: dict) -> dict:
    epochs = reported(epochs, provenance)
    text = f"# Figure 7, tier {provenance['tier']}\n\n{table(epochs)}"
    return {"figure7": draw(epochs, provenance), "figure7.md": text}


def draw(epochs: pd.DataFrame, provenance: dict):
    optimizers, count = list(epochs["optimizer"].unique()), epochs["entry"].nunique()
    figure, (loss, accuracy) = style.plt.subplots(1, 2, figsize=(9, 3.8 + 0.1 * count), layout="constrained")
    paper = {FIGURE7[one["optimizer"], one["schedule"]]: one["best_test_acc"] for one in reference()["figure7"]}
    for entry, chosen in epochs.groupby("entry", sort=False):
        name, top = names.entry(str(entry)), best(chosen, "test_acc")["test_acc"].mean()
        stated = paper.get(str(chosen["label"].iloc[0]))
        text = f"{name}, best test {top:.2%}" + (f" (paper {stated:.2%})" if stated else "")
        colour, _ = style.nth(optimizers.index(chosen["optimizer"].iloc[0]))
        schedule = "cosine" if str(entry).endswith("-cosine") else chosen["schedule"].iloc[0]
        look = {"colour": colour, "dash": DASHES.get(schedule, "-."), "band": count <= 4}
        style.curves(loss, curves(chosen, "train_loss"), name, **look)
        style.curves(accuracy, curves(chosen, "test_acc"), text, **look)
        if stated and provenance["tier"] == "paper":  # a smaller tier is not comparable with the paper's numbers
            style.paper_line(accuracy, stated, f"paper, {name}: {100 * stated:.2f} %")
    loss.set(xlabel="epoch", ylabel="train loss (running)", title="train loss")
    lowest = min(line.get_ydata().min() for line in loss.lines)
    if lowest > 0:
        loss.set_ylim(bottom=lowest / 2)  # a band may reach 0
    style.log_axis(loss.yaxis)
    accuracy.set(xlabel="epoch", ylabel="test accuracy", title="test accuracy")
    task = names.task(epochs["model"].iloc[0], epochs["dataset"].iloc[0])
    figure.suptitle(f"{task}{style.reduced(provenance)}: with warm restarts (R) and without", fontsize=10)
    style.stamp(figure, provenance, legend=accuracy)
    return figure


def table(epochs: pd.DataFrame) -> str:
    lines = []
    for entry, chosen in epochs.groupby("entry", sort=False):
        first = chosen.iloc[0]
        gamma = "" if pd.isna(first["gamma"]) else f"{first['gamma']:g}"
        columns = (best(chosen, "train_loss", "min")["train_loss"], last(chosen)["train_loss"],
                   best(chosen, "test_acc")["test_acc"], last(chosen)["test_acc"])  # fmt: skip
        lines.append([names.optimizer(str(entry)), f"{first['initial_lr']:g}", gamma, str(len(columns[0])),
                      *map(interval, columns)])  # fmt: skip
    header = ["", "lr", "gamma", "seeds", "lowest train loss", "last train loss", "best test accuracy",
              "last test accuracy"]  # fmt: skip
    return markdown(header, lines)


FIGURES = {"fig7": Figure(__doc__, make, "fig7", "laptop")}
