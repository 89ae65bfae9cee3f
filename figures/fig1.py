"""Figure 1: train and test accuracy of each optimizer's chosen setting, two panels for each network.

a c e g i: running train accuracy; b d f h j: test accuracy, the best of each optimizer annotated. At the laptop tier
the first epochs on all images are a figure of their own.
"""

import functools

import pandas as pd

from analysis import names, style
from analysis.paper import best_test_acc
from analysis.records import EXPERIMENTS, best, last, parts
from analysis.statistics import t_interval
from analysis.tables import interval, markdown

from .recipe import Figure, missing, so_far


def make(train: str, test: str, regime: str, epochs: pd.DataFrame, provenance: dict) -> dict:
    epochs = so_far(epochs)
    task = names.task(epochs["model"].iloc[0], epochs["dataset"].iloc[0])
    title = f"# Figure 1({train}, {test}){regime.replace('_', ', ')}: {task}, tier {provenance['tier']}"
    seeds = max((runs["seed"].unique().tolist() for _, runs in epochs.groupby("entry")), key=len)  # of one entry
    shown = provenance | {"seeds": sorted(seeds), "shown": epochs["run"].nunique()}
    return {
        f"figure1{train}{regime}": draw(epochs, shown, "train_acc", f"({train}) {task}"),
        f"figure1{test}{regime}": draw(epochs, shown, "test_acc", f"({test}) {task}"),
        f"figure1{train}{test}{regime}.md": f"{title}\n\n{table(epochs)}{preliminary(epochs)}{missing(provenance)}",
    }


def draw(epochs: pd.DataFrame, provenance: dict, column: str, title: str):
    """Mean curves; beside them, on the same axis, each optimizer's best epoch with its 95 % interval."""
    test, early = column == "test_acc", provenance["experiment"].endswith("_early")
    paper = best_test_acc(epochs["dataset"].iloc[0], epochs["model"].iloc[0]) if not early else {}  # after all epochs
    count = epochs["entry"].nunique()
    shape = {"figsize": (5.7 if count <= 6 else 6.8, 5.3), "width_ratios": (3, 0.2 * max(count, 6))}
    figure, (axes, ends) = style.plt.subplots(1, 2, sharey=True, layout="constrained", **shape)
    labels = []
    for index, (entry, chosen) in enumerate(epochs.groupby("entry", sort=False)):
        colour, dash = style.nth(index)
        top = best(chosen, column)[column]
        labels.append(names.tick(str(entry)))
        stated = paper.get(str(chosen["label"].iloc[0])) if test else None
        beside = (f" (paper {stated:.2%})" if stated else "") if is_chosen(chosen) else " so far"
        text = f", best {top.mean():.2%}" * test + beside
        series, each = parts(chosen, column)
        style.curves(axes, series, names.entry(str(entry)) + text, colour, dash, parts=each, band=False)
        mean, low, high = t_interval(top)
        ends.errorbar(index, mean, [[mean - low], [high - mean]], color=colour, marker="o", markersize=4, capsize=2)
        if stated and provenance["tier"] == "paper":  # a smaller tier is not comparable with the paper's numbers
            ends.plot(index, stated, "D", color="none", markeredgecolor="black", markersize=5)
    axes.set(xlabel="epoch", ylabel="test accuracy" if test else "train accuracy (running)")
    ends.set_xticks(range(len(labels)), labels, rotation=90)
    ends.set_title("best epoch, 95 % interval" + "; ◇ paper" * (test and provenance["tier"] == "paper"), fontsize=8)
    state = "" if is_chosen(epochs) else ", preliminary"
    figure.suptitle(title + ", first epochs" * early + style.reduced(provenance) + state, fontsize=10)
    style.stamp(figure, provenance, legend=axes)
    return figure


def table(epochs: pd.DataFrame) -> str:
    """Each optimizer's chosen setting, with its best and last test accuracy over the seeds."""
    lines = []
    for entry, chosen in epochs.groupby("entry", sort=False):
        first = chosen.iloc[0]
        gamma = "" if pd.isna(first["gamma"]) else f"{first['gamma']:g}"
        values = best(chosen, "test_acc")["test_acc"], last(chosen)["test_acc"], best(chosen, "train_acc")["train_acc"]
        lines.append([names.optimizer(str(entry)), f"{first['initial_lr']:g}", gamma, str(len(values[0])),
                      *map(interval, values)])  # fmt: skip
    header = ["optimizer", "lr", "gamma", "seeds", "best test accuracy", "last test accuracy", "best train accuracy"]
    return markdown(header, lines)


def preliminary(epochs: pd.DataFrame) -> str:
    """What the table says about the entries whose setting the protocol has not chosen yet."""
    entries = [names.optimizer(str(entry)) for entry in epochs[epochs["stage"] != "report"]["entry"].unique()]
    if not entries:
        return ""
    return f"\nPreliminary: the best setting so far, from its selecting seeds, of {', '.join(entries)}.\n"


def is_chosen(epochs: pd.DataFrame) -> bool:
    return bool((epochs["stage"] == "report").all())


def pair(experiment: str) -> Figure:
    train, test = experiment[-2:]
    also = ("fig1", f"fig1{train}", f"fig1{test}")
    return Figure(__doc__, functools.partial(make, train, test, ""), experiment, "laptop", also)


def early(experiment: str) -> Figure:
    about = "The first five epochs of figure 1 on all images: train and test accuracy at the settings chosen for it."
    return Figure(about, functools.partial(make, *experiment[-2:], "_early"), f"{experiment}_early", "laptop")


FIGURES = {experiment: pair(experiment) for experiment in names.PANELS}
FIGURES |= {f"{name}_early": early(name) for name in names.PANELS if (EXPERIMENTS / f"{name}_early.yaml").exists()}
