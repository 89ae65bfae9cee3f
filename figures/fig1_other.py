"""Figure 1's first epochs at each optimizer's chosen setting and at the other finalist of its grid."""

import pandas as pd

from analysis import names, style
from analysis.records import only
from analysis.statistics import t_interval
from analysis.tables import interval, markdown

from .recipe import Figure, missing

EPOCHS = 1, 3, 5  # whose mean train accuracy the claims compare


def make(epochs: pd.DataFrame, provenance: dict) -> dict:
    title = f"# The first epochs at other learning rates, tier {provenance['tier']}"
    speeds = mean_accuracy(epochs)
    return {
        "figure1a_early_other": draw(speeds, epochs, provenance),
        "figure1ab_early_other.md": f"{title}\n\n{table(speeds)}{missing(provenance)}",
    }


def mean_accuracy(epochs: pd.DataFrame) -> pd.DataFrame:
    """A row a run: its setting, and the mean train accuracy after EPOCHS."""
    about = ["label", "optimizer", "initial_lr", "gamma", "run"]
    found = epochs[epochs["epoch"].isin(EPOCHS)]
    return found.groupby(about, sort=False, dropna=False)["train_acc"].mean().reset_index()


def draw(speeds: pd.DataFrame, epochs: pd.DataFrame, provenance: dict):
    figure, axes = style.plt.subplots(figsize=(6.4, 4.4), layout="constrained")
    optimizers = list(speeds["optimizer"].unique())
    for other, (text, marker) in enumerate({"chosen setting": "o", "other finalist": "s"}.items()):
        colour, _ = style.nth(other)
        for place, optimizer in enumerate(optimizers):
            runs = only(speeds, label=f"{optimizer}-other" if other else optimizer)
            if runs.empty:
                continue
            x, (mean, low, high) = place + 0.2 * other - 0.1, t_interval(runs["train_acc"])
            axes.errorbar(x, mean, [[mean - low], [high - mean]], color=colour, marker=marker, capsize=3, label=text)
            text = None  # once in the legend
            beside = {"ha": "left" if other else "right", "fontsize": 7, "color": colour}
            axes.annotate(setting(runs.iloc[0]), (x, high), (0, 3), textcoords="offset points", **beside)
    axes.set_xticks(range(len(optimizers)), [names.optimizer(name) for name in optimizers])
    axes.set_xlim(-0.6, len(optimizers) - 0.4)
    axes.set_ylabel("mean train accuracy after epochs 1, 3 and 5")
    task = names.task(epochs["model"].iloc[0], epochs["dataset"].iloc[0])
    figure.suptitle(f"{task}, first epochs{style.reduced(provenance)}: mean and 95 % interval", fontsize=10)
    style.stamp(figure, provenance, legend=axes)
    return figure


def setting(run: pd.Series) -> str:
    return f"lr {run['initial_lr']:g}" + ("" if pd.isna(run["gamma"]) else f", γ {run['gamma']:g}")


def table(speeds: pd.DataFrame) -> str:
    lines = []
    for label, runs in speeds.groupby("label", sort=False):
        first = runs.iloc[0]
        kind = "other finalist" if str(label).endswith("-other") else "chosen"
        gamma = "" if pd.isna(first["gamma"]) else f"{first['gamma']:g}"
        lines.append([names.optimizer(first["optimizer"]), kind, f"{first['initial_lr']:g}", gamma, str(len(runs)),
                      interval(runs["train_acc"])])  # fmt: skip
    return markdown(["optimizer", "setting", "lr", "gamma", "seeds", "mean train accuracy, epochs 1, 3, 5"], lines)


FIGURES = {"fig1ab_early_other": Figure(__doc__, make, "fig1ab_early_other", "laptop")}
